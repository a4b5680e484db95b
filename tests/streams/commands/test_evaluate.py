import json
import shutil
import struct
import sys
from pathlib import Path

import pytest

from streams.cli import main
from tests.streams.commands.conftest import SPLIT, write_data


@pytest.fixture(scope="module")
def data(trained: Path) -> Path:
    return trained / "tiny"


@pytest.fixture(scope="module")
def release(trained: Path) -> Path:
    return trained / "release"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["slatestream", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_release_is_measured_where_its_training_ended(
    release: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "figures" / "a.json"
    assert run(monkeypatch, release, "--data", data, "--report", out, "--plots", "--draws", 200) == 0
    found = json.loads(out.read_text())
    wanted = json.loads((release / "manifest.json").read_text())
    assert (found["split"], found["release"]) == (SPLIT, wanted["version"])
    for model, metrics in found["accuracy"].items():
        for metric in ("recall", "ndcg"):
            # The command hides the ids of items that are new at the split, which moves a list or two.
            tolerance = 0.03 if model == "slatestream" else 1e-9
            assert metrics[metric]["mean"] == pytest.approx(
                wanted["metrics"][model][f"{metric}@10"], abs=tolerance
            )
            assert metrics[metric]["low"] <= metrics[metric]["mean"] <= metrics[metric]["high"]
    assert found["accuracy"]["slatestream"]["recall"]["mean"] > 0.2
    assert found["newcomers"] > 0
    assert sum(one["size"] for one in found["by_history"]) == found["users"] + found["newcomers"]
    assert found["by_history"][0]["label"] == "no event"
    assert (found["by_popularity"][0]["label"], found["new_items"]["items"]) == ("new", 4)
    assert {"coverage", "gini", "novelty", "diversity"} == found["beyond"]["slatestream"].keys()
    for name in ("popularity", "history"):
        picture = (out.parent / f"a-recall-by-{name}.png").read_bytes()
        assert struct.unpack(">II", picture[16:24]) == (768, 480)
    shown = capsys.readouterr().out
    for text in ("Recall@10", "above the best baseline", "diversity", "no event", "4 items are first met"):
        assert text in shown


def test_a_later_split_is_allowed_and_an_earlier_one_is_not(
    release: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, release, "--data", data, "--until", 0.9, "--k", 5, "--json", "--draws", 100) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["split"], found["k"]) == (900, 5)
    assert run(monkeypatch, release, "--data", data, "--until", 0.5) == 2
    assert (
        "until must be at least 0.8, got 0.5: the release was trained on 800 of 1000"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"rename": "x"}, "does not know the item 'x"),
        ({"users": 1}, "interactions must come from at least 2 users, got 1"),
        ({"later": 1.0}, "must respond to something both before and after interaction 800, got none"),
    ],
)
def test_data_that_cannot_be_used_ends_with_one_line(
    how: dict[str, object],
    message: str,
    release: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = write_data(tmp_path / "other", **how)  # type: ignore[arg-type]
    assert run(monkeypatch, release, "--data", other) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("slatestream: evaluate: ")
    assert message in last


def test_a_release_that_cannot_be_used_ends_with_one_line(
    release: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = Path(shutil.copytree(release, tmp_path / "broken"))
    (broken / "ranker.onnx").write_bytes(b"")
    for folder, message in (
        (tmp_path / "none", "release must be a folder with a manifest.json, got"),
        (broken, "must have SHA-256"),
    ):
        assert run(monkeypatch, folder, "--data", data) == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith("slatestream: evaluate: release")
        assert message in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "evaluate needs exactly one of --data FOLDER and --from-topics"),
        (("--data", "nowhere", "--plots"), "--plots needs --report FILE"),
        (("--data", "nowhere"), "--data nowhere: no such folder or file"),
        (("--data", "DATA", "--k", "41"), "k must be in [1, 40], got 41"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: tuple[str, ...],
    message: str,
    release: Path,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(data) if word == "DATA" else word for word in arguments]
    assert run(monkeypatch, release, *given) == 2
    assert message in capsys.readouterr().err


def test_the_help_says_what_the_figures_mean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("--from-topics", "--until", "95 %", "how rare they are", "not shown to be better"):
        assert text in shown
