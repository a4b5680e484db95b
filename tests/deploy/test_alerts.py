"""Rules and alerts: each is tried in both directions, and an operator can read what to do."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from deploy.grafana.dashboards import DASHBOARDS
from streams.canary.trips import Canary
from streams.cli import app
from streams.metrics import Metrics
from streams.ope.live import Verdicts
from streams.settings import Settings
from streams.trainer.metrics import Told

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus"
RUNBOOK = (DEPLOY / "runbook.md").read_text()


def run(*command: str | Path, given: bytes | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command], input=given, capture_output=True, check=False, timeout=200
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def cases() -> list[tuple[str, bool]]:
    """Alert of each case, and whether it fires."""
    tests = yaml.safe_load((RULES / "alerts_test.yml").read_text())["tests"]
    return [
        (case["alertname"], bool(case["exp_alerts"])) for test in tests for case in test["alert_rule_test"]
    ]


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent() -> None:
    assert {name for name, fires in cases() if fires} == alerts().keys()
    assert {name for name, fires in cases() if not fires} == alerts().keys()


def test_alerts_fire_and_are_silent_as_their_cases_say(promtool: str) -> None:
    done = run(promtool, "test", "rules", RULES / "alerts_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_case_that_expects_another_thing_fails(promtool: str, tmp_path: Path) -> None:
    for name in ("slo.yml", "alerts.yml"):
        (tmp_path / name).write_bytes((RULES / name).read_bytes())
    wrong = yaml.safe_load((RULES / "alerts_test.yml").read_text())
    wrong["tests"] = wrong["tests"][:1]
    wrong["tests"][0]["alert_rule_test"][0]["exp_alerts"] = []
    (tmp_path / "test.yml").write_text(yaml.safe_dump(wrong))
    assert run(promtool, "test", "rules", tmp_path / "test.yml").returncode != 0


def test_prometheus_accepts_its_configuration_with_all_rules(promtool: str) -> None:
    done = run(promtool, "check", "config", RULES / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS: 2 rule files found" in done.stdout
    assert f"SUCCESS: {len(alerts())} rules found" in done.stdout


def test_every_alert_has_a_heading_in_the_runbook_and_leads_to_it() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert sorted(headings) == sorted(alerts())
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook"] == f"deploy/runbook.md#{name.lower()}"


def test_the_runbook_says_of_every_alert_how_soon_what_it_means_where_to_look_and_what_to_do() -> None:
    for name, rule in alerts().items():
        text = re.search(rf"^## {name}\n\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
        assert text is not None, name
        assert text[1].startswith(f"{rule['labels']['severity']}. **Means** "), name
        assert "\n**Look** " in text[1], name
        assert "\n**Do** " in text[1], name


def test_the_runbook_names_only_settings_that_exist() -> None:
    named = {name for name in re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: = [^`]*)?`", RUNBOOK)}
    readiness = {"partitions_restored", "topics_caught_up", "items_encoded", "broker_answers"}
    reasons = {"unknown_action", "null_key", "too_large", "no_candidates", "all_seen"}
    outcomes = {"unknown_slate", "outside_window", "not_in_slate"}
    others = {
        "request_id",
        "slatestream_stage_seconds",
        "slatestream_state_rows",
        "slatestream_ope_effective_slates",
    }
    assert named - readiness - reasons - outcomes - others <= set(Settings.model_fields)


def named_commands() -> set[str]:
    """What the runbook and the dashboards tell to run of ours."""
    texts = [RUNBOOK, *(panel.about for _, panels in DASHBOARDS.values() for panel in panels)]
    return {found for text in texts for found in re.findall(r"`slatestream ([^`]+)`", text)}


@pytest.mark.parametrize("command", sorted(named_commands()))
def test_commands_that_an_operator_is_told_exist(command: str) -> None:
    # Options are read before help is shown, so one that does not exist is an error.
    assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0


def test_the_metrics_of_a_worker_are_as_prometheus_wants_them(promtool: str) -> None:
    metrics = Metrics()
    metrics.set_lag("clicks", 0, records=3, seconds=0.5)
    metrics.set_release("v1", "CPUExecutionProvider", written_s=1.7e9)
    metrics.count_closed([("greedy", [1.0, 0.001], [0.2, 0.1], [1])])
    metrics.count_slates("greedy")
    metrics.count_dead_letters("clicks", "invalid")
    body, _ = metrics.render()
    done = run(promtool, "check", "metrics", given=body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def beside_workers() -> dict[str, CollectorRegistry]:
    """Registries of what tells metrics beside workers, by command."""
    evaluation = CollectorRegistry()
    evaluation.register(Verdicts())
    probe = Canary(Settings(), url=None, timeout_s=1.0, say=print)
    return {"ope": evaluation, "canary": probe.registry, "trainer": Told().registry}


@pytest.mark.parametrize("command", ["ope", "canary", "trainer"])
def test_the_metrics_beside_workers_are_as_prometheus_wants_them(promtool: str, command: str) -> None:
    body = generate_latest(beside_workers()[command])
    assert b"slatestream_" in body
    done = run(promtool, "check", "metrics", given=body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
