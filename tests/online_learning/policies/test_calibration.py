"""Each position's propensity is the frequency with which it is chosen, given the positions before it."""

import numpy as np
import pytest
from scipy.stats import norm

from online_learning.policies.policy import Policy
from online_learning.policies.registry import create_policy
from online_learning.types import Candidates
from tests.policy_checks import DIM, PRIOR, random_statistics, unit

N_CANDIDATES, K, SLATES, BATCH, SAMPLES = 6, 4, 6_000, 1_000, 64
ESTIMATING = ("thompson", "thompson-disjoint", "thompson-logistic")
POLICIES = (*ESTIMATING, "softmax", "diverse-softmax", "epsilon-greedy")


def learned(name: str) -> Policy:
    exploration = 4.0 if name == "thompson-logistic" else 1.0  # log-odds move 4 times as far as p near 1/2
    policy = create_policy(
        name, PRIOR, temperature=0.2, epsilon=0.3, exploration=exploration, propensity_samples=SAMPLES
    )
    policy.update(random_statistics(policy, 1, n=30))
    return policy


def same_request(n: int) -> Candidates:
    rng = np.random.default_rng(18)
    features = rng.normal(scale=0.15, size=(1, N_CANDIDATES, DIM)).astype(np.float32)
    features[..., 0] = 1.0
    parts = (
        (features @ PRIOR.weights).astype(np.float32),
        features,
        np.ones((1, N_CANDIDATES), bool),
        np.arange(N_CANDIDATES, dtype=np.uint64)[None] * np.uint64(7919),
        unit(np.abs(rng.normal(size=(1, N_CANDIDATES, 3)))),
        np.arange(N_CANDIDATES, dtype=np.int32)[None, :, None],
        np.zeros((1, N_CANDIDATES), bool),
    )
    return Candidates(*(np.repeat(part, n, axis=0) for part in parts))


def drawn(policy: Policy) -> tuple[np.ndarray, np.ndarray]:
    """Index and logged propensities of many slates of one request, (SLATES, K) each."""
    request, parts = same_request(BATCH), []
    for first in range(0, SLATES, BATCH):
        seeds = np.arange(first, first + BATCH, dtype=np.uint64)
        parts.append(policy.select(request, k=np.full(BATCH, K), seeds=seeds))
    return np.concatenate([part.index for part in parts]), np.concatenate(
        [part.propensities for part in parts]
    ).astype(np.float64)


def of_every_candidate(policy: Policy, index: np.ndarray, position: int) -> np.ndarray:
    """(SLATES, N_CANDIDATES): chance of each candidate at a position, after what a slate has before it."""
    request, found = same_request(BATCH), np.zeros((SLATES, N_CANDIDATES))
    for item in range(N_CANDIDATES):
        asked = np.column_stack([index[:, :position], np.full(SLATES, item)])
        left = ~(index[:, :position] == item).any(axis=1)
        for first in range(0, SLATES, BATCH):
            part = slice(first, first + BATCH)
            seeds = np.arange(SLATES + first, SLATES + first + BATCH, dtype=np.uint64)  # other draws
            found[part, item] = policy.propensities(request, asked[part], seeds=seeds)[:, position]
        found[~left, item] = 0.0
    return found


@pytest.mark.parametrize("name", POLICIES)
def test_what_is_logged_is_how_often_a_position_is_chosen_given_those_before_it(name: str) -> None:
    policy = learned(name)
    index, logged = drawn(policy)
    cells = []
    for position in range(K):
        chance = of_every_candidate(policy, index, position)
        for item in range(N_CANDIDATES):
            # The mean of each difference is 0 given the positions before, so it is over all of them.
            gap = (index[:, position] == item) - chance[:, item]
            cells.append(gap.mean() / max(gap.std() / np.sqrt(SLATES), 1e-12))
        # What was logged of the chosen is the mean of what it is asked for again, on other draws.
        again = chance[np.arange(SLATES), index[:, position]]
        extra = 1 if name in ESTIMATING else 0
        gap = (logged[:, position] * (SAMPLES + extra) - extra) / SAMPLES - again
        cells.append(gap.mean() / max(gap.std() / np.sqrt(SLATES), 1e-6))
    assert np.abs(cells).max() < norm.isf(1e-3 / (2 * len(cells)))  # Bonferroni over the cells


def test_the_mean_logged_propensity_of_an_item_is_above_its_frequency_at_a_later_position() -> None:
    """So comparing the two says nothing: it is chosen where, by what is before it, it is probable."""
    index, logged = drawn(learned("softmax"))  # whose propensities are exact
    position, item = 2, int(np.bincount(index[:, 2]).argmax())
    chosen = index[:, position] == item
    assert logged[chosen, position].mean() > 1.2 * chosen.mean()
