import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.ope.estimators import LoggedActions, ips, snips
from online_learning.ope.intervals import bootstrap, empirical_bernstein
from online_learning.ope.types import Contributions

# A logging policy, a candidate and the chance of a reward, of four actions.
LOGGING, CANDIDATE = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])
CHANCE = np.array([0.1, 0.4, 0.5, 0.7])
TRUTH = CANDIDATE @ CHANCE


def draw(seed: int, n: int) -> LoggedActions:
    rng = np.random.default_rng(seed)
    actions = rng.choice(4, n, p=LOGGING)
    rewards = (rng.random(n) < CHANCE[actions]).astype(float)
    return LoggedActions.from_distributions(
        rewards, actions, CANDIDATE[None, None], propensities=LOGGING[actions], max_weight=4.0
    )


def test_the_bootstrap_covers_the_value_as_often_as_it_says() -> None:
    covered = np.zeros(2)  # of 300 logs, 270 expected
    for seed in range(300):
        log = draw(seed, 300)
        for i, (low, high) in enumerate(bootstrap([ips(log), snips(log)], resamples=200, level=0.9)):
            covered[i] += low[0] <= TRUTH <= high[0]
    assert (abs(covered - 270) <= 15).all()


def test_the_bootstrap_is_that_of_drawing_rows_again() -> None:
    log = draw(1, 50)
    drawn = np.random.default_rng(7)
    rows = np.array([drawn.integers(50, size=50) for _ in range(30)])
    weights, earned = log.weights[0][rows], (log.weights[0] * log.rewards)[rows]
    wanted = earned.mean(axis=1), earned.sum(axis=1) / weights.sum(axis=1)
    found = bootstrap([ips(log), snips(log)], resamples=30, level=0.8, seed=7)
    for (low, high), values in zip(found, wanted, strict=True):
        np.testing.assert_allclose([low[0], high[0]], np.quantile(values, [0.1, 0.9]), rtol=1e-12)


@given(seed=st.integers(0, 1000), n=st.integers(1, 60), resamples=st.integers(1, 40))
def test_one_seed_gives_one_interval_and_company_changes_nothing(seed, n, resamples) -> None:
    rng = np.random.default_rng(seed)
    several = [Contributions(rng.normal(size=(policies, n))) for policies in (2, 1, 3)]
    together = bootstrap(several, resamples=resamples, seed=seed)
    for estimate, (low, high) in zip(several, together, strict=True):
        assert (low <= high).all()
        alone = bootstrap([estimate], resamples=resamples, seed=seed)[0]
        np.testing.assert_allclose(alone, (low, high), atol=1e-12)


def test_another_seed_gives_another_interval_and_a_higher_level_a_wider_one() -> None:
    estimate = ips(draw(2, 100))
    (low, high), (other, _) = (bootstrap([estimate], seed=seed)[0] for seed in (0, 1))
    assert low != other
    wide_low, wide_high = bootstrap([estimate], level=0.99)[0]
    assert wide_low < low < high < wide_high


def test_many_rows_are_cut_into_blocks_without_a_seam() -> None:
    values = np.random.default_rng(3).normal(size=(1, 60_000))
    low, high = bootstrap([Contributions(values)], resamples=33)[0]
    assert low < values.mean() < high
    assert 0.5 < (high - low)[0] / (2 * 1.96 / np.sqrt(60_000)) < 1.5


def test_a_resample_without_any_weight_is_left_out() -> None:
    log = LoggedActions(np.array([1.0, 0.0, 0.0]), np.array([[0.5, 0.0, 0.0]]), np.full(3, 0.5))
    low, high = bootstrap([snips(log)])[0]
    np.testing.assert_array_equal([low, high], [[1.0], [1.0]])


def test_a_policy_without_any_weight_has_no_interval_and_spoils_no_others() -> None:
    log = LoggedActions(np.array([1.0, 0.0]), np.array([[0.0, 0.0], [0.5, 0.5]]), np.full(2, 0.5))
    low, high = bootstrap([snips(log)])[0]
    np.testing.assert_array_equal([low, high], [[np.nan, 0.0], [np.nan, 1.0]])


def test_copies_of_rows_say_no_more_than_the_rows_where_they_are_one_cluster() -> None:
    copies = 9
    few = [ips(draw(4, 200)), snips(draw(4, 200))]
    rows = np.tile(np.arange(200), copies)
    many = [
        Contributions(
            one.plain[:, rows], None if one.ratio is None else tuple(part[..., rows] for part in one.ratio)
        )
        for one in few
    ]
    apart, together = bootstrap(many, seed=5), bootstrap(many, seed=5, clusters=rows)
    for alone, wide, narrow in zip(bootstrap(few, seed=5), together, apart, strict=True):
        np.testing.assert_allclose(wide, alone, rtol=1e-12)
        width, too_little = np.diff(wide, axis=0), np.diff(narrow, axis=0)
        np.testing.assert_allclose(width / too_little, np.sqrt(copies), rtol=0.1)


def test_clusters_of_one_row_are_rows() -> None:
    estimates = [ips(draw(6, 100)), snips(draw(6, 100))]
    assert str(bootstrap(estimates)) == str(bootstrap(estimates, clusters=np.arange(100)))


def test_the_mean_of_a_resample_is_that_of_its_rows_however_many_a_cluster_has() -> None:
    values, users = np.array([[1.0, 2.0, 6.0, 9.0, 4.0]]), np.array(["b", "a", "b", "c", "b"])
    of_user = [np.array([2.0]), np.array([1.0, 6.0, 4.0]), np.array([9.0])]
    drawn = np.random.default_rng(3)
    means = [np.concatenate([of_user[g] for g in drawn.integers(3, size=3)]).mean() for _ in range(40)]
    ((low, high),) = bootstrap([Contributions(values)], resamples=40, level=0.8, seed=3, clusters=users)
    np.testing.assert_allclose([low[0], high[0]], np.quantile(means, [0.1, 0.9]), rtol=1e-12)


def test_only_the_bootstrap_of_clusters_covers_where_users_are_alike_in_themselves() -> None:
    covered = np.zeros(2)  # of 200 logs
    for seed in range(200):
        rng = np.random.default_rng(seed)
        users = np.repeat(np.arange(60), 8)
        rewards = rng.normal(size=60)[users] + rng.normal(size=480)
        for i, clusters in enumerate((None, users)):
            ((low, high),) = bootstrap(
                [Contributions(rewards[None])], resamples=150, level=0.9, clusters=clusters
            )
            covered[i] += low[0] <= 0.0 <= high[0]
    assert covered[0] < 120
    assert 168 <= covered[1] <= 192


def test_clusters_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"clusters must have shape \(9,\) as the rows, got \(8,\)"):
        bootstrap([Contributions(np.ones((1, 9)))], clusters=np.arange(8))


def test_nothing_to_resample_gives_nothing() -> None:
    assert bootstrap([]) == []


def test_empirical_bernstein_covers_more_often_than_it_says() -> None:
    missed = 0
    for seed in range(300):
        contributions = ips(draw(seed, 300))
        low, high = empirical_bernstein(contributions.plain, low=0.0, high=4.0, level=0.8)
        missed += not low[0] <= TRUTH <= high[0]
    assert missed <= 0.2 * 300


@given(seed=st.integers(0, 1000), shift=st.floats(-5.0, 5.0), scale=st.floats(0.1, 10.0))
def test_empirical_bernstein_moves_and_grows_with_the_unit(seed, shift, scale) -> None:
    values = np.random.default_rng(seed).random((2, 50))
    ends = np.array(empirical_bernstein(values, low=0.0, high=1.0))
    moved = empirical_bernstein(values * scale + shift, low=shift, high=shift + scale)
    np.testing.assert_allclose(moved, ends * scale + shift, atol=1e-9)


def test_empirical_bernstein_narrows_with_rows_and_with_certainty() -> None:
    values = np.random.default_rng(0).random((1, 4000))

    def width(rows: np.ndarray, level: float = 0.95) -> float:
        low, high = empirical_bernstein(rows, low=0.0, high=1.0, level=level)
        return float(high[0] - low[0])

    assert width(values) < width(values[:, :400]) < width(values[:, :40])
    assert width(values, 0.8) < width(values) < width(values, 0.999)
    assert width(np.full((1, 4000), 0.5)) < 0.3 * width(values)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (np.zeros((1, 1)), {}, "contributions must have at least 2 rows, got 1"),
        (np.zeros((1, 9)), {"high": np.inf}, "low and high must be finite with low < high, got 0.0 and inf"),
        (np.zeros((1, 9)), {"high": 0.0}, "low and high must be finite with low < high, got 0.0 and 0.0"),
        (np.full((1, 9), 1.5), {}, r"contributions must be in \[0.0, 1.0\], got 1.5 to 1.5"),
        (np.full((1, 9), np.nan), {}, r"contributions must be in \[0.0, 1.0\], got nan to nan"),
        (np.zeros((1, 9)), {"level": 1.0}, r"level must be in \(0, 1\), got 1.0"),
    ],
)
def test_a_bound_that_would_not_hold_is_refused(values, settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        empirical_bernstein(values, **{"low": 0.0, "high": 1.0} | settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resamples": 0}, "resamples must be at least 1, got 0"),
        ({"level": 0.0}, r"level must be in \(0, 1\), got 0.0"),
        ({"level": np.nan}, r"level must be in \(0, 1\), got nan"),
    ],
)
def test_a_bootstrap_that_says_nothing_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap([Contributions(np.zeros((1, 3)))], **settings)
