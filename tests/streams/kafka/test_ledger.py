import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.ledger import CommitLedger

TP = ("clicks", 0)


def test_nothing_is_committable_while_the_first_range_is_open() -> None:
    ledger = CommitLedger()
    epoch = ledger.open(TP, 9)
    ledger.open(TP, 19)
    ledger.complete(TP, 19, epoch)
    assert ledger.committable(TP) is None
    ledger.complete(TP, 9, epoch)
    assert ledger.committable(TP) == 20


def test_a_hole_in_the_log_is_covered_by_the_range_after_it() -> None:
    ledger = CommitLedger()
    epoch = ledger.open(TP, 4)
    ledger.open(TP, 1_000)  # offsets 5 to 990 were compacted away
    ledger.complete(TP, 4, epoch)
    ledger.complete(TP, 1_000, epoch)
    assert ledger.committable(TP) == 1_001


def test_a_failed_commit_is_offered_again() -> None:
    ledger = CommitLedger()
    ledger.complete(TP, 4, ledger.open(TP, 4))
    assert ledger.committable(TP) == 5
    assert ledger.committable(TP) == 5
    ledger.mark_committed({TP: 5})
    assert ledger.committable(TP) is None


def test_work_from_before_a_rebalance_completes_nothing() -> None:
    ledger = CommitLedger()
    stale = ledger.open(TP, 9)
    ledger.forget([TP])
    fresh = ledger.open(TP, 9)
    ledger.complete(TP, 9, stale)
    assert ledger.committable(TP) is None
    assert not ledger.is_current(TP, stale)
    assert ledger.is_current(TP, fresh)
    ledger.complete(TP, 9, fresh)
    assert ledger.committable(TP) == 10


def test_ranges_that_go_back_are_refused() -> None:
    ledger = CommitLedger()
    ledger.open(TP, 9)
    with pytest.raises(ValueError, match="must end after offset 9, got 9"):
        ledger.open(TP, 9)


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=20),
    data=st.data(),
)
def test_the_committable_offset_is_the_end_of_the_longest_complete_prefix(
    sizes: list[int], data: st.DataObject
) -> None:
    ledger = CommitLedger()
    lasts = [sum(sizes[: n + 1]) - 1 for n in range(len(sizes))]
    epoch = [ledger.open(TP, last) for last in lasts][0]
    complete: set[int] = set()
    for chosen in data.draw(st.permutations(range(len(lasts)))):
        ledger.complete(TP, lasts[chosen], epoch)
        complete.add(chosen)
        prefix = next((n for n in range(len(lasts)) if n not in complete), len(lasts))
        assert ledger.committable(TP) == (lasts[prefix - 1] + 1 if prefix else None)
    assert not ledger._books[TP].ranges


@given(st.lists(st.integers(1, 100), min_size=1, max_size=20), st.integers(0, 2_000))
def test_completing_through_an_offset_completes_only_whole_ranges(sizes: list[int], through: int) -> None:
    ledger = CommitLedger()
    lasts = [sum(sizes[: n + 1]) - 1 for n in range(len(sizes))]
    epoch = [ledger.open(TP, last) for last in lasts][0]
    ledger.complete_through(TP, through, epoch)
    whole = [last for last in lasts if last <= through]
    assert ledger.committable(TP) == (whole[-1] + 1 if whole else None)
