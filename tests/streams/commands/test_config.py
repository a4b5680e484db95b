import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.errors import SlatestreamError
from streams.settings import Settings


def run(*arguments: str) -> str:
    """Output of the command, or the message that `slatestream` would end with."""
    done = CliRunner().invoke(app, ["config", *arguments])
    if isinstance(done.exception, SlatestreamError):
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file and variables that give settings, and a variable that wins over the file."""
    path = tmp_path / "slatestream.toml"
    path.write_text('k_default = 20\npinned = ["[a]"]\nseed = 1\n')
    monkeypatch.setenv("SLATESTREAM_SEED", "7")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9093")
    monkeypatch.setenv("SLATESTREAM_SASL_PASSWORD", "hunter2")
    return path


def test_each_setting_says_where_it_comes_from_and_secrets_are_hidden(config: Path) -> None:
    rows = json.loads(run("show", "--json", "--config", str(config)))
    assert rows.keys() == Settings.model_fields.keys()
    told = {name: (rows[name]["value"], rows[name]["from"]) for name in ("k_default", "seed", "max_batch")}
    assert told == {
        "k_default": (20, str(config)),
        "seed": (7, "SLATESTREAM_SEED"),
        "max_batch": (32, "default"),
    }
    assert rows["bootstrap_servers"]["from"] == "KAFKA_BOOTSTRAP_SERVERS"
    shown = run("show", "--config", str(config))
    assert '["[a]"]' in shown
    assert "hunter2" not in shown + json.dumps(rows)
    assert all(row["about"] or name for name, row in rows.items())


def test_only_what_is_changed_or_one_is_shown(config: Path) -> None:
    changed = json.loads(run("show", "--changed", "--json", "--config", str(config)))
    assert changed.keys() == {"k_default", "pinned", "seed", "bootstrap_servers", "sasl_password"}
    one = run("show", "max_queue_ms")
    assert "SLATESTREAM_MAX_QUEUE_MS" in one
    assert "as long as the last batches took" in one
    assert "there is no setting 'queue'" in run("show", "queue")


def test_check_names_every_fault(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("check", "--config", str(config)) == (
        f"the settings are sound: {len(Settings.model_fields)}, of them 5 given\n"
    )
    plain = json.loads(run("check", "--json", "--config", str(config)))
    assert plain == {"sound": True, "settings": len(Settings.model_fields), "given": 5}
    monkeypatch.setenv("SLATESTREAM_RELEASE", "nowhere")
    monkeypatch.setenv("SLATESTREAM_CANDIDATE_POLICIES", '["greedy", "softmax:temperatur=1"]')
    assert run("check").splitlines() == [
        "Bad configuration:",
        "  release: no such file or folder: 'nowhere'",
        "  candidate_policies: options of softmax must be one of temperature as option=value, "
        "got 'temperatur=1' in 'softmax:temperatur=1'",
    ]
    monkeypatch.setenv("SLATESTREAM_SEDE", "7")
    assert run("check") == "no settings: SLATESTREAM_SEDE"
    monkeypatch.setenv("SLATESTREAM_PARTITIONS", "0")
    assert "partitions: must be at least 1, got '0'" in run("check")
