"""What is learned from in a thread: copies kept up to date by what has changed."""

import numpy as np
import pytest

from online_learning.policies.registry import Learning
from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics

DIM = 3
PRIOR = LinearPrior(np.full(DIM, 0.2), feature_space="r")
KINDS = ("thompson", "thompson-logistic", "thompson-disjoint")


def fold(statistics: Statistics, seed: int, n: int = 40) -> None:
    rng = np.random.default_rng(seed)
    rows, arms = rng.normal(size=(n, DIM)), rng.integers(0, 12, n).astype(np.uint64)
    statistics.add_impressions(rows, arms=arms, times_ms=1000 * seed)
    statistics.add_rewards(rows[:9], np.ones(9), arms=arms[:9], times_ms=1000 * seed)


def bring_up_to_date(copy: Statistics, source: Statistics) -> int:
    pieces = 0
    while (piece := source.take_changes(5)) is not None:
        copy.replace(piece)
        pieces += 1
    return pieces


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("half_life_ms", [None, 5000])
def test_a_copy_kept_by_changes_is_the_same_as_what_it_copies(name: str, half_life_ms: int | None) -> None:
    learning = Learning.of(name, PRIOR, half_life_ms=half_life_ms)
    source, copy = learning.empty(), learning.empty()
    for seed in range(4):
        fold(source, seed, n=40 if seed else 9)
        assert bring_up_to_date(copy, source) > 0
        assert copy.to_bytes() == source.to_bytes()
        assert bring_up_to_date(copy, source) == 0
    rest = learning.empty()
    source.touch()
    bring_up_to_date(rest, source)
    assert rest.to_bytes() == source.to_bytes()


@pytest.mark.parametrize("name", KINDS)
def test_what_was_taken_does_not_change_any_more(name: str) -> None:
    source = Learning.of(name, PRIOR).empty()
    fold(source, 1)
    piece = source.take_changes(1000)
    assert piece is not None
    before = piece.to_bytes()
    fold(source, 2)
    assert piece.to_bytes() == before


def test_no_more_arms_are_taken_at_once_than_asked_for() -> None:
    source = Learning.of("thompson-disjoint", PRIOR).empty()
    fold(source, 1)
    sizes = []
    while (piece := source.take_changes(5)) is not None:
        sizes.append(len(piece.arms))  # type: ignore[attr-defined]
    assert sizes == [5, 5, 2]


@pytest.mark.parametrize("name", KINDS)
def test_statistics_loaded_from_rows_or_bytes_count_as_changed(name: str) -> None:
    learning = Learning.of(name, PRIOR)
    source = learning.empty()
    fold(source, 1)
    loaded = learning.read(source.to_bytes())
    copy = learning.empty()
    bring_up_to_date(copy, loaded)
    assert copy.to_bytes() == source.to_bytes()
