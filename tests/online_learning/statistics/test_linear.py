import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.statistics.linear import SCHEMA_VERSION, LinearStatistics

DIM = 5


def observations(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, DIM)).astype(np.float32), rng.normal(size=n)


def filled(seed: int, feature_space: str = "") -> LinearStatistics:
    features, rewards = observations(seed)
    statistics = LinearStatistics(DIM, feature_space=feature_space)
    statistics.add_impressions(features)
    statistics.add_rewards(features[:20], rewards[:20])
    return statistics


def test_sums_are_those_of_the_formula() -> None:
    features, rewards = observations(0)
    statistics = LinearStatistics(DIM)
    assert statistics.add_impressions(features) == 60
    assert statistics.add_rewards(features[10:30], rewards[10:30]) == 20
    x = features.astype(np.float64)
    np.testing.assert_allclose(statistics.gram, x.T @ x, rtol=1e-12)
    np.testing.assert_allclose(statistics.moment, x[10:30].T @ rewards[10:30], rtol=1e-12)
    assert (statistics.impressions, statistics.rewards) == (60, 20)


@given(cuts=st.lists(st.integers(0, 60), max_size=8), seed=st.integers(0, 100))
def test_any_batching_gives_the_same_bits(cuts: list[int], seed: int) -> None:
    features, rewards = observations(seed)
    whole, pieces = LinearStatistics(DIM), LinearStatistics(DIM)
    whole.add_impressions(features)
    whole.add_rewards(features, rewards)
    edges = [0, *sorted(cuts), 60]
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        pieces.add_impressions(features[start:end])
        pieces.add_rewards(features[start:end], rewards[start:end])
    assert pieces.to_bytes() == whole.to_bytes()


@given(partition=st.lists(st.integers(0, 3), min_size=60, max_size=60))
def test_merged_partitions_equal_one_stream(partition: list[int]) -> None:
    features, rewards = observations(1)
    whole = LinearStatistics(DIM)
    whole.add_impressions(features)
    whole.add_rewards(features, rewards)
    merged = LinearStatistics(DIM)
    for p in range(4):
        rows = np.array(partition) == p
        part = LinearStatistics(DIM)
        part.add_impressions(features[rows])
        part.add_rewards(features[rows], rewards[rows])
        merged = merged + part
    np.testing.assert_allclose(merged.gram, whole.gram, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(merged.moment, whole.moment, rtol=1e-12, atol=1e-12)
    assert (merged.impressions, merged.rewards) == (whole.impressions, whole.rewards)


def test_adding_makes_new_statistics_and_keeps_the_old() -> None:
    a, b = filled(1), filled(2)
    before = a.to_bytes(), b.to_bytes()
    total = a + b
    total.add_impressions(np.ones((1, DIM), np.float32))
    assert (a.to_bytes(), b.to_bytes()) == before


def test_a_copy_shares_nothing() -> None:
    statistics = filled(1)
    copy = statistics.copy()
    assert copy == statistics
    copy.add_impressions(np.ones((1, DIM), np.float32))
    assert copy != statistics


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_and_rewards_that_are_not_finite_are_left_out_and_not_counted(bad: float) -> None:
    features, rewards = observations(3, n=4)
    expected = LinearStatistics(DIM)
    expected.add_impressions(features[[0, 2, 3]])
    expected.add_rewards(features[[0, 3]], rewards[[0, 3]])
    spoilt, spoilt_rewards = features.copy(), rewards.copy()
    spoilt[1, 2] = bad
    spoilt_rewards[2] = bad
    statistics = LinearStatistics(DIM)
    assert statistics.add_impressions(spoilt) == 3
    assert statistics.add_rewards(spoilt, spoilt_rewards) == 2
    assert statistics == expected


def test_rows_too_large_to_square_are_left_out() -> None:
    statistics = LinearStatistics(2)
    assert statistics.add_impressions(np.array([[1e200, 0.0], [1.0, 2.0]])) == 1
    assert statistics.add_rewards(np.array([[1e200, 0.0], [1.0, 2.0]]), np.array([1.0, 1.0])) == 1
    assert np.isfinite(statistics.gram).all()


@given(seed=st.integers(0, 20), more=st.integers(0, 60))
def test_saving_and_resuming_changes_nothing(seed: int, more: int) -> None:
    features, rewards = observations(seed + 100)
    live = filled(seed, "release-3")
    resumed = LinearStatistics.from_bytes(live.to_bytes(), dim=DIM, feature_space="release-3")
    assert resumed == live
    for statistics in (live, resumed):
        statistics.add_impressions(features[:more])
        statistics.add_rewards(features[:more], rewards[:more])
    assert resumed.to_bytes() == live.to_bytes()


def test_wrong_shapes_are_refused() -> None:
    statistics = LinearStatistics(DIM)
    with pytest.raises(ValueError, match=r"features must have shape \(n, 5\), got \(3, 4\)"):
        statistics.add_impressions(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"features must have shape \(n, 5\), got \(5,\)"):
        statistics.add_impressions(np.zeros(5))
    with pytest.raises(ValueError, match=r"rewards must have shape \(3,\) as the features, got \(2,\)"):
        statistics.add_rewards(np.zeros((3, DIM)), np.zeros(2))
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        LinearStatistics(0)


def test_statistics_of_other_features_do_not_add() -> None:
    with pytest.raises(ValueError, match="statistics must have dim 5, got 4"):
        LinearStatistics(DIM) + LinearStatistics(4)
    with pytest.raises(ValueError, match="feature_space 'a', got 'b'"):
        LinearStatistics(DIM, feature_space="a") + LinearStatistics(DIM, feature_space="b")


def test_a_snapshot_of_other_features_is_refused() -> None:
    data = filled(1, "release-1").to_bytes()
    with pytest.raises(ValueError, match="statistics must have dim 7, got 5"):
        LinearStatistics.from_bytes(data, dim=7)
    with pytest.raises(ValueError, match="feature_space 'release-2', got 'release-1'"):
        LinearStatistics.from_bytes(data, feature_space="release-2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v": SCHEMA_VERSION + 1}, "schema version 2, got 3"),
        ({"v": None}, "schema version 2, got None"),
        ({"gram": b"\0" * 8}, "gram must have 120 bytes .* got 8"),
        ({"moment": np.full(DIM, np.nan).tobytes()}, "moment must be finite"),
        ({"impressions": -1}, r"Expected `int` >= 0 - at `\$.impressions`"),
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"dim": "5"}, "not a statistics snapshot: Expected `int`, got `str`"),
    ],
)
def test_a_bad_snapshot_is_refused_with_the_reason(change: dict[str, object], message: str) -> None:
    fields = msgspec.msgpack.decode(filled(1).to_bytes())
    with pytest.raises(ValueError, match=message):
        LinearStatistics.from_bytes(msgspec.msgpack.encode(fields | change))


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode([1, 2])])
def test_bytes_that_are_no_snapshot_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a statistics snapshot"):
        LinearStatistics.from_bytes(data)


def decayed(seed: int, half_life: int, rows: np.ndarray | slice = slice(None)) -> LinearStatistics:
    features, rewards = observations(seed)
    times = np.random.default_rng(seed).integers(0, 10_000, 60)
    statistics = LinearStatistics(DIM, half_life_ms=half_life)
    statistics.add_impressions(features[rows], times_ms=times[rows])
    statistics.add_rewards(features[rows], rewards[rows], times_ms=times[rows])
    return statistics


HALF_LIVES = st.sampled_from([1, 13, 900, 100_000])


@given(seed=st.integers(0, 50), half_life=st.sampled_from([13, 900, 100_000]))
def test_an_observation_weighs_half_as_much_after_each_half_life(seed: int, half_life: int) -> None:
    features, rewards = observations(seed)
    times = np.random.default_rng(seed).integers(0, 10_000, 60)
    statistics = decayed(seed, half_life)
    weights = 2.0 ** ((times - times.max()) / half_life)
    x = features.astype(np.float64)
    np.testing.assert_allclose(statistics.gram, (x * weights[:, None]).T @ x, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(statistics.moment, x.T @ (weights * rewards), rtol=1e-9, atol=1e-12)
    assert statistics.latest_ms == times.max()


@given(seed=st.integers(0, 50), half_life=HALF_LIVES, cuts=st.lists(st.integers(0, 60), max_size=6))
def test_forgetting_gives_the_same_bits_however_cut_and_saved(
    seed: int, half_life: int, cuts: list[int]
) -> None:
    features, _ = observations(seed)
    times = np.random.default_rng(seed).integers(0, 10_000, 60)
    whole = LinearStatistics(DIM, half_life_ms=half_life)
    whole.add_impressions(features, times_ms=times)
    pieces = LinearStatistics(DIM, half_life_ms=half_life)
    edges = [0, *sorted(cuts), 60]
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        pieces.add_impressions(features[first:last], times_ms=times[first:last])
        pieces = LinearStatistics.from_bytes(pieces.to_bytes())
    assert pieces.to_bytes() == whole.to_bytes()


@given(
    seed=st.integers(0, 50),
    half_life=HALF_LIVES,
    partition=st.lists(st.integers(0, 2), min_size=60, max_size=60),
)
def test_forgetting_partitions_merge_in_any_order(seed: int, half_life: int, partition: list[int]) -> None:
    a, b, c = (decayed(seed, half_life, np.array(partition) == p) for p in range(3))
    whole = decayed(seed, half_life)
    assert a + b == b + a
    for merged in (a + b + c, c + (b + a)):
        np.testing.assert_allclose(merged.gram, whole.gram, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(merged.moment, whole.moment, rtol=1e-11, atol=1e-12)
        assert (merged.impressions, merged.latest_ms) == (whole.impressions, whole.latest_ms)


def test_a_time_long_past_every_half_life_leaves_nothing_and_breaks_nothing() -> None:
    statistics = LinearStatistics(2, half_life_ms=1)
    statistics.add_impressions(np.array([[5.0, 1.0]]), times_ms=0)
    statistics.add_impressions(np.array([[1.0, 2.0]]), times_ms=10**12)
    statistics.add_impressions(np.array([[9.0, 9.0]]), times_ms=0)
    np.testing.assert_array_equal(statistics.gram, [[1.0, 2.0], [2.0, 4.0]])


def test_forgetting_needs_the_times() -> None:
    with pytest.raises(ValueError, match="half_life_ms must be at least 1, got 0"):
        LinearStatistics(DIM, half_life_ms=0)
    statistics = LinearStatistics(DIM, half_life_ms=5)
    with pytest.raises(ValueError, match="times_ms must be given with a half-life, got None"):
        statistics.add_impressions(np.ones((2, DIM)))
    with pytest.raises(ValueError, match=r"times_ms must have shape \(2,\) as the features, got \(3,\)"):
        statistics.add_impressions(np.ones((2, DIM)), times_ms=np.zeros(3, int))
    with pytest.raises(ValueError, match="half_life_ms must be 5 to be added, got None"):
        statistics + LinearStatistics(DIM)


def test_a_snapshot_of_the_first_schema_is_read() -> None:
    statistics = filled(1, "release-1")
    fields = msgspec.msgpack.decode(statistics.to_bytes())
    old = {key: fields[key] for key in ("dim", "feature_space", "impressions", "rewards", "moment")}
    data = msgspec.msgpack.encode({"v": 1, "gram": statistics.gram.tobytes(), **old})
    assert LinearStatistics.from_bytes(data) == statistics


def test_an_item_looked_at_half_as_often_is_half_an_impression() -> None:
    features, _ = observations(4)
    statistics = LinearStatistics(DIM)
    assert statistics.add_impressions(features, weights=np.full(60, 0.5)) == 60
    x = features.astype(np.float64)
    np.testing.assert_allclose(statistics.gram, 0.5 * x.T @ x, rtol=1e-12)
    with pytest.raises(ValueError, match="weights must be at least 0, got -1.0"):
        statistics.add_impressions(features[:1], weights=np.array([-1.0]))
    with pytest.raises(ValueError, match=r"weights must have shape \(1,\) as the features, got \(2,\)"):
        statistics.add_impressions(features[:1], weights=np.ones(2))


@pytest.mark.parametrize("half_life_ms", [None, 1_000])
def test_an_impression_that_is_taken_back_leaves_the_sums_as_if_it_had_never_been(
    half_life_ms: int | None,
) -> None:
    features, _ = observations(7)
    times = np.arange(60) * 100
    statistics, without = (LinearStatistics(DIM, half_life_ms=half_life_ms) for _ in range(2))
    statistics.add_impressions(features, times_ms=times)
    assert statistics.amend_impressions(features[:50], np.full(50, -1.0), times_ms=times[:50]) == 50
    without.add_impressions(features[50:], times_ms=times[50:])
    np.testing.assert_allclose(statistics.gram, without.gram, rtol=1e-9, atol=1e-12)
    assert statistics.impressions == 60  # of those shown, which is what the version counts
    statistics.amend_impressions(features[:50], np.ones(50), times_ms=times[:50])
    without.add_impressions(features[:50], times_ms=times[:50])
    np.testing.assert_allclose(statistics.gram, without.gram, rtol=1e-9)
    with pytest.raises(ValueError, match=r"weights must have shape \(50,\) as the features, got \(49,\)"):
        statistics.amend_impressions(features[:50], np.ones(49), times_ms=times[:50])
