from dataclasses import replace
from pathlib import Path

import pytest

from model_core.inputs.corpus import make_corpus
from model_core.network.config import TrainConfig
from model_core.training.recipe import Recipe
from model_core.training.tune import Trial, tune
from tests.model_core.tiny import CONFIG, WEIGHTS, Texts, dataset

BASE = Recipe(model=CONFIG, train=TrainConfig(epochs=1))
N_EVENTS = 400


def search(storage: Path, trials: int, *, split: int = 280, base: Recipe = BASE) -> tuple[Trial, list[Trial]]:
    data = dataset(n_events=N_EVENTS)
    actions = ["like" if rating >= 3 else "view" for rating in data.interactions.ratings]
    corpus = make_corpus(data, actions, WEIGHTS, Texts(), CONFIG.n_neighbours)
    tried: list[Trial] = []
    best = tune(
        corpus, tuple(WEIGHTS.values()), base, storage, split=split, stop=N_EVENTS, trials=trials,
        tried=tried.append,
    )  # fmt: skip
    return best, tried


def test_the_search_starts_at_the_base_goes_on_where_it_ended_and_returns_the_best(tmp_path: Path) -> None:
    storage = tmp_path / "search" / "trials.db"
    first, tried = search(storage, 1)
    assert first.recipe == BASE
    assert [trial.recipe for trial in tried] == [BASE]
    best, more = search(storage, 3)
    assert [trial.number for trial in more] == [1, 2]
    assert all(trial.recipe != BASE for trial in more)
    values = {trial.number: trial.value for trial in tried + more if trial.value is not None}
    assert best.value == max(values.values())
    assert best.recipe == next(trial.recipe for trial in tried + more if trial.number == best.number)
    again, none = search(storage, 3)
    assert none == []
    assert again == best


def test_trials_from_another_start_do_not_count(tmp_path: Path) -> None:
    search(tmp_path / "trials.db", 1)
    other = replace(BASE, train=TrainConfig(epochs=1, dropout=0.3))
    best, tried = search(tmp_path / "trials.db", 1, base=other)
    assert len(tried) == 1
    assert best.recipe == other


def test_nobody_to_judge_by_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="users must have positive items before and after the split"):
        search(tmp_path / "trials.db", 1, split=N_EVENTS)
