from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.ope.estimators import LoggedActions, doubly_robust, ips, snips
from online_learning.ope.slates import (
    SLATE_ESTIMATORS,
    LoggedSlates,
    cascade_dr,
    independent_ips,
    pseudo_inverse,
    reward_interaction_ips,
    slate_ips,
)

N_ITEMS, LENGTH = 4, 3
seeds = st.integers(0, 10_000)


def conditionals(weights: np.ndarray, slates: np.ndarray) -> np.ndarray:
    """Return (n, K, A) Plackett-Luce probabilities of each next item, given the slate's items before."""
    left = np.repeat(weights[None], len(slates), axis=0)
    rows, steps = np.arange(len(slates)), []
    for position in range(slates.shape[1]):
        steps.append(left / left.sum(axis=1, keepdims=True))
        left[rows, slates[:, position]] = 0.0
    return np.stack(steps, axis=1)


def of_slates(values: np.ndarray, slates: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, slates[:, :, None], axis=2)[:, :, 0]


class EverySlate:
    """All slates that a Plackett-Luce logging policy can draw, with the chances of it and of a candidate."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.slates = slates = np.array(list(permutations(range(N_ITEMS), LENGTH)))
        logging, self.next = (conditionals(rng.random(N_ITEMS) + 0.2, slates) for _ in range(2))
        self.logged, self.target = of_slates(logging, slates), of_slates(self.next, slates)
        self.chance, self.wanted = self.logged.prod(axis=1), self.target.prod(axis=1)

    def marginals(self, chance: np.ndarray) -> np.ndarray:
        same = self.slates[:, None, :] == self.slates[None, :, :]
        return (same * chance[None, :, None]).sum(axis=1)

    def by_prefix(self, width: int) -> np.ndarray:
        """Return (n, K) random numbers that depend on the items up to each position alone."""
        table = self.rng.normal(size=(LENGTH, *[N_ITEMS] * LENGTH))
        seen = np.where(np.tri(LENGTH, dtype=bool)[:, None], self.slates, 0)  # (K, n, K)
        return np.stack([table[k][tuple(seen[k].T)] for k in range(width)], axis=1)

    def log(self, rewards: np.ndarray, **more: np.ndarray) -> LoggedSlates:
        return LoggedSlates(
            rewards,
            self.target[None],
            self.logged,
            target_marginal=self.marginals(self.wanted)[None],
            marginal=self.marginals(self.chance),
            **more,
        )

    def model(self) -> dict[str, np.ndarray]:
        """Return a model that is wrong, but as a function of the items up to each position."""
        predicted = self.by_prefix(LENGTH)
        expected = np.zeros_like(predicted)
        for row, slate in enumerate(self.slates):
            for k in range(LENGTH):
                for item in range(N_ITEMS):
                    ahead = (self.slates[:, :k] == slate[:k]).all(axis=1) & (self.slates[:, k] == item)
                    if ahead.any():
                        expected[row, k] += self.next[row, k, item] * predicted[ahead.argmax(), k]
        return {"predicted": predicted, "expected": expected[None]}


@given(seed=seeds)
def test_slate_ips_is_unbiased_whatever_rewards_depend_on(seed) -> None:
    every = EverySlate(seed)
    rewards = every.rng.normal(size=every.slates.shape)
    truth = every.wanted @ rewards.sum(axis=1)
    np.testing.assert_allclose(slate_ips(every.log(rewards)).plain[0] @ every.chance, truth, atol=1e-10)


@given(seed=seeds)
def test_the_cascade_estimators_are_unbiased_when_rewards_depend_on_the_items_so_far(seed) -> None:
    every = EverySlate(seed)
    rewards = every.by_prefix(LENGTH)
    log = every.log(rewards, **every.model())
    truth = every.wanted @ rewards.sum(axis=1)
    for estimator in (reward_interaction_ips, cascade_dr):
        np.testing.assert_allclose(estimator(log).plain[0] @ every.chance, truth, atol=1e-10)


@given(seed=seeds)
def test_independent_ips_is_unbiased_when_rewards_depend_on_item_and_position(seed) -> None:
    every = EverySlate(seed)
    table = every.rng.normal(size=(LENGTH, N_ITEMS))
    rewards = table[np.arange(LENGTH), every.slates]
    truth = every.wanted @ rewards.sum(axis=1)
    np.testing.assert_allclose(independent_ips(every.log(rewards)).plain[0] @ every.chance, truth, atol=1e-10)


@given(seed=seeds)
def test_pseudo_inverse_is_that_of_the_second_moments_and_unbiased_for_additive_rewards(seed) -> None:
    rng = np.random.default_rng(seed)
    slates = np.array(list(product(range(N_ITEMS), repeat=LENGTH)))
    positions = np.arange(LENGTH)
    logging, target = (rng.dirichlet(np.full(N_ITEMS, 3.0), LENGTH) + 0.05 for _ in range(2))
    logging, target = (part / part.sum(axis=1, keepdims=True) for part in (logging, target))
    logged, wanted = logging[positions, slates], target[positions, slates]
    chance = logged.prod(axis=1)
    effects = rng.normal(size=(LENGTH, N_ITEMS))[positions, slates].sum(axis=1)
    # The slate's reward is a sum of effects, but which position it is booked at is arbitrary.
    shares = rng.normal(size=slates.shape)
    rewards = shares + (effects - shares.sum(axis=1))[:, None] / LENGTH
    log = LoggedSlates(rewards, wanted[None], logged, target_marginal=wanted[None], marginal=logged)
    plain = pseudo_inverse(log).plain[0]
    indicators = np.eye(N_ITEMS)[slates].reshape(len(slates), -1)
    moments = (indicators * chance[:, None]).T @ indicators
    weights = indicators @ np.linalg.pinv(moments) @ target.ravel()
    np.testing.assert_allclose(plain, weights * effects, atol=1e-8)
    np.testing.assert_allclose(plain @ chance, wanted.prod(axis=1) @ effects, atol=1e-10)


@given(seed=seeds)
def test_slates_of_one_position_are_single_actions(seed) -> None:
    rng = np.random.default_rng(seed)
    n, policies = 30, 2
    rewards, propensities, predicted = rng.normal(size=n), rng.uniform(0.1, 1.0, n), rng.normal(size=n)
    target, expected = rng.random((policies, n)), rng.normal(size=(policies, n))
    single = LoggedActions(rewards, target, propensities, predicted, expected)
    slates = LoggedSlates(
        rewards[:, None],
        target[:, :, None],
        propensities[:, None],
        target_marginal=target[:, :, None],
        marginal=propensities[:, None],
        predicted=predicted[:, None],
        expected=expected[:, :, None],
    )
    for name, estimator in SLATE_ESTIMATORS.items():
        wanted = {"cascade_dr": doubly_robust}.get(name, snips if name.startswith("sn") else ips)
        np.testing.assert_allclose(estimator(slates).values(), wanted(single).values(), atol=1e-12)


@given(seed=seeds)
def test_without_a_model_cascade_dr_is_reward_interaction_ips(seed) -> None:
    every = EverySlate(seed)
    zeros = np.zeros(every.slates.shape)
    log = every.log(every.rng.normal(size=zeros.shape), predicted=zeros, expected=zeros[None])
    np.testing.assert_allclose(cascade_dr(log).plain, reward_interaction_ips(log).plain, atol=1e-12)


@pytest.mark.parametrize("name", SLATE_ESTIMATORS)
def test_what_stands_after_a_slates_end_is_not_read(name: str) -> None:
    rng = np.random.default_rng(3)
    n, short = 20, np.arange(20) % 3 == 0
    shown = np.ones((n, LENGTH), bool)
    shown[short, 1:] = False
    marks = {"rewards": rng.random((n, LENGTH)) * shown, "shown": shown}
    chances = {key: rng.uniform(0.2, 1.0, (n, LENGTH)) for key in ("propensities", "marginal", "predicted")}
    wide = {key: rng.uniform(0.2, 1.0, (2, n, LENGTH)) for key in ("target", "target_marginal", "expected")}
    tidy = LoggedSlates(**marks, **chances, **wide)
    hidden = {key: np.where(shown, value, 0.0) for key, value in (chances | wide).items()}
    left = SLATE_ESTIMATORS[name](tidy)
    right = SLATE_ESTIMATORS[name](LoggedSlates(**marks, **hidden))
    np.testing.assert_array_equal(left.values(), right.values())
    if name in ("sips", "iips", "rips", "pseudo_inverse", "cascade_dr"):
        # A slate that has ended contributes what its one position would alone.
        cut = {key: value[..., short, :1] for key, value in (marks | chances | wide).items()}
        alone = SLATE_ESTIMATORS[name](LoggedSlates(**cut))
        np.testing.assert_allclose(left.plain[:, short], alone.plain, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": np.zeros(4)}, r"rewards must have shape \(any, any\), got \(4,\)"),
        ({"rewards": np.zeros((0, 2))}, r"at least 1 slate and 1 position, got shape \(0, 2\)"),
        ({"rewards": np.full((2, 2), np.inf)}, r"rewards must be finite, got inf at \(0, 0\)"),
        ({"shown": np.eye(2, dtype=bool)}, "rewards must be 0 where not shown, got 1.0"),
        ({"shown": np.ones(2, bool)}, r"shown must have shape \(2, 2\), got \(2,\)"),
        ({"target": np.full((1, 2, 2), -0.5)}, r"target must be in \[0, 1\], got -0.5 to -0.5"),
        ({"target_marginal": np.ones((2, 2, 2))}, r"target_marginal must have shape \(1, 2, 2\)"),
        ({"marginal": np.ones(2)}, r"marginal must have shape \(2, 2\), got \(2,\)"),
        ({"expected": np.full((1, 2, 2), np.nan)}, r"expected must be finite, got nan at \(0, 0, 0\)"),
    ],
)
def test_a_log_that_is_none_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    good = {"rewards": np.ones((2, 2)), "target": np.ones((1, 2, 2)), "propensities": np.ones((2, 2))}
    with pytest.raises(ValueError, match=message):
        LoggedSlates(**good | changes)


@pytest.mark.parametrize("name", ["iips", "sniips", "pseudo_inverse"])
def test_marginals_that_are_missing_are_asked_for(name: str) -> None:
    log = LoggedSlates(np.ones((2, 2)), np.ones((1, 2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="target_marginal and marginal must be given, got none; slate_ips"):
        SLATE_ESTIMATORS[name](log)


@given(seed=seeds)
def test_the_beginning_of_a_log_is_worth_the_rewards_of_its_first_positions(seed) -> None:
    world = EverySlate(seed)
    rewards = world.by_prefix(LENGTH)
    for length in range(1, LENGTH + 1):
        begun = world.log(rewards, **world.model()).first(length)
        value = reward_interaction_ips(begun).plain @ world.chance
        np.testing.assert_allclose(value, world.wanted @ rewards[:, :length].sum(axis=1), atol=1e-9)
        assert begun.predicted is None
    for length in (0, LENGTH + 1):
        with pytest.raises(ValueError, match=rf"length must be in \[1, 3\], got {length}"):
            world.log(rewards).first(length)


def test_a_model_that_is_missing_is_asked_for() -> None:
    log = LoggedSlates(np.ones((2, 2)), np.ones((1, 2, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="predicted and expected must be given, got none"):
        cascade_dr(log)


def test_a_propensity_of_zero_is_refused_only_where_something_was_shown() -> None:
    shown = np.array([[True, False], [True, True]])
    log = LoggedSlates(shown * 1.0, np.ones((1, 2, 2)), shown * 0.5, shown=shown)
    np.testing.assert_allclose(slate_ips(log).plain, [[2.0, 8.0]])
    with pytest.raises(ValueError, match=r"propensities must be in \(0, 1\], got 0.0 at \(0, 1\) and 1 such"):
        slate_ips(LoggedSlates(shown * 1.0, np.ones((1, 2, 2)), shown * 0.5))
