"""`slatestream train` and `tune` as a user runs them, on a folder of their own."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from model_core.release.folder import read_release
from model_core.training.recipe import read_recipe
from streams.cli import app
from streams.commands.train import beaten_by
from streams.errors import SlatestreamError

RECIPE = """
[model]
dim = 16
layers = 1
history_length = 8
n_neighbours = 4
n_affinities = 4
feature_dim = 12
fusion = "gated"

[train]
epochs = 2
"""


def invoke(*arguments: object) -> str:
    """Run a command; an error is raised as the command raises it."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*map(str, arguments)])
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two kinds of users, each with their kind of items, in RecBole's files; and a recipe."""
    folder = tmp_path_factory.mktemp("data") / "tiny"
    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for event in range(400):
        user = rng.integers(20)
        item = rng.integers(15) * 2 + user % 2
        rows.append(f"u{user}\ti{item}\t{rng.integers(1, 6)}\t{1_000_000 + 60 * event}")
    (folder / "tiny.inter").write_text("\n".join(rows) + "\n")
    items = ["item_id:token\tmovie_title:token_seq\tclass:token_seq"]
    items += [f"i{item}\tFilm {item}\t{'Comedy' if item % 2 else 'Drama'}" for item in range(30)]
    (folder / "tiny.item").write_text("\n".join(items) + "\n")
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def test_train_follows_a_recipe_and_draws_curves(folder: Path, tmp_path: Path) -> None:
    out, curves = tmp_path / "release", tmp_path / "curves"
    text = invoke(
        "train", "--data", folder, "--recipe", folder / "recipe.toml", "--until", 0.8, "--seed", 3,
        "--out", out, "--tensorboard", curves, "--wandb", tmp_path, "--json",
    )  # fmt: skip
    assert "Recall@10" in text
    said = json.loads(text.splitlines()[-1])
    assert (said["folder"], said["release"]) == (str(out), read_release(out).version)
    assert said["metrics"] == dict(read_release(out).metrics)
    small = json.loads(invoke("compress", out, "--out", tmp_path / "int8", "--json").splitlines()[-1])
    assert (small["folder"], small["precision"]) == (str(tmp_path / "int8"), "int8")
    assert small["bytes"] < small["bytes_before"]
    assert read_release(out).dim == 16
    assert '"seed": 3' in (out / "manifest.json").read_text()
    assert '"fusion": "gated"' in (out / "manifest.json").read_text()
    events = next(curves.glob("events.out.tfevents.*"))
    assert b"loss/later" in events.read_bytes()
    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"loss/later" in run.read_bytes()


def test_a_package_that_is_asked_for_and_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SlatestreamError, match=r"--wandb needs .*pip install 'slatestream\[wandb\]'"):
        invoke("train", "--data", folder, "--wandb", folder)


def test_tune_writes_a_recipe_that_train_takes(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.toml"
    options = ("tune", "--data", folder, "--recipe", folder / "recipe.toml", "--out", out)
    text = invoke(*options, "--trials", 2, "--json")
    assert "Best of all: trial" in text
    assert f"slatestream train --recipe {out} --data {folder}" in text
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
            "train: data must be a folder of RecBole atomic files, got 'nowhere'",
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
        (("train", "--data", ".", "--recipe", "none.toml"), "train: recipe 'none.toml' must be a TOML file"),
        (("train", "--data", ".", "--until", "2"), "--until must be above 0 and at most 1, got 2"),
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
    ndcg = {"popularity": 0.2, "item-kNN": 0.05, "co-visits": 0.15, "slatestream": ours}
    metrics = {name: {"ndcg@10": value, "users": 12.0} for name, value in ndcg.items()}
    if half_width is not None:
        for name, value in ndcg.items():
            lead = ours - value
            metrics[name] |= {"lead_low": lead - half_width, "lead_high": lead + half_width}
    lines = beaten_by(metrics)
    assert len(lines) == len(says)
    assert all(said in line for said, line in zip(says, lines, strict=True))
