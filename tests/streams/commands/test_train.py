"""`slatestream train` and `tune` as a user runs them, on a folder of their own."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model_core.privacy.config import NOT_COVERED
from model_core.release.folder import read_config, read_release
from model_core.training.recipe import read_recipe
from model_core.training.warm_start import of_member, read_start
from streams.cli import app
from streams.commands.train_text import METRICS
from streams.commands.training_result import beaten_by
from streams.errors import SlatestreamError


def invoke(*arguments: object) -> str:
    """Run a command; an error is raised as the command raises it."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_train_follows_a_recipe_and_draws_curves(trained: Path, tmp_path: Path) -> None:
    out, text = trained / "release", (trained / "said").read_text()
    assert "Recall@10" in text
    said, release = json.loads(text.splitlines()[-1]), read_release(out)
    assert (Path(said["folder"]).name, said["release"]) == ("release", release.version)
    assert said["metrics"] == dict(release.metrics)
    small = json.loads(invoke("compress", out, "--out", tmp_path / "int8", "--json").splitlines()[-1])
    assert (small["folder"], small["precision"]) == (str(tmp_path / "int8"), "int8")
    assert small["bytes"] < small["bytes_before"]
    # The graphs of both networks have been compared with torch, or there would be no release.
    assert release.dim == 2 * 16
    assert (read_config(out).dim, read_config(out).ensemble) == (16, 2)
    start = read_start(out)
    assert start is not None
    assert not of_member(start, 0).weights["ranker.begin"].equal(of_member(start, 1).weights["ranker.begin"])
    manifest = (out / "manifest.json").read_text()
    assert '"seed": 3' in manifest
    assert '"fusion": "gated"' in manifest
    events = next((trained / "curves").glob("events.out.tfevents.*"))
    assert b"loss/later" in events.read_bytes()
    (run,) = (trained / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"loss/later" in run.read_bytes()


def test_a_package_that_is_asked_for_and_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, trained: Path
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SlatestreamError, match=r"--wandb needs .*pip install 'slatestream\[wandb\]'"):
        invoke("train", "--data", trained / "tiny", "--wandb", trained)


def test_tune_writes_a_recipe_that_train_takes(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.toml"
    data = trained / "tiny"
    options = ("tune", "--data", data, "--recipe", trained / "recipe.toml", "--out", out)
    text = invoke(*options, "--trials", 2, "--json")
    assert "Best of all: trial" in text
    assert f"slatestream train --recipe {out} --data {data}" in text
    assert json.loads(text.splitlines()[-1])["recipe"] == str(out)
    assert read_recipe(out).model.history_length == 8
    assert "trial 3" in invoke(*options, "--trials", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tune",), "tune needs exactly one of --data FOLDER and --from-topics"),
        (("train",), "train needs exactly one of --data FOLDER and --from-topics"),
        (
            ("tune", "--data", ".", "--until", "0.5"),
            "--train-until < --until <= 1 must hold, got 0.7 and 0.5",
        ),
        (
            ("train", "--data", "nowhere"),
            "--data nowhere: no such folder or file",
        ),
        (
            ("train", "--data", ".", "--wandb", __file__),
            "--wandb .*test_train.py must be a folder: File exists",
        ),
        (
            ("train", "--data", ".", "--tensorboard", f"{__file__}/curves"),
            "--tensorboard .* must be a folder: Not a directory",
        ),
        (
            ("train", "--data", ".", "--task", "ctr-text", "--wandb", "curves"),
            "--wandb is for --task recommend, got it with --task ctr-text",
        ),
        (
            ("train", "--data", ".", "--recipe", "none.toml"),
            "train: recipe 'none.toml' cannot be read: No such file",
        ),
        (("train", "--data", ".", "--until", "2"), "--until must be above 0 and at most 1, got 2"),
        (("train", "--data", ".", "--epsilon", "0"), "train: epsilon must be above 0, .*, got 0"),
        (("train", "--data", ".", "--epsilon", "nan"), "train: epsilon must be above 0, .*, got nan"),
        (("train", "--data", ".", "--epsilon", "4", "--delta", "1"), "delta must be .* below 1, got 1"),
        (
            ("train", "--data", ".", "--epsilon", "4", "--until", "0.8"),
            "train: --until must not be given with epsilon",
        ),
        (
            ("train", "--data", ".", "--epsilon", "4", "--robust", "0.01"),
            "train: --robust must not be given with epsilon",
        ),
        (
            ("train", "--data", ".", "--epsilon", "4", "--ensemble", "3"),
            "train: --ensemble must not be given with epsilon",
        ),
        (
            ("train", "--data", ".", "--from", "nowhere"),
            "train: release must be a folder with a manifest.json, got 'nowhere'",
        ),
        (
            ("train", "--data", ".", "--from", ".", "--task", "ctr-text"),
            "--from is for --task recommend, got it with --task ctr-text",
        ),
        (
            ("train", "--data", ".", "--robust", "0.01", "--task", "ctr-text"),
            "--robust is for --task recommend, got it with --task ctr-text",
        ),
        (
            ("train", "--data", ".", "--epsilon", "4", "--task", "ctr-text"),
            "--epsilon is for --task recommend, got it with --task ctr-text",
        ),
        (("train", "--data", ".", "--device", "abacus"), "a GPU that is here, got 'abacus'"),
        (("tune", "--data", ".", "--device", "cuda:99"), "a GPU that is here, got 'cuda:99': "),
        (("train", "--data", ".", "--out", __file__), "must be a folder, and is a file"),
        (("train", "--data", ".", "--out", str(Path(__file__).parent)), "must be a release, to be replaced"),
        (("compress", ".", "--out", __file__), "must be a folder, and is a file"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(SlatestreamError, match=message):
        invoke(*arguments)


def test_a_private_release_is_made_and_says_what_it_does_not_cover(trained: Path, tmp_path: Path) -> None:
    options = ("--data", trained / "tiny", "--recipe", trained / "recipe.toml", "--out", tmp_path / "private")
    said = invoke("train", *options, "--epsilon", 4, "--json")
    release = read_release(tmp_path / "private")
    assert release.training["privacy"]["epsilon"] == 4.0
    assert "(4, 1e-05)-differential privacy of all events of one user" in said
    for line in NOT_COVERED:
        assert line in said
    assert json.loads(said.splitlines()[-1])["release"] == release.version


def test_a_text_encoder_made_of_clicks_is_refused_where_epsilon_is_set(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text("{}")
    with pytest.raises(SlatestreamError, match="text_encoder must not be fine-tuned on clicks"):
        invoke("train", "--data", tmp_path, "--text-encoder", tmp_path, "--epsilon", 4)


@pytest.mark.parametrize(
    ("ours", "half_width", "says"),
    [
        (0.3, 0.01, []),
        (0.2, 0.01, []),
        (0.1, 0.01, ["worse than popularity and co-visits, by NDCG@10 of the 12 users held out"]),
        (0.19, 0.05, ["popularity may rank as well as this release"]),
        (0.12, 0.05, ["worse than popularity,", "co-visits may rank as well"]),
        (0.19, None, ["popularity may rank as well"]),
    ],
)
def test_a_release_that_a_simple_model_beats_is_told_of_by_what_is_certain(
    ours: float, half_width: float | None, says: list[str]
) -> None:
    simple = {"popularity": 0.2, "recent popularity": 0.0, "item-kNN": 0.05, "co-visits": 0.15, "EASE": 0.0}
    ndcg = {**simple, "slatestream": ours}
    metrics = {name: {"ndcg@10": value, "users": 12.0} for name, value in ndcg.items()}
    if half_width is not None:
        for name, value in ndcg.items():
            lead = ours - value
            metrics[name] |= {"lead_low": lead - half_width, "lead_high": lead + half_width}
    lines = beaten_by(metrics)
    assert len(lines) == len(says)
    assert all(said in line for said, line in zip(says, lines, strict=True))
