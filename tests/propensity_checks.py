"""The contract of every policy's propensities, as checks to run over a policy: see `tests.policy_checks`."""

import pickle
from collections.abc import Callable

import numpy as np
from scipy.stats import chisquare, norm

from online_learning.types import Candidates
from tests.policy_checks import DIM, Make, part_of, random_candidates, random_statistics, request, unit


def other_slates(candidates: Candidates, k: int, seed: int = 0) -> np.ndarray:
    """Slates that a policy knowing nothing might have shown: valid and invalid candidates alike."""
    rng = np.random.default_rng(seed)
    n, n_candidates = candidates.scores.shape
    index = rng.permuted(np.tile(np.arange(n_candidates), (n, 1)), axis=1)[:, :k]
    index[0, k // 2 :] = -1  # one that ends early
    return index


def seeds_of(n: int) -> np.ndarray:
    return np.arange(1, n + 1, dtype=np.uint64) * 104_729


def asking_for_propensities_changes_neither_policy_nor_inputs(make: Make) -> None:
    policy, candidates = make(), random_candidates(19)
    index, seeds = other_slates(candidates, 6), seeds_of(5)
    before = pickle.dumps((candidates, index, seeds, policy))
    policy.propensities(candidates, index, seeds=seeds)
    assert pickle.dumps((candidates, index, seeds, policy)) == before


def own_slates_have_the_propensities_they_were_chosen_with(make: Make) -> None:
    policy, candidates, asked = make(), random_candidates(20, n=40), request(40, 9)
    policy.update(random_statistics(policy, 20))
    slates = policy.select(candidates, **asked)
    again = policy.propensities(candidates, slates.index, seeds=asked["seeds"])
    assert again.dtype == np.float32
    if policy.propensity_kind == "exact":
        np.testing.assert_allclose(again, slates.propensities, rtol=1e-6)
    else:  # wins / samples there, (wins + 1) / (samples + 1) in `select`, on the same samples
        filled = slates.index >= 0
        samples = policy.samples
        wanted = (slates.propensities[filled] * (samples + 1) - 1) / samples
        np.testing.assert_allclose(again[filled], wanted, atol=1e-6)
        assert (again[~filled] == 0.0).all()


def the_propensities_of_a_position_sum_to_one(make: Make) -> None:
    policy, n_candidates = make(), 8
    policy.update(random_statistics(policy, 21))
    few = random_candidates(21, n=6, n_candidates=n_candidates, valid=0.8)
    for before in range(3):
        prefix = other_slates(few, before, seed=before)
        prefix[0] = np.flatnonzero(few.valid[0])[:before]
        for row in range(6):
            choices = np.setdiff1d(np.arange(n_candidates), prefix[row])
            same_row = part_of(few, np.full(len(choices), row))
            index = np.column_stack([np.tile(prefix[row], (len(choices), 1)), choices])
            found = policy.propensities(same_row, index, seeds=np.full(len(choices), 9, np.uint64))
            assert (found >= 0.0).all()
            assert (found[:, :before] == found[0, :before]).all()
            np.testing.assert_allclose(found[:, -1].sum(), 1.0, atol=1e-5)
            assert (found[~few.valid[row, choices], -1] == 0.0).all()


def propensities_depend_on_their_own_request_alone(make: Make) -> None:
    policy, candidates = make(), random_candidates(22, n=7)
    index, seeds = other_slates(candidates, 6), seeds_of(7)
    together = policy.propensities(candidates, index, seeds=seeds)
    longer = policy.propensities(candidates, other_slates(candidates, 9), seeds=seeds)
    for row in range(7):
        part = slice(row, row + 1)
        alone = policy.propensities(part_of(candidates, part), index[part], seeds=seeds[part])
        assert np.array_equal(alone[0], together[row])
    assert np.array_equal(longer[1:, :6] > 0.0, together[1:, :6] > 0.0)
    if policy.propensity_kind == "exact":  # a later position is no condition of an earlier one
        np.testing.assert_allclose(longer[1:, :6], together[1:, :6], rtol=1e-5)


def what_cannot_be_chosen_has_propensity_zero(make: Make) -> None:
    policy, candidates = make(), random_candidates(23, n=3, n_candidates=12, valid=1.0)
    candidates.valid[:, 3] = False
    for column, value in enumerate((np.nan, np.inf, -np.inf)):
        candidates.features[:, column, 2] = value
        candidates.scores[:, column] = value
    index = np.tile(np.array([3, 0, 1, 2, 5]), (3, 1))
    found = policy.propensities(candidates, index, seeds=seeds_of(3))
    assert np.isfinite(found).all()
    assert (found[:, 0] == 0.0).all()
    if policy.name != "random":  # it reads neither scores nor features
        assert (found[:, 1:4] == 0.0).all()
    nothing = policy.propensities(random_candidates(23, valid=0.0), np.zeros((5, 1), int), seeds=seeds_of(5))
    assert (nothing == 0.0).all()
    assert (policy.propensities(candidates, np.full((3, 4), -1), seeds=seeds_of(3)) == 0.0).all()
    assert policy.propensities(random_candidates(23, n=0), np.zeros((0, 2), int), seeds=seeds_of(0)).size == 0


def propensities_are_calibrated(make: Make) -> None:
    """Over many seeds, slates occur as often as their propensities say."""
    n_candidates, k, batch, n = 5, 2, 1_000, 30_000
    rng = np.random.default_rng(18)
    features = rng.normal(scale=0.15, size=(1, n_candidates, DIM)).astype(np.float32)
    features[..., 0] = 1.0
    features[:, 4] = features[:, 1]  # two alike, between which nothing but chance decides
    valid = np.array([[True, True, True, False, True]])
    arms = np.array([[0, 1, 0, 0, 1]], np.uint64)  # the two alike are one arm: there, too, nothing else does
    vectors = unit(np.abs(rng.normal(size=(1, n_candidates, 3))))
    groups = np.array([[[0], [1], [0], [0], [1]]], np.int32)
    fresh = np.array([[False, True, True, False, False]])
    parts = (features[..., 0], features, valid, arms, vectors, groups, fresh)
    many = Candidates(*(np.repeat(part, batch, axis=0) for part in parts))
    policy = make()
    parts = [
        policy.select(many, k=np.full(batch, k), seeds=np.arange(first, first + batch, dtype=np.uint64))
        for first in range(0, n, batch)
    ]
    index = np.concatenate([part.index for part in parts])
    propensities = np.concatenate([part.propensities for part in parts]).astype(np.float64)
    if policy.propensity_kind == "exact":
        _assert_frequencies_match(index, propensities)
    else:
        _assert_weights_average_one(index, propensities)


def _assert_frequencies_match(index: np.ndarray, propensities: np.ndarray) -> None:
    n = len(index)
    _, first, observed = np.unique(index, axis=0, return_index=True, return_counts=True)
    expected = n * propensities.prod(axis=1)[first]
    unseen = n - expected.sum()
    assert unseen > -1e-4 * n
    if len(first) == 1:  # a policy without chance: one slate, always, and it says so
        assert unseen == 0.0
        return
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum() + max(unseen, 0.0))
    kept = expected >= 1
    result = chisquare(observed[kept], expected[kept] * observed[kept].sum() / expected[kept].sum())
    assert len(observed[kept]) > 3
    assert result.pvalue > 1e-3


def _assert_weights_average_one(index: np.ndarray, propensities: np.ndarray) -> None:
    # E[1{item here} / propensity | positions before] = 1 for each item: what importance weighting needs.
    cells = []
    for before in [(), *np.unique(index[:, 0]).tolist()]:
        position = 0 if before == () else 1
        here = np.full(len(index), True) if before == () else index[:, 0] == before
        for item in np.unique(index[here, position]):
            weights = np.where(index[here, position] == item, 1.0 / propensities[here, position], 0.0)
            # Enough for a normal approximation, and often enough that no estimate from 128 samples is 0 wins:
            # the inverse of a rarer one is known to be biased (`LinearThompsonPolicy`).
            if np.count_nonzero(weights) >= max(200, 0.06 * len(weights)):
                cells.append((weights.mean() - 1.0) / (weights.std() / np.sqrt(len(weights))))
    assert len(cells) >= 8
    assert np.abs(cells).max() < norm.isf(1e-3 / (2 * len(cells)))  # Bonferroni over the cells


CHECKS: tuple[Callable[[Make], None], ...] = (
    asking_for_propensities_changes_neither_policy_nor_inputs,
    own_slates_have_the_propensities_they_were_chosen_with,
    the_propensities_of_a_position_sum_to_one,
    propensities_depend_on_their_own_request_alone,
    what_cannot_be_chosen_has_propensity_zero,
    propensities_are_calibrated,
)
