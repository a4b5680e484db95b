import numpy as np

from online_learning.policies.baselines import PopularityPolicy, RandomPolicy
from tests.policy_checks import random_candidates, request


def test_random_propensities_count_the_candidates_left() -> None:
    candidates = random_candidates(0, valid=0.5)
    slates = RandomPolicy().select(candidates, **request(5, 4))
    left = candidates.valid.sum(axis=1)[:, None] - np.arange(4)
    np.testing.assert_allclose(slates.propensities, 1.0 / left, rtol=1e-6)


def test_random_chooses_every_candidate_equally_often_at_every_position() -> None:
    n = 20_000
    candidates = random_candidates(1, n=n, n_candidates=6, valid=1.0)
    index = RandomPolicy().select(candidates, **request(n, 3)).index
    for position in range(3):
        counts = np.bincount(index[:, position], minlength=6)
        assert np.abs(counts - n / 6).max() < 4.5 * np.sqrt(n * 5 / 36)


def test_popularity_orders_by_score_and_equal_scores_by_candidate() -> None:
    candidates = random_candidates(2, n=1, n_candidates=5, valid=1.0)
    candidates.scores[0] = [1.0, 3.0, 2.0, 3.0, 0.0]
    slates = PopularityPolicy().select(candidates, **request(1, 5))
    assert slates.index[0].tolist() == [1, 3, 2, 0, 4]
