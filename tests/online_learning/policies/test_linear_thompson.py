import numpy as np
import pytest
from scipy.stats import norm

from online_learning.policies.argmax_kernels import ESTIMATE
from online_learning.policies.greedy import GreedyPolicy
from online_learning.policies.linear_thompson import LinearThompsonPolicy
from online_learning.sampling_kernels import fill_normals, start_of
from online_learning.statistics.linear import LinearStatistics
from online_learning.statistics.posterior import LinearPrior, infer
from online_learning.types import Candidates, Slates
from tests.policy_checks import DIM, random_candidates, request

PRIOR = LinearPrior(np.linspace(-1.0, 1.0, DIM), precision=2.0)


def repeated(features: np.ndarray, n: int) -> Candidates:
    many = np.repeat(features[None].astype(np.float32), n, axis=0)
    return Candidates(many[..., 0], many, np.ones(many.shape[:2], bool))


def two_items() -> tuple[np.ndarray, LinearStatistics, float]:
    """Return two items' features, statistics, and the probability that the first beats the second."""
    rng = np.random.default_rng(0)
    features = rng.normal(scale=0.3, size=(2, DIM)).astype(np.float32)
    statistics = LinearStatistics(DIM)
    shown = rng.normal(size=(20, DIM))
    statistics.add_impressions(shown)
    statistics.add_rewards(shown[:5], np.ones(5))
    posterior = infer(PRIOR, statistics)
    difference = (features[0] - features[1]).astype(np.float64)
    deviation = 0.5 * np.linalg.norm(posterior.root.T @ difference)
    return features, statistics, float(norm.cdf(difference @ posterior.mean / deviation))


def select_two_items(n: int, samples: int) -> tuple[Slates, float]:
    features, statistics, p = two_items()
    policy = LinearThompsonPolicy(PRIOR, exploration=0.5, propensity_samples=samples)
    policy.update(statistics)
    return policy.select(repeated(features, n), **request(n, 2)), p


def test_the_best_of_two_wins_with_the_probability_of_the_normal_distribution() -> None:
    n = 20_000
    slates, p = select_two_items(n, samples=4)
    assert 0.1 < p < 0.9
    assert abs((slates.index[:, 0] == 0).mean() - p) < 4 * np.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("samples", [64, 256])
def test_estimated_propensities_have_the_stated_mean_and_error(samples: int) -> None:
    n = 4_000
    slates, p = select_two_items(n, samples=samples)
    for item, probability in ((0, p), (1, 1.0 - p)):
        # Also of those slates alone in which the item won: the estimate knows nothing of the choice.
        estimates = slates.propensities[slates.index[:, 0] == item, 0].astype(np.float64)
        error = np.sqrt(probability * (1 - probability) * samples) / (samples + 1)
        mean = (samples * probability + 1) / (samples + 1)
        assert abs(estimates.mean() - mean) < 4 * error / np.sqrt(len(estimates))
        assert estimates.std() == pytest.approx(error, rel=4 / np.sqrt(2 * len(estimates)))
    np.testing.assert_allclose(slates.propensities[:, 1], 1.0)


def test_frequencies_of_many_candidates_match_the_mean_estimate() -> None:
    n, samples = 10_000, 128
    features = np.random.default_rng(1).normal(scale=0.3, size=(8, DIM))
    policy = LinearThompsonPolicy(
        LinearPrior(PRIOR.weights / 10, precision=2.0), exploration=0.5, propensity_samples=samples
    )
    slates = policy.select(repeated(features, n), **request(n, 1))
    tried = 0
    for item in range(8):
        chosen = slates.index[:, 0] == item
        frequency = chosen.mean()
        if chosen.sum() < 100:
            continue
        # (wins + 1) / (samples + 1) back to wins / samples, which is unbiased
        raw = (slates.propensities[chosen, 0] * (samples + 1.0) - 1.0) / samples
        spread = frequency * (1 - frequency)
        assert abs(raw.mean() - frequency) < 4 * np.sqrt(spread / n + spread / samples / chosen.sum())
        tried += 1
    assert tried >= 4


def test_candidates_of_equal_features_share_their_chance() -> None:
    n, samples = 2_000, 256
    features = np.tile(np.random.default_rng(2).normal(size=DIM), (10, 1))
    slates = LinearThompsonPolicy(PRIOR, propensity_samples=samples).select(
        repeated(features, n), **request(n, 3)
    )
    counts = np.bincount(slates.index[:, 0], minlength=10)
    assert np.abs(counts - n / 10).max() < 5 * np.sqrt(n * 0.1 * 0.9)
    for position in range(3):
        p = 1 / (10 - position)
        expected = (samples * p + 1) / (samples + 1)
        error = np.sqrt(p * (1 - p) / samples / n)
        assert abs(slates.propensities[:, position].mean() - expected) < 4 * error


def test_a_propensity_is_never_below_one_over_samples_plus_one() -> None:
    candidates = random_candidates(3, n=40, n_candidates=200, valid=1.0)
    slates = LinearThompsonPolicy(PRIOR, exploration=5.0, propensity_samples=9).select(
        candidates, **request(40, 20)
    )
    assert slates.propensities.min() == pytest.approx(0.1)


def test_without_exploration_it_is_greedy() -> None:
    candidates, asked = random_candidates(4), request(5, 8)
    slates = LinearThompsonPolicy(PRIOR, exploration=0.0).select(candidates, **asked)
    assert np.array_equal(slates.index, GreedyPolicy(PRIOR).select(candidates, **asked).index)
    np.testing.assert_allclose(slates.propensities[slates.index >= 0], 1.0)


def test_with_evidence_it_settles_on_the_best() -> None:
    candidates, asked = random_candidates(5, valid=1.0), request(5, 1)
    policy = LinearThompsonPolicy(PRIOR, exploration=0.3)
    before = policy.select(candidates, **asked).propensities.mean()
    statistics = LinearStatistics(DIM)
    shown = np.random.default_rng(6).normal(size=(20_000, DIM))
    statistics.add_impressions(shown)
    statistics.add_rewards(shown, shown @ PRIOR.weights)
    policy.update(statistics)
    assert before < 0.9
    assert policy.select(candidates, **asked).propensities.mean() > 0.95


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exploration": -0.1}, "exploration must be finite and at least 0, got -0.1"),
        ({"exploration": np.inf}, "exploration must be finite and at least 0, got inf"),
        ({"propensity_samples": 0}, "propensity_samples must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearThompsonPolicy(PRIOR, **settings)


@pytest.mark.parametrize("exploration", [0.05, 0.3, 3.0])
def test_propensities_are_those_of_samples_of_every_candidate(exploration: float) -> None:
    """Candidates that cannot win are left out of the samples: it must not show."""
    samples, n_candidates = 200, 60
    candidates = random_candidates(7, n=20, n_candidates=n_candidates, valid=0.9)
    policy = LinearThompsonPolicy(PRIOR, exploration=exploration, propensity_samples=samples)
    asked = request(20, 5)
    slates = policy.select(candidates, **asked)
    posterior, half = infer(PRIOR), DIM // 2
    for row in range(20):
        drawn = np.empty((DIM, samples), np.float32)
        start = np.uint64(start_of(asked["seeds"][row], ESTIMATE))
        for pair in range(half):
            fill_normals(start, pair * samples, drawn[2 * pair], drawn[2 * pair + 1])
        weights = posterior.mean[:, None] + exploration * posterior.root @ drawn
        utility = np.where(candidates.valid[row][:, None], candidates.features[row] @ weights, -np.inf)
        for position, chosen in enumerate(slates.index[row]):
            wins = (np.argmax(utility, axis=0) == chosen).sum()
            # One sample may be nearer than the noise that decides between candidates that are alike.
            assert abs((wins + 1) / (samples + 1) - slates.propensities[row, position]) < 1.5 / samples
            utility[chosen] = -np.inf
