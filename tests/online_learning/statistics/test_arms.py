from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_learning.statistics.arms import ArmStatistics
from online_learning.statistics.linear import LinearStatistics

DIM, N = 3, 40
HALF_LIVES = st.sampled_from([None, 1, 700, 10_000])


def log(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, arms, times and rewards; the offset of a row is its number."""
    rng = np.random.default_rng(seed)
    arms = rng.integers(0, 5, N).astype(np.uint64) + np.uint64(2**63)
    return rng.normal(size=(N, DIM)), arms, rng.integers(0, 50_000, N), rng.normal(size=N)


def fold(statistics: ArmStatistics, seed: int, rows: slice | np.ndarray = slice(None)) -> ArmStatistics:
    features, arms, times, rewards = (column[rows] for column in log(seed))
    where = {"arms": arms, "times_ms": times, "offsets": np.arange(N)[rows]}
    statistics.add_impressions(features, **where)
    statistics.add_rewards(features, rewards, **where)
    return statistics


def test_each_arm_has_the_sums_of_its_own_rows() -> None:
    features, arms, times, rewards = log(0)
    statistics = fold(ArmStatistics(DIM, half_life_ms=9_000), 0)
    for slot, arm in enumerate(statistics.arms):
        own = LinearStatistics(DIM, half_life_ms=9_000)
        own.add_impressions(features[arms == arm], times_ms=times[arms == arm])
        own.add_rewards(features[arms == arm], rewards[arms == arm], times_ms=times[arms == arm])
        later = 2.0 ** ((own.latest_ms - statistics.latest_ms) / 9_000)  # all arms are read at one time
        np.testing.assert_allclose(statistics.gram[slot], own.gram * later, rtol=1e-12)
        np.testing.assert_allclose(statistics.moment[slot], own.moment * later, rtol=1e-12)
    assert statistics.counts.sum() == 2 * N


@given(seed=st.integers(0, 50), cut=st.integers(0, N), half_life=HALF_LIVES)
def test_saving_resuming_and_reading_again_change_nothing(seed: int, cut: int, half_life: int | None) -> None:
    whole = fold(ArmStatistics(DIM, half_life_ms=half_life), seed)
    part = fold(ArmStatistics(DIM, half_life_ms=half_life), seed, slice(cut))
    resumed = ArmStatistics.from_bytes(part.to_bytes(), dim=DIM, feature_space="", half_life_ms=half_life)
    assert fold(resumed, seed).to_bytes() == whole.to_bytes()  # all of it again, from the beginning


def test_a_copy_goes_its_own_way_and_counts_as_new_to_whoever_takes_from_it() -> None:
    statistics = fold(ArmStatistics(DIM, half_life_ms=700), 3, slice(30))
    statistics.take_rows()
    while statistics.take_changes(100) is not None:
        pass
    statistics.forget([int(statistics.arms[0])])
    before, copy = statistics.to_bytes(), statistics.copy()
    assert copy == statistics
    assert copy.take_rows() == []
    assert copy.take_changes(100) == statistics
    fold(copy, 4)
    assert statistics.to_bytes() == before
    assert copy == fold(statistics, 4)


@given(seed=st.integers(0, 50), saved=st.lists(st.integers(0, N), min_size=1, max_size=4))
def test_rows_saved_at_different_times_are_made_whole_by_reading_the_log_again(
    seed: int, saved: list[int]
) -> None:
    live, changelog = ArmStatistics(DIM, half_life_ms=700), {}
    edges = [0, *sorted(saved)]
    for first, last in zip(edges[:-1], edges[1:], strict=True):
        changelog.update(fold(live, seed, slice(first, last)).take_rows())
    restored = ArmStatistics(DIM, half_life_ms=700)
    for row in changelog.values():
        restored.load_row(row)
    assert fold(restored, seed) == fold(live, seed, slice(edges[-1], N))


@given(seed=st.integers(0, 50), partition=st.lists(st.integers(0, 2), min_size=N, max_size=N))
def test_merged_partitions_equal_one_stream_in_any_order(seed: int, partition: list[int]) -> None:
    parts = [
        fold(ArmStatistics(DIM, half_life_ms=700), seed, np.flatnonzero(np.array(partition) == p))
        for p in range(3)
    ]
    whole = fold(ArmStatistics(DIM, half_life_ms=700), seed)
    forth, back = parts[0] + parts[1] + parts[2], parts[2] + (parts[1] + parts[0])
    order = np.argsort(whole.arms)
    for merged in (forth, back):
        np.testing.assert_array_equal(merged.arms, whole.arms[order])
        np.testing.assert_allclose(merged.gram, whole.gram[order], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(merged.moment, whole.moment[order], rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(merged.counts, whole.counts[:, order])


def test_only_what_changed_is_saved_again() -> None:
    statistics = fold(ArmStatistics(DIM), 0)
    assert {arm for arm, _ in statistics.take_rows()} == set(statistics.arms.tolist())
    assert statistics.take_rows() == []
    statistics.add_impressions(np.ones((1, DIM)), arms=statistics.arms[2:3])
    assert [arm for arm, _ in statistics.take_rows()] == [int(statistics.arms[2])]


def test_arms_must_be_given_for_every_row() -> None:
    with pytest.raises(ValueError, match=r"arms must have shape \(2,\) as the features, got None"):
        ArmStatistics(DIM).add_impressions(np.ones((2, DIM)))
    with pytest.raises(ValueError, match=r"arms must have shape \(2,\) as the features, got \(3,\)"):
        ArmStatistics(DIM).add_rewards(np.ones((2, DIM)), np.ones(2), arms=np.zeros(3, np.uint64))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, 2, "schema version 1, got 2"),
        (2, 7, "dim 3, got 7"),
        (4, 5, "half_life_ms must be None, got 5"),
        (5, (-1, 0), r"Expected `int` >= 0 - at `\$\[5\]"),
        (8, b"", "gram must have 48 bytes"),
        (9, np.full(DIM, np.nan).tobytes(), "moment must be finite"),
    ],
)
def test_a_bad_row_is_refused_with_the_reason(at: int, value: object, message: str) -> None:
    _, row = fold(ArmStatistics(DIM), 0).take_rows()[0]
    fields = msgspec.msgpack.decode(row)
    fields[at] = value
    with pytest.raises(ValueError, match=message):
        ArmStatistics(DIM).load_row(msgspec.msgpack.encode(fields))


def test_a_row_of_another_release_is_left_alone() -> None:
    statistics = ArmStatistics(DIM, feature_space="release-2")
    assert not any(statistics.load_row(row) for _, row in fold(ArmStatistics(DIM), 0).take_rows())
    assert len(statistics.arms) == 0
    with pytest.raises(ValueError, match="feature_space 'release-2', got another"):
        ArmStatistics.from_bytes(fold(ArmStatistics(DIM), 0).to_bytes(), dim=DIM, feature_space="release-2")


def test_bytes_that_are_no_row_or_snapshot_are_refused() -> None:
    with pytest.raises(ValueError, match="not a row of arm statistics"):
        ArmStatistics(DIM).load_row(b"\xc1")
    with pytest.raises(ValueError, match="not a statistics snapshot"):
        ArmStatistics.from_bytes(b"\xc1", dim=DIM, feature_space="")


def test_a_row_from_before_impressions_were_amended_is_read() -> None:
    statistics = ArmStatistics(DIM)
    statistics.add_impressions(np.ones((1, DIM)), arms=np.array([5], np.uint64), offsets=3)
    ((_, row),) = statistics.take_rows()
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(row)[:10])
    again = ArmStatistics(DIM)
    assert again.load_row(old)
    assert again == statistics


def test_rows_that_were_not_saved_are_given_again() -> None:
    statistics = fold(ArmStatistics(DIM), 0)
    taken = statistics.take_rows()
    statistics.put_back(arm for arm, _ in taken[:2])
    assert sorted(statistics.take_rows()) == sorted(taken[:2])


def elements_moved(monkeypatch: pytest.MonkeyPatch, rows: list[bytes]) -> int:
    """How many elements the functions of numpy that cost more the more arms there are have been given."""
    moved = 0

    def counted(name: str) -> Callable[..., Any]:
        plain = getattr(np, name)

        def count(*given: Any, **options: Any) -> Any:
            nonlocal moved
            moved += sum(np.size(part) for part in (given[0] if name == "concatenate" else given))
            return plain(*given, **options)

        return count

    with monkeypatch.context() as patched:
        for name in ("concatenate", "argsort", "searchsorted", "flatnonzero", "unique", "sort"):
            patched.setattr(np, name, counted(name))
        ArmStatistics(DIM).load_rows(rows)
    return moved


def test_loading_twice_as_many_rows_moves_twice_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = ArmStatistics(DIM)
    arms = np.arange(4096, dtype=np.uint64)[::-1].copy()
    statistics.add_impressions(np.ones((4096, DIM)), arms=arms)
    rows = [row for _, row in statistics.take_rows()]
    half, whole = (elements_moved(monkeypatch, rows[:n]) for n in (2048, 4096))
    assert 0 < whole < 2.2 * half


def test_forgotten_arms_are_gone_and_the_others_are_as_they_were() -> None:
    rng = np.random.default_rng(3)
    rows, arms = rng.normal(size=(60, 2)), np.arange(60, dtype=np.uint64) % 9
    whole, rest = ArmStatistics(2, half_life_ms=1_000), ArmStatistics(2, half_life_ms=1_000)
    kept = ~np.isin(arms, [0, 4, 8])
    for one, chosen in ((whole, slice(None)), (rest, kept)):
        one.add_impressions(rows[chosen], arms=arms[chosen], times_ms=5_000, offsets=np.arange(60)[chosen])
    whole.forget([4, 0, 8, 77])
    assert whole == rest
    assert (sorted(whole.parts.tolist()), whole.n_forgotten) == ([1, 2, 3, 5, 6, 7], 3)
    whole.add_impressions(rows[:1], arms=[4], times_ms=6_000, offsets=3)  # it begins anew
    rest.add_impressions(rows[:1], arms=[4], times_ms=6_000, offsets=3)
    assert whole == rest
