import numpy as np
import pytest

from online_learning.experiments.sequential import difference_of_means, difference_of_ratios

LOOKS = np.arange(200, 8001, 25)


def looked_at(rewards: np.ndarray, variants: np.ndarray, first: np.ndarray, prior: np.ndarray) -> list:
    """Users, totals and squares of each variant at every look; prior is a user's total before the slate."""
    squares = (prior + rewards) ** 2 - prior**2
    return [
        tuple(np.cumsum(column * (variants == one))[LOOKS - 1] for column in (first, rewards, squares))
        for one in (0, 1)
    ]


def new_users(rng: np.random.Generator, lift: float = 0.0) -> list:
    n = LOOKS[-1]
    variants = rng.integers(0, 2, n)
    rewards = (rng.random(n) < 0.1 * (1 + lift * variants)).astype(float)
    return looked_at(rewards, variants, np.ones(n), np.zeros(n))


def returning_users(rng: np.random.Generator) -> list:
    n, n_users = LOOKS[-1], 400
    users = rng.integers(0, n_users, n)
    rewards = (rng.random(n) < rng.beta(1, 9, n_users)[users]).astype(float)
    order = np.argsort(users, kind="stable")
    starts = np.append(True, np.diff(users[order]) != 0)
    before = np.cumsum(rewards[order]) - rewards[order]
    first, prior = np.empty(n), np.empty(n)
    first[order] = starts
    prior[order] = before - before[starts][np.cumsum(starts) - 1]
    return looked_at(rewards, rng.integers(0, 2, n_users)[users], first, prior)


def alarms(simulate, runs: int, **options: float) -> tuple[float, float]:
    """How often 0 is outside at some look: of the always-valid interval, and of the one for a single look."""
    valid = single = 0
    for seed in range(runs):
        control, variant = simulate(np.random.default_rng(seed), **options)
        found = difference_of_means(control, variant, LOOKS, alpha=0.05, plan=4000)
        valid += bool(((found.low > 0) | (found.high < 0)).any())
        means = [total / users for users, total, _ in (control, variant)]
        errors = [
            (squares / users - mean**2) / users
            for (users, _, squares), mean in zip((control, variant), means, strict=True)
        ]
        single += bool((abs(means[1] - means[0]) > 1.96 * np.sqrt(sum(errors))).any())
    return valid / runs, single / runs


@pytest.mark.parametrize("simulate", [new_users, returning_users])
def test_looking_all_the_time_at_two_equal_variants_alarms_no_more_often_than_it_says(simulate) -> None:
    runs = 200
    valid, single = alarms(simulate, runs)
    assert valid <= 0.05
    assert single > 0.25  # what the interval for one look does under the same looks


def test_a_real_lift_is_found() -> None:
    valid, _ = alarms(new_users, 50, lift=0.4)
    assert valid > 0.9


def test_the_interval_is_tightest_where_it_was_planned_to_be() -> None:
    looks = np.geomspace(100, 100_000, 200)
    users = looks / 2
    moments = (users, users * 0.1, users * 0.1)
    factors = {}
    for plan in (1_000, 10_000):
        found = difference_of_means(moments, moments, looks, alpha=0.05, plan=plan)
        error = np.sqrt(2 * 0.1 * 0.9 / users)
        factors[plan] = (found.high - found.low) / 2 / error
        assert 0.5 < looks[factors[plan].argmin()] / plan < 2.0
    assert factors[10_000].min() == pytest.approx(3.0, abs=0.15)  # 1.96 for a single look
    assert (factors[1_000] < factors[10_000])[looks < 1_000].all()


def test_zero_leaves_the_interval_when_the_p_value_falls_below_alpha() -> None:
    users = np.arange(1_000, 20_000, 500.0)
    found = difference_of_means(
        (users, users * 0.10, users * 0.10), (users, users * 0.115, users * 0.115), 2 * users, alpha=0.05,
        plan=10_000,
    )  # fmt: skip
    assert (found.low > 0).any()
    assert not (found.low > 0).all()
    assert np.array_equal(found.p_value < 0.05, found.low > 0)


def test_of_too_few_users_nothing_is_said() -> None:
    found = difference_of_means((1, 0.0, 0.0), (1, 5.0, 25.0), 2, alpha=0.05, plan=100)
    assert (found.estimate, found.low, found.high, found.p_value) == (5.0, -np.inf, np.inf, 1.0)
    nobody = difference_of_means((0, 0, 0), (0, 0, 0), 1, alpha=0.05, plan=100)
    assert (nobody.low, nobody.high) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("alpha", "plan", "message"),
    [
        (0.0, 10, "alpha must be above 0 and below 1, got 0.0"),
        (1.0, 10, "alpha must be above 0 and below 1, got 1.0"),
        (0.05, 0, "plan must be finite and at least 1, got 0"),
    ],
)
def test_a_level_or_plan_that_is_none_is_refused(alpha: float, plan: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        difference_of_means((2, 1, 1), (2, 1, 1), 4, alpha=alpha, plan=plan)


GROUPS = 300


def grouped(seed: int, lift: float = 0.0) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """Earned and slates of groups at some looks, by side: users differ in how much they come and take."""
    rng = np.random.default_rng(seed)
    n, users, found = 6000, 600, []
    weights, taste = rng.pareto(1.5, users) + 0.1, rng.beta(1, 9, users)
    who = rng.choice(users, n, p=weights / weights.sum())
    variant = rng.random(users) < 0.3
    earned = (rng.random(n) < taste[who] * (1 + lift * variant[who])).astype(float)
    for look in range(500, n, 250):
        sides = []
        for side in (False, True):
            rows = np.flatnonzero(variant[who[:look]] == side)
            groups = who[rows] % GROUPS
            sides.append(tuple(np.bincount(groups, weights, GROUPS) for weights in (earned[rows], None)))
        found.append((*sides, look))
    return found


def test_of_two_equal_ratios_none_is_found_larger_however_often_one_looks() -> None:
    alarms = 0
    for seed in range(200):
        differences = [
            difference_of_ratios(*sides, look, alpha=0.05, plan=4000) for *sides, look in grouped(seed)
        ]
        alarms += any(one.low > 0 or one.high < 0 for one in differences)
    assert alarms / 200 <= 0.05


def test_a_ratio_that_is_larger_is_found() -> None:
    found = [
        difference_of_ratios(*grouped(seed, 2.0)[-1][:2], 6000, alpha=0.05, plan=4000) for seed in range(50)
    ]
    assert np.mean([one.low > 0 for one in found]) > 0.7


def test_with_a_slate_a_group_the_ratio_is_the_mean() -> None:
    rng = np.random.default_rng(0)
    sides = [(rng.random(40), np.ones(40)) for _ in range(2)]
    moments = [(40, earned.sum(), np.square(earned).sum()) for earned, _ in sides]
    ratio = difference_of_ratios(*sides, 80, alpha=0.05, plan=400)
    mean = difference_of_means(*moments, 80, alpha=0.05, plan=400)
    assert [ratio.estimate, ratio.low, ratio.high] == pytest.approx([mean.estimate, mean.low, mean.high])


def test_of_a_single_group_no_error_is_known() -> None:
    one = np.array([1.0, 0.0]), np.array([3.0, 0.0])
    found = difference_of_ratios(one, one, 6, alpha=0.05, plan=400)
    assert (found.low, found.high) == (-np.inf, np.inf)
