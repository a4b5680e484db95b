"""What is learned relative to a release: differences within slates, in proportion to what it expects."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.policies.policy_spec import PolicySpec
from online_learning.policies.registry import POLICIES, Learning, create_policy
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior, infer
from online_learning.statistics.relative import RelativeStatistics, candidate_rows
from online_learning.types import Candidates

DIM, K = 6, 5
PRIOR = LinearPrior(np.eye(DIM)[1], noise_variance=0.09, relative=True)


def described(rng: np.random.Generator, n: int, k: int = K) -> np.ndarray:
    """Features of n slates of k items as a release gives them: 1, p, and what else it says."""
    features = rng.uniform(-1.0, 1.0, (n, k, DIM))
    features[..., 0] = 1.0
    features[..., 1] = rng.uniform(0.05, 0.6, (n, k))
    return features


def learned(features: np.ndarray, chance: np.ndarray, rng: np.random.Generator) -> RelativeStatistics:
    statistics = RelativeStatistics(DIM)
    rows = np.concatenate([statistics.rows(slate) for slate in features])
    taken = rng.random(chance.size) < chance.ravel()
    statistics.add_impressions(rows)
    statistics.add_rewards(rows[taken], np.ones(taken.sum()))
    return statistics


def utility(posterior, features: np.ndarray) -> np.ndarray:
    return posterior.rows(features) @ posterior.mean


@given(seed=st.integers(0, 100), k=st.integers(1, 6), factor=st.floats(0.01, 1.0))
def test_rows_are_a_slates_level_and_differences_in_proportion_to_it(seed, k, factor) -> None:
    features = described(np.random.default_rng(seed), 1, k)[0]
    rows = RelativeStatistics.rows(features)
    np.testing.assert_allclose(rows[:, 0], features[:, 1].mean())
    np.testing.assert_allclose(rows[:, 1:].sum(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(
        rows[0, 2:] - rows[-1, 2:], features[0, 1] * features[0, 2:] - features[-1, 1] * features[-1, 2:]
    )
    less = features.copy()
    less[:, 1] *= factor
    np.testing.assert_allclose(RelativeStatistics.rows(less), factor * rows, atol=1e-12)


def test_a_row_that_is_not_finite_is_left_out_and_spoils_no_other() -> None:
    features = described(np.random.default_rng(0), 1)[0]
    broken = features.copy()
    broken[2, 4] = np.nan
    rows = RelativeStatistics.rows(broken)
    np.testing.assert_allclose(rows[[0, 1, 3, 4]], RelativeStatistics.rows(features[[0, 1, 3, 4]]))
    assert RelativeStatistics(DIM).add_impressions(rows) == 4
    assert np.isnan(RelativeStatistics.rows(np.full((2, DIM), np.nan))).any(axis=1).all()


@pytest.mark.parametrize("level", [0.1, 1.0, 3.0])
def test_a_release_that_is_wrong_about_the_level_alone_keeps_its_order(level: float) -> None:
    """Users differ in how much they take at all, and the release does not know how much."""
    rng = np.random.default_rng(1)
    features = described(rng, 4_000)
    features[..., 1] *= 0.3
    features[..., 2] = features[..., 1] + 0.1 * rng.standard_normal((4_000, K))  # goes with p, as signals do
    activity = rng.uniform(0.2, 1.8, (4_000, 1))
    posterior = infer(PRIOR, learned(features, level * activity * features[..., 1], rng))
    assert posterior.mean[0] == pytest.approx(level, rel=0.1)
    asked = described(rng, 1, 500)[0]
    asked[:, 1] *= 0.3
    order = np.corrcoef(utility(posterior, asked), asked[:, 1])[0, 1]
    assert order > 0.9


def test_what_sets_items_of_a_slate_apart_is_learned() -> None:
    rng = np.random.default_rng(2)
    features = described(rng, 4_000)
    asked = described(rng, 1, 500)[0]

    def truth(x: np.ndarray) -> np.ndarray:
        return x[..., 1] * (1.0 + 0.8 * x[..., 3])

    posterior = infer(PRIOR, learned(features, 0.5 * truth(features), rng))
    before, after = (
        np.corrcoef(utility(belief, asked), truth(asked))[0, 1] for belief in (infer(PRIOR), posterior)
    )
    assert before < 0.85 < 0.98 < after


def test_a_release_that_knows_nothing_is_unlearned() -> None:
    rng = np.random.default_rng(3)
    features, asked = described(rng, 4_000), described(rng, 1, 500)[0]
    posterior = infer(PRIOR, learned(features, 0.2 + 0.15 * features[..., 3], rng))
    assert np.corrcoef(utility(posterior, asked), asked[:, 3])[0, 1] > 0.8


def test_nothing_seen_leaves_the_release_as_it_is() -> None:
    posterior, features = infer(PRIOR), described(np.random.default_rng(4), 1)[0]
    np.testing.assert_allclose(utility(posterior, features), features[:, 1])


def test_the_prior_weighs_by_rewards_however_rare_they_are() -> None:
    """As many rewards, not impressions, outweigh it: 100 of 1,000 or 100 of 10,000 leave the same doubt."""
    doubts = []
    for n, share in ((200, 1.0), (2_000, 0.1)):
        rng = np.random.default_rng(5)
        features = described(rng, n)
        features[..., 1] = 0.1 * share
        prior = LinearPrior(np.eye(DIM)[1], noise_variance=0.1 * share * (1 - 0.1 * share), relative=True)
        posterior = infer(prior, learned(features, features[..., 1], rng))
        doubts.append(np.linalg.norm(posterior.root[3]))
    assert doubts[0] == pytest.approx(doubts[1], rel=0.15)


def test_a_relative_prior_is_of_the_release_alone() -> None:
    with pytest.raises(ValueError, match="weights must be 1 of feature 1 alone"):
        LinearPrior(np.ones(DIM), relative=True)
    with pytest.raises(ValueError, match="statistics must be RelativeStatistics, got LinearStatistics"):
        infer(PRIOR, LinearStatistics(DIM))


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_serves_and_learns_of_a_relative_prior(name: str) -> None:
    learning = Learning.of(name, PRIOR)
    policy, statistics = create_policy(name, PRIOR, propensity_samples=8), learning.empty()
    rng = np.random.default_rng(6)
    features = described(rng, 3, 20).astype(np.float32)
    arms = rng.integers(0, 9, (3, 20)).astype(np.uint64)
    candidates = Candidates(features[..., 1], features, np.ones((3, 20), np.bool_), arms)
    for slate, items in zip(features, arms, strict=True):
        rows = statistics.rows(slate)
        statistics.add_impressions(rows, arms=items)
        statistics.add_rewards(rows[:2], np.ones(2), arms=items[:2])
    policy.update(learning.read(statistics.to_bytes()))
    seeds = np.arange(3, dtype=np.uint64)
    slates = policy.select(candidates, k=np.full(3, 4), seeds=seeds)
    assert (slates.index >= 0).all()
    assert (slates.propensities > 0).all()


def test_policies_of_one_model_stand_beside_one_another() -> None:
    learning = Learning.of("thompson", PRIOR)
    for name in ("greedy", "softmax", "random"):
        PolicySpec.parse(name).check_served_with(learning, "thompson")
    with pytest.raises(
        ValueError, match="'relative' statistics of the live policy 'thompson', but needs 'arms'"
    ):
        PolicySpec.parse("thompson-disjoint").check_served_with(learning, "thompson")


def test_rows_of_candidates_keep_their_type_and_say_nothing_of_the_level() -> None:
    features = described(np.random.default_rng(7), 2).astype(np.float32)
    rows = candidate_rows(features)
    assert rows.dtype == np.float32
    assert not rows[..., 0].any()
    np.testing.assert_array_equal(rows[..., 1], features[..., 1])
