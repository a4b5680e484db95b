import numpy as np
import pytest
from scipy.stats import binomtest

from online_learning.experiments.srm import log_evidence, sample_ratio_p_value, win_rate_interval


def test_users_split_as_planned_raise_the_alarm_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(0)
    weights = [1.0, 2.0, 1.0]
    p = np.array(weights) / 4
    found = [sample_ratio_p_value(rng.choice(3, 5_000, p=p), weights) for _ in range(200)]
    assert np.mean(np.array(found) < 0.05) <= 0.05


def test_a_share_that_is_lost_raises_it() -> None:
    rng = np.random.default_rng(1)
    variants = rng.integers(0, 2, 20_000)
    lost = (variants == 1) & (rng.random(20_000) < 0.08)  # some users of one variant leave no record
    assert sample_ratio_p_value(variants, [1, 1]) > 0.05
    assert sample_ratio_p_value(variants[~lost], [1, 1]) < 1e-3


def test_what_was_once_shown_is_not_taken_back() -> None:
    early = np.zeros(60, np.int64)  # sixty of one, then as many as bring the counts back to even
    later = np.concatenate((early, np.ones(60, np.int64)))
    assert sample_ratio_p_value(later, [1, 1]) == sample_ratio_p_value(early, [1, 1]) < 0.01


def test_the_evidence_begins_at_one_and_averages_one() -> None:
    assert log_evidence([0, 0], [0.5, 0.5]) == pytest.approx(0.0)
    counts = np.array([[a, 5 - a] for a in range(6)])
    weights = np.array([1, 5, 10, 10, 5, 1]) / 32
    assert weights @ np.exp(log_evidence(counts, [0.5, 0.5])) == pytest.approx(1.0)
    assert sample_ratio_p_value(np.zeros(0, np.int64), [1, 1]) == 1.0


def test_a_win_rate_is_inside_its_interval_at_every_look_at_once() -> None:
    rng, missed, runs = np.random.default_rng(2), 0, 100
    for _ in range(runs):
        wins = np.cumsum(rng.random(400) < 0.5)
        for n in range(10, 401, 20):
            low, high = win_rate_interval(int(wins[n - 1]), n - int(wins[n - 1]), alpha=0.1)
            if not low <= 0.5 <= high:
                missed += 1
                break
    assert missed / runs <= 0.1


def test_the_interval_is_wider_than_one_for_a_single_look_and_closes_in() -> None:
    single = binomtest(600, 1000).proportion_ci(0.95)
    low, high = win_rate_interval(600, 400, alpha=0.05)
    assert low < single.low < 0.6 < single.high < high
    later = win_rate_interval(6000, 4000, alpha=0.05)
    assert low < later[0] < 0.6 < later[1] < high
    assert win_rate_interval(0, 0, alpha=0.05) == (0.0, 1.0)
    assert win_rate_interval(0, 40, alpha=0.05)[0] == 0.0
    assert win_rate_interval(40, 0, alpha=0.05)[1] == 1.0
    with pytest.raises(ValueError, match="wins and losses must be at least 0, got -1 and 3"):
        win_rate_interval(-1, 3, alpha=0.05)
