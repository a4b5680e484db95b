"""`slatestream train` on texts, as the command line runs it."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from streams.cli import main
from streams.commands import train_text
from tests.tiny_encoder import KINDS, exported, write_tiny_encoder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_encoder(folder)
    return folder


def write_data(folder: Path, *, titles: bool = True, rating: int = 5, rows: int = 800) -> Path:
    """A dataset in RecBole's files, whose users like one kind of title each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for time in range(rows):
        user = int(rng.integers(40))
        lines.append(f"u{user}\t{rng.integers(20) * 3 + user % 3}\t{rating}\t{time}")
    (folder / f"{folder.name}.inter").write_text("\n".join(lines) + "\n")
    if titles:
        items = [f"{item}\t{KINDS[item % 3]} part {item}" for item in range(60)]
        (folder / f"{folder.name}.item").write_text(
            "\n".join(["item_id:token\ttitle:token_seq", *items]) + "\n"
        )
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["slatestream", "train", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def options(task: str, data: Path, tiny: Path, out: Path) -> list[object]:
    return [
        "--task", task, "--data", data, "--text-encoder", tiny, "--out", out, "--max-length", 40,
        "--epochs", 2, "--batch-size", 32, "--learning-rate", 5e-3, "--max-examples", 600,
    ]  # fmt: skip


def test_a_click_classifier_is_trained_measured_exported_and_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny: Path
) -> None:
    out = tmp_path / "out"
    assert run(monkeypatch, *options("ctr-text", write_data(tmp_path / "films"), tiny, out)) == 0
    shown = capsys.readouterr().err
    assert "training loss" in shown
    assert "accuracy" in shown
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["epochs"]) == 2
    assert metrics["test"]["auc"] > 0.6
    assert f"AUC {metrics['test']['auc']:.4f} (popularity alone" in shown
    assert metrics["onnx_difference"] < 1e-4
    assert metrics["negatives"] == "drawn uniformly"
    assert (out / "learning-curve.png").read_bytes().startswith(b"\x89PNG")
    onnx.checker.check_model(onnx.load(out / "classifier.onnx"))
    assert list((out / "tensorboard").iterdir())
    assert not (tmp_path / "out.checkpoint").exists()


def test_a_killed_training_goes_on_and_ends_as_an_uninterrupted_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path
) -> None:
    data = write_data(tmp_path / "films")
    assert run(monkeypatch, *options("text-encoder", data, tiny, tmp_path / "whole")) == 0

    def kill(self: object, stage: str, done: float) -> None:
        if done > 0.6:
            raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(train_text._Bar, "__call__", kill)
        patched.setattr(
            sys,
            "argv",
            ["slatestream", "train", *map(str, options("text-encoder", data, tiny, tmp_path / "k"))],
        )
        with pytest.raises(RuntimeError, match="killed"):
            main()
    assert (tmp_path / "k.checkpoint").is_file()
    assert run(monkeypatch, *options("text-encoder", data, tiny, tmp_path / "k")) == 0
    texts = [f"{kind} part 1" for kind in KINDS]
    vectors = [
        exported(str(tmp_path / name), tmp_path / f"{name}-served").encode(texts) for name in ("whole", "k")
    ]
    np.testing.assert_array_equal(*vectors)
    untrained = exported(str(tiny), tmp_path / "untrained").encode(texts)
    assert np.abs(vectors[0] - untrained).max() > 1e-3


@pytest.mark.parametrize(
    ("data", "changes", "message"),
    [
        ({"titles": False}, [], "items must have texts, got none for 60 items; put an .item file"),
        ({"rating": 2}, [], "the log must hold clicks, got none; a click is label 1, a rating of 4 and more"),
        ({"rows": 0}, [], "films.inter must hold at least one interaction, got none"),
        ({"rows": 12}, [], "part must hold clicks and others"),
        ({}, ["--text-encoder", "/none/such"], "text_encoder must be 'minilm', a folder with a transformer"),
        ({}, ["--max-length", 65], "max_tokens must be in [4, 64] for"),
        ({}, ["--device", "tpu"], "--device must be auto, cpu or a GPU that is here, got 'tpu'"),
    ],
)
def test_bad_input_is_a_message_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny: Path,
    data: dict[str, object],
    changes: list[object],
    message: str,
) -> None:
    folder = write_data(tmp_path / "films", **data)  # type: ignore[arg-type]
    arguments = [*options("ctr-text", folder, tiny, tmp_path / "out"), *changes]
    assert run(monkeypatch, *arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    # A device is refused before any task begins.
    assert "slatestream: train --task ctr-text: " in shown or "--device" in message
    assert "Traceback" not in shown


def test_labels_are_impressions_and_what_was_shown_without_a_click_is_the_negative(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path
) -> None:
    folder = write_data(tmp_path / "films")
    path = folder / "films.inter"
    rows = path.read_text().splitlines()
    labelled = [rows[0] + "\tlabel:float", *(f"{row}\t{int(at % 3 == 0)}" for at, row in enumerate(rows[1:]))]
    path.write_text("\n".join(labelled) + "\n")
    assert (
        run(monkeypatch, *options("ctr-text", folder, tiny, tmp_path / "out"), "--epochs", 1, "--full") == 0
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["negatives"] == "impressions without a click"
    assert sum(metrics["examples"]) < 800
    assert metrics["config"]["lora"] is None


def test_an_option_of_the_other_task_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny: Path
) -> None:
    arguments = options("ctr-text", write_data(tmp_path / "films"), tiny, tmp_path / "out")
    assert run(monkeypatch, *arguments, "--until", 0.5) == 2
    assert "--until is for --task recommend, got it with --task ctr-text" in capsys.readouterr().err
