import numpy as np
import pytest

from streams.demo.arms import Baselines, Visits, quantiles_ms


def test_popularity_ranks_by_positive_events_and_skips_what_the_user_has_seen():
    arms = Baselines(2, 5)
    for item, times in ((1, 3), (2, 5), (4, 5)):
        for _ in range(times):
            arms.learn(None, item, positive=True)
    arms.learn(0, 2, positive=False, past=True)
    assert arms.popular(0, 3).tolist() == [4, 1, 0]
    assert arms.popular(1, 3).tolist() == [2, 4, 1]


def test_random_draws_different_unseen_items():
    arms = Baselines(1, 20)
    for item in range(0, 20, 2):
        arms.learn(0, item, positive=True, past=True)
    rng = np.random.default_rng(0)
    drawn = {int(item) for _ in range(50) for item in arms.random(0, 4, rng)}
    assert drawn == set(range(1, 20, 2))
    assert len(set(arms.random(0, 10, rng).tolist())) == 10


def test_a_user_who_has_seen_nearly_everything_gets_a_short_slate():
    arms = Baselines(1, 4)
    for item in range(3):
        arms.learn(0, item, positive=True, past=True)
    assert arms.popular(0, 10).tolist() == [3]
    assert arms.random(0, 10, np.random.default_rng(0)).tolist() == [3]


def test_click_through_is_clicks_per_item_shown():
    visits = Visits()
    visits.add(0, 10, (3, 0, 1))
    visits.add(1, 10, (1, 0, 2))
    rates = visits.rates(seed=0)
    assert rates["policy"].value == pytest.approx(0.2)
    assert rates["random"].value == 0.0
    assert rates["popularity"].value == pytest.approx(0.15)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(100):
        visits = Visits()
        for user in range(60):
            taste = rng.beta(2, 8)
            for _ in range(5):
                visits.add(user, 10, (int(rng.binomial(10, taste)), 0, 0))
        rate = visits.rates(seed=trial)["policy"]
        covered += rate.low <= 0.2 <= rate.high
    assert 86 <= covered <= 100


def test_visits_of_one_user_do_not_narrow_the_interval_of_users():
    few, many = Visits(), Visits()
    for user in range(40):
        clicks = 5 if user % 2 else 1
        few.add(user, 10, (clicks, 0, 0))
        for _ in range(50):
            many.add(user, 10, (clicks, 0, 0))
    narrow, wide = many.rates(seed=0)["policy"], few.rates(seed=0)["policy"]
    assert narrow.high - narrow.low == pytest.approx(wide.high - wide.low)


def test_a_stretch_of_the_visits_can_be_rated():
    visits = Visits()
    for n in range(90):
        visits.add(n % 7, 10, (1 if n < 30 else 4, 0, 0))
    assert visits.rates(seed=0, last=1 / 3)["policy"].value == pytest.approx(0.1)
    assert visits.rates(seed=0, first=2 / 3)["policy"].value == pytest.approx(0.4)


def test_no_visits_give_zero():
    assert Visits().rates(seed=0)["policy"].value == 0.0
    assert quantiles_ms([]) == {"p50_ms": 0.0, "p90_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}


def test_quantiles_are_in_milliseconds():
    assert quantiles_ms([0.001, 0.002, 0.003])["p50_ms"] == pytest.approx(2.0)


def test_each_arm_uses_up_its_own_items_only():
    arms = Baselines(1, 3)
    arms.use("popularity", 0, np.array([0]))
    arms.learn(0, 1, positive=True)  # clicked in the policy's slate
    assert arms.popular(0, 3).tolist() == [1, 2]
    assert sorted(arms.random(0, 3, np.random.default_rng(0)).tolist()) == [0, 1, 2]
