import msgspec
import numpy as np
import pytest

from online_learning.statistics.position_bias import POSITIONS, PositionStatistics, examination, power_law

TRUTH = np.array([1.0, 0.68, 0.60, 0.50, 0.40, 0.33, 0.29, 0.25, 0.20, 0.17])


def simulated(order: str, n: int, seed: int, calibration: float = 1.0) -> PositionStatistics:
    """Slates of ten out of thirty, clicked as the position-based model says; relevance varies by request."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(-2.5, 1.0, (n, 1)) + rng.normal(0.0, 1.2, (n, 30))
    key = {"random": rng.random((n, 30)), "by score": -odds}[order]
    scores = 1.0 / (1.0 + np.exp(-np.take_along_axis(odds, np.argsort(key, axis=1), axis=1)[:, :10]))
    taken = rng.random((n, 10)) < TRUTH * calibration * scores
    statistics = PositionStatistics()
    for row in range(n):
        statistics.add(scores[row], taken[row])
    return statistics


@pytest.mark.parametrize("order", ["random", "by score"])
@pytest.mark.parametrize("calibration", [1.0, 0.5])
def test_the_true_curve_is_found_whatever_the_order_and_the_scale_of_the_scores(
    order: str, calibration: float
) -> None:
    found = examination(simulated(order, 10_000, 1, calibration), 10)
    np.testing.assert_allclose(found, TRUTH, atol=0.12)
    naive = simulated("by score", 10_000, 1)
    ctr = (naive.taken.sum(axis=1) / naive.shown.sum(axis=1).clip(1))[:10]
    assert np.abs(ctr / ctr[0] - TRUTH).max() > 0.15  # clicks alone, which mix it with relevance, do not


@pytest.mark.parametrize("taken", [False, True])
def test_without_contrast_positions_are_taken_to_be_looked_at_alike(taken: bool) -> None:
    statistics = PositionStatistics()
    for _ in range(200):
        statistics.add(np.full(5, 0.1), np.full(5, taken))
    np.testing.assert_allclose(examination(statistics, 25), 1.0, atol=1e-3)
    np.testing.assert_array_equal(examination(PositionStatistics(), 25), 1.0)


def test_a_position_that_shares_no_scores_with_the_others_is_left_to_the_prior() -> None:
    rng = np.random.default_rng(2)
    statistics = PositionStatistics()
    for _ in range(2_000):
        statistics.add(np.array([0.9, 0.001]), rng.random(2) < [0.5, 0.05])
    np.testing.assert_allclose(examination(statistics, 2), 1.0, atol=0.05)


def test_what_is_found_lies_between_nothing_and_the_first_position() -> None:
    found = examination(simulated("random", 50, 3), POSITIONS + 10)
    assert found[0] == 1.0
    assert ((found > 0.0) & (found <= 1.0)).all()
    assert (found[POSITIONS:] == found[POSITIONS - 1]).all()


def test_partitions_add_up_and_a_snapshot_is_exact() -> None:
    whole, first, second = PositionStatistics(), PositionStatistics(), PositionStatistics()
    rng = np.random.default_rng(4)
    for number in range(40):
        scores, taken = rng.random(25), rng.random(25) < 0.3
        whole.add(scores, taken)
        (first if number % 3 else second).add(scores, taken)
    assert first + second == whole != first
    assert PositionStatistics.from_bytes(whole.to_bytes()) == whole
    assert PositionStatistics.from_bytes(b"") == PositionStatistics()


def test_a_score_that_is_not_finite_is_left_out_and_the_others_keep_their_positions() -> None:
    statistics = PositionStatistics()
    statistics.add(np.array([np.nan, 0.5, 1.0]), np.array([True, True, False]))
    assert statistics.shown.sum(axis=1)[:3].tolist() == [0, 1, 1]
    assert statistics.taken.sum(axis=1)[:3].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([2, [0], [0]], "schema version 1, got 2"),
        ([1, [0], [0]], "1280 cells, got 1, 1"),
        ([1, [0] * 1280, [1] * 1280], "0 <= taken <= shown"),
    ],
)
def test_what_is_no_snapshot_is_refused(values: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PositionStatistics.from_bytes(msgspec.msgpack.encode(values))
    with pytest.raises(ValueError, match="not a snapshot of position statistics"):
        PositionStatistics.from_bytes(b"\xc1")


def test_slates_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores and taken must be of one length, got \(2,\), \(3,\)"):
        PositionStatistics().add(np.zeros(2), np.zeros(3, bool))


def test_a_power_law_falls_with_the_position() -> None:
    np.testing.assert_allclose(power_law(1.0, 3), [1.0, 1 / 2, 1 / 3])
    np.testing.assert_array_equal(power_law(0.0, 4), 1.0)
