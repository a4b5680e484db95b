"""Shapley values against their definition, over all orders of small games."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model_core.explanation import shapley as module
from model_core.explanation.shapley import Shapley, shapley, solve


def random_game(n_outer: int, n_inner: int, seed: int = 0):  # type: ignore[no-untyped-def]
    table = np.random.default_rng(seed).normal(size=(1 << n_outer, 1 << n_inner))

    def values(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        return table[(coalitions * (1 << np.arange(n_outer))).sum(1).astype(np.int64)]

    return table, values


def by_definition(table: NDArray[np.float64], n_outer: int, n_inner: int) -> NDArray[np.float64]:
    added, orders = np.zeros(n_outer + n_inner), 0
    for order in itertools.permutations(range(n_outer + n_inner)):
        orders += 1
        outer = inner = 0
        for player in order:
            before = table[outer, inner]
            if player < n_outer:
                outer |= 1 << player
            else:
                inner |= 1 << (player - n_outer)
            added[player] += table[outer, inner] - before
    return added / orders


def play(n_outer: int, n_inner: int, values, **options) -> Shapley:  # type: ignore[no-untyped-def]
    options = {"rng": np.random.default_rng(0), "tolerance": 0.0} | options
    return solve(shapley(n_outer, n_inner, **options), values)


@settings(max_examples=30)
@given(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1000))
def test_few_players_get_the_values_of_the_definition(n_outer: int, n_inner: int, seed: int) -> None:
    table, values = random_game(n_outer, n_inner, seed)
    found = play(n_outer, n_inner, values)
    np.testing.assert_allclose(found.values, by_definition(table, n_outer, n_inner), atol=1e-12)
    assert found.orders == 0
    assert not found.errors.any()


@settings(max_examples=30)
@given(st.integers(2, 4), st.integers(0, 2), st.integers(0, 1000))
def test_the_mean_over_all_orders_of_the_sampled_kind_is_the_definition(
    n_outer: int, n_inner: int, seed: int
) -> None:
    table, _ = random_game(n_outer, n_inner, seed)
    weights = module._outer_weights(n_outer, n_inner), module._inner_weights(n_outer, n_inner)
    orders = [np.array(order) for order in itertools.permutations(range(n_outer))]
    values = [
        module._of_order(order, table[np.concatenate(([0], np.cumsum(1 << order)))], *weights)
        for order in orders
    ]
    np.testing.assert_allclose(np.mean(values, axis=0), by_definition(table, n_outer, n_inner), atol=1e-12)
    np.testing.assert_allclose(np.sum(values, axis=1), table[-1, -1] - table[0, 0], atol=1e-12)


def test_sampled_values_are_as_far_from_the_definition_as_their_errors_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, values = random_game(6, 2)
    exact = play(6, 2, values)
    monkeypatch.setattr(module, "EXACT_OUTER", 0)
    runs = [play(6, 2, values, rng=np.random.default_rng(seed), budget=240) for seed in range(30)]
    assert all(run.base + run.values.sum() == pytest.approx(run.total, abs=1e-12) for run in runs)
    z = np.array([(run.values - exact.values) / run.errors for run in runs])
    assert abs(z.mean()) < 0.2
    assert 0.7 < (z**2).mean() < 1.4


def test_sampling_ends_at_the_tolerance_or_the_budget_and_not_before_it_knows_the_error() -> None:
    values = random_game(12, 1)[1]
    assert play(12, 1, values, tolerance=np.inf).orders == 16
    loose, tight = play(12, 1, values, tolerance=0.2), play(12, 1, values, tolerance=0.1)
    assert loose.errors.max() <= 0.2
    assert tight.errors.max() <= 0.1
    assert loose.coalitions < tight.coalitions
    assert play(12, 1, values, budget=500).coalitions <= 500


def test_no_more_coalitions_are_asked_for_at_once_than_the_chunk() -> None:
    _, values = random_game(11, 1)
    sizes = []

    def noted(coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        sizes.append(len(coalitions))
        return values(coalitions)

    play(11, 1, noted, chunk=7, tolerance=1.0)
    assert max(sizes) == 7


def test_the_same_seed_gives_the_same_values() -> None:
    _, values = random_game(11, 2)
    first, second = (play(11, 2, values, tolerance=0.3) for _ in range(2))
    np.testing.assert_array_equal(first.values, second.values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_outer": -1}, "n_outer must be at least 0"),
        ({"n_inner": 13}, r"n_inner in \[0, 12\], got 2 and 13"),
        ({"min_pairs": 1}, "min_pairs must be at least 2"),
        ({"tolerance": float("nan")}, "tolerance at least 0"),
    ],
)
def test_arguments_that_break_a_rule_are_named(arguments: dict[str, float], message: str) -> None:
    values = {"n_outer": 2, "n_inner": 1, "rng": np.random.default_rng(0), "tolerance": 0.1} | arguments
    with pytest.raises(ValueError, match=message):
        next(shapley(**values))  # type: ignore[arg-type]
