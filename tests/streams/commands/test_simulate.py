from pathlib import Path

import numpy as np
import pytest

from model_core.data.datasets import load_recbole
from streams.commands.simulate import simulate_command
from streams.commands.simulate_topics import Visits
from streams.commands.tastes import fit_tastes
from streams.errors import SlatestreamError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Users who give 5 to one genre and 2 to the other."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "small"
    folder.mkdir()
    rows = [
        f"u{user}\ti{item}\t{5 if user % 2 == item % 2 else 2}\t{1_700_000_000 + item}"
        for user, item in zip(*np.nonzero(rng.random((30, 40)) < 0.5), strict=True)
    ]
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (folder / "small.inter").write_text("\n".join([header, *rows]) + "\n")
    items = [f"i{item}\tFilm {item}\t{'Odd' if item % 2 else 'Even'}" for item in range(40)]
    header = "item_id:token\tmovie_title:token_seq\tclass:token_seq"
    (folder / "small.item").write_text("\n".join([header, *items]) + "\n")
    return folder


def test_a_policy_that_there_is_not_is_refused(data: Path, tmp_path: Path):
    with pytest.raises(SlatestreamError, match="policy must be one of reinforce, .* got 'a2c'"):
        simulate_command(data=data, out=tmp_path, policy=["a2c"])


def test_tastes_are_of_the_datasets_users_items_and_genres(data: Path):
    dataset = load_recbole(data)
    tastes = fit_tastes(dataset, seed=0)
    assert tastes.users.shape[0] == 30
    assert tastes.groups.shape == (len(dataset.items), 2)
    assert (tastes.groups.sum(axis=1) == 1.0).all()


def test_figures_of_visits_are_of_the_stretch_that_is_asked_for():
    visits = Visits(clicks=[1, 0, 2], shown=[4, 4, 2], expected=[1.0, 0.5, 1.5], best=[2.0, 1.0, 1.5])
    assert visits.figures(slice(1, 3)) == {
        "slates": 2.0, "click_through": 2 / 6, "expected_clicks": 1.0, "regret": 0.25,
    }  # fmt: skip
    assert visits.figures(slice(0, 0))["click_through"] == 0.0
