import numpy as np
import pytest

from online_learning.experiments.summary import SlateColumns, broken_guardrails, summarise

NAMES, WEIGHTS = ["control", "b"], [1.0, 1.0]


def columns(users: list, variants: list, rewards: list, **others: list) -> SlateColumns:
    n = len(users)
    values = {
        "closed": [True] * n, "responses": rewards, "latency_ms": [10.0] * n, "fallback": [False] * n,
        "empty": [False] * n,
    } | others  # fmt: skip
    return SlateColumns(
        users=np.array(users, np.int64),
        variants=np.array(variants, np.int64),
        closed=np.array(values["closed"], np.bool_),
        rewards=np.array(rewards, np.float64),
        responses=np.array(values["responses"], np.float64),
        latency_ms=np.array(values["latency_ms"], np.float64),
        fallback=np.array(values["fallback"], np.bool_),
        empty=np.array(values["empty"], np.bool_),
    )


def test_a_user_counts_once_whatever_the_slates() -> None:
    found = summarise(
        columns([1, 1, 2, 3, 3], [0, 0, 0, 1, 1], [1, 2, 0, 4, 0], closed=[True, True, True, True, False]),
        NAMES, WEIGHTS, alpha=0.05, plan=100,
    )  # fmt: skip
    control, b = found.variants
    assert (control.users, control.slates, control.closed, control.responses) == (2, 3, 3, 3.0)
    assert (b.users, b.slates, b.closed) == (1, 2, 1)
    assert (control.reward_per_user, b.reward_per_user) == (1.5, 4.0)
    assert control.difference is None
    assert b.difference is not None
    assert b.difference.estimate == 2.5
    assert found.crossed == 0


def test_a_user_without_a_closed_slate_is_exposed_but_not_yet_in_the_mean() -> None:
    found = summarise(
        columns([1, 2, 3], [0, 0, 1], [3, 0, 1], closed=[True, False, True]), NAMES, WEIGHTS, alpha=0.05,
        plan=100,
    )  # fmt: skip
    assert (found.variants[0].users, found.variants[0].reward_per_user) == (2, 3.0)


def test_a_lift_is_found_and_alpha_is_shared_among_the_variants_compared() -> None:
    rng = np.random.default_rng(0)
    variants = rng.integers(0, 3, 30_000)
    rewards = (rng.random(30_000) < np.array([0.1, 0.1, 0.14])[variants]).astype(float)
    slates = columns(list(range(30_000)), variants.tolist(), rewards.tolist())
    three = summarise(slates, ["control", "b", "c"], [1, 1, 1], alpha=0.05, plan=20_000)
    assert three.sample_ratio_p > 0.05
    b, c = (variant.difference for variant in three.variants[1:])
    assert b is not None
    assert b.low < 0 < b.high
    assert c is not None
    assert 0 < c.low < 0.04 < c.high
    kept = variants < 2
    two = summarise(
        columns(np.flatnonzero(kept).tolist(), variants[kept].tolist(), rewards[kept].tolist()), NAMES,
        WEIGHTS, alpha=0.05, plan=20_000,
    ).variants[1].difference  # fmt: skip
    assert two is not None
    assert b.high - b.low > two.high - two.low


def test_users_in_two_variants_are_told() -> None:
    assert (
        summarise(columns([1, 1, 2], [0, 1, 1], [0, 0, 0]), NAMES, WEIGHTS, alpha=0.05, plan=9).crossed == 1
    )


def test_an_experiment_without_a_slate_says_nothing() -> None:
    found = summarise(columns([], [], []), NAMES, WEIGHTS, alpha=0.05, plan=9)
    assert found.sample_ratio_p == 1.0
    assert found.variants[1].difference is not None
    assert found.variants[1].difference.high == np.inf
    assert all(np.isnan(value) for value in found.variants[0].guardrails.values())


def test_guardrails_are_of_each_variant_and_broken_above_their_bound() -> None:
    found = summarise(
        columns(
            [1, 2, 3, 4], [0, 0, 1, 1], [0, 0, 0, 0], latency_ms=[10, np.nan, 30, 50],
            fallback=[False, True, False, False], empty=[False, False, True, False],
        ),
        NAMES, WEIGHTS, alpha=0.05, plan=9,
    )  # fmt: skip
    control, b = (variant.guardrails for variant in found.variants)
    assert control == {"latency_p99_ms": 10.0, "fallback_share": 0.5, "empty_share": 0.0}
    assert b == {"latency_p99_ms": pytest.approx(49.8), "fallback_share": 0.0, "empty_share": 0.5}
    bounds = {"latency_p99_ms": 40.0, "empty_share": 0.6}
    assert broken_guardrails(control, bounds) == []
    assert broken_guardrails(b, bounds) == ["latency_p99_ms"]
