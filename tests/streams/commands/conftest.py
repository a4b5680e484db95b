"""A dataset in RecBole's files, and what `slatestream train` makes of it, once a run."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from streams.cli import app
from tests.once import once_a_run

N_ITEMS, N_EVENTS, SPLIT = 40, 1000, 800
RECIPE = """
[model]
dim = 16
layers = 1
history_length = 8
n_neighbours = 4
n_affinities = 4
feature_dim = 12
fusion = "gated"
ensemble = 2

[train]
epochs = 2
"""


def write_data(folder: Path, *, rename: str = "", users: int = 40, later: float = 5.0) -> Path:
    """Two tastes; a fifth of the users comes after the split, and so do four items."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    for event in range(N_EVENTS):
        late = event >= SPLIT
        user = rng.integers(users if late else max(1, users * 4 // 5))
        item = (rng.integers((N_ITEMS if late else N_ITEMS - 4) // 2) * 2 + user % 2) % N_ITEMS
        rating = later if late else 1 + rng.integers(5)
        lines.append(f"u{user}\t{rename}i{item}\t{rating}\t{1_700_000_000 + 60 * event}")
    (folder / f"{folder.name}.inter").write_text("\n".join(lines) + "\n")
    rows = [f"{rename}i{item}\tItem {item}\tkind{item % 2}" for item in range(N_ITEMS)]
    header = "item_id:token\ttitle:token_seq\tgenre:token_seq"
    (folder / f"{folder.name}.item").write_text("\n".join([header, *rows]) + "\n")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: data `tiny`, `recipe.toml`, the `release` of four fifths, its `curves`, what was `said`."""

    def make(folder: Path) -> None:
        partial = folder.with_name(f"{folder.name}.partial")
        partial.mkdir()
        (partial / "recipe.toml").write_text(RECIPE)
        options = {
            "--data": write_data(partial / "tiny"), "--recipe": partial / "recipe.toml", "--until": 0.8,
            "--seed": 3, "--out": partial / "release", "--tensorboard": partial / "curves",
            "--wandb": partial,
        }  # fmt: skip
        arguments = [str(part) for option in options.items() for part in option]
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["train", *arguments, "--json"])
        if done.exception is not None:
            raise done.exception
        (partial / "said").write_text(done.output)
        partial.rename(folder)

    return once_a_run(tmp_path_factory, "trained-by-command", make)
