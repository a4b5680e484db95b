"""What is spent of budgets: counted once, by days, and as its rows say."""

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest

from streams.state.item_index import key_of
from streams.state.spending import Day, Spending, SpentThrough, read_spend, spend_key

HOUR = 3_600_000
NOON = 1_764_590_400_000  # 2025-12-01 12:00 UTC


def spending(by="", wants=lambda key: True):
    return Spending(3, by=by, code=-1 if not by else 1, zone=UTC, wants=wants)


def counts(part, *names):
    return [part.counts.get(key_of(name), 0) for name in names]


def test_days_are_as_long_as_their_time_zone_says():
    day = Day.at(NOON, UTC)
    assert (NOON - day.begin_ms, day.end_ms - NOON) == (12 * HOUR, 12 * HOUR)
    berlin = ZoneInfo("Europe/Berlin")
    spring = Day.at(1_774_749_600_000, berlin)  # 2026-03-29, when an hour is left out
    assert spring.end_ms - spring.begin_ms == 23 * HOUR
    assert Day.at(spring.end_ms, berlin).number == spring.number + 1
    assert Day.at(spring.end_ms - 1, berlin) == spring


def test_a_slate_that_is_read_again_spends_nothing():
    part = spending()
    part.count_slate(["a", "b"], time_ms=NOON, offset=4)
    part.count_slate(["a"], time_ms=NOON + 1, offset=5)
    part.count_slate(["a", "b"], time_ms=NOON, offset=4)
    assert counts(part, "a", "b") == [2, 1]
    assert part.changed == {key_of("a"), key_of("b")}


def test_another_day_begins_at_nothing_and_one_that_is_over_counts_no_more():
    part = spending()
    part.count_slate(["a"], time_ms=NOON, offset=0)
    part.count_slate(["b"], time_ms=NOON + 24 * HOUR, offset=1)
    part.count_slate(["a"], time_ms=NOON, offset=2)
    assert counts(part, "a", "b") == [0, 1]


def test_rows_bring_back_the_counts_and_those_of_other_days_are_deleted():
    part = spending()
    part.count_slate(["a", "b", "a"], time_ms=NOON, offset=7)
    rows = dict(part.take().rows)
    assert part.take().rows == []
    other = spending()
    other.load(rows.items())
    assert other.offset == 7
    assert other.counts == part.counts
    assert (other.day, other.take().rows) == (part.day, [])
    other.count_slate(["c"], time_ms=NOON + 24 * HOUR, offset=8)
    later = dict(other.take().rows)
    assert later[spend_key(3, key_of("a"))] is None
    assert later[spend_key(3, key_of("b"))] is None
    assert read_spend(spend_key(3), later[spend_key(3)]) == SpentThrough(1, "", 8)


def test_rows_that_were_not_written_are_taken_again():
    part = spending()
    part.count_slate(["a"], time_ms=NOON, offset=0)
    taken = part.take()
    part.count_slate(["b"], time_ms=NOON, offset=1)
    taken.put_back()
    assert {key for key, _ in part.take().rows} == {
        spend_key(3), spend_key(3, key_of("a")), spend_key(3, key_of("b")),
    }  # fmt: skip


def test_counts_of_what_does_not_spend_any_more_are_left_out():
    part = spending()
    part.count_slate(["a"], time_ms=NOON, offset=0)
    other = spending(by="click")
    other.load(dict(part.take().rows).items())
    assert (other.counts, other.offset) == ({}, -1)
    rows = dict(other.take().rows)
    assert rows.pop(spend_key(3, key_of("a"))) is None
    assert {key: read_spend(key, value) for key, value in rows.items()} == {
        spend_key(3): SpentThrough(1, "click", -1)
    }


def test_rows_of_another_worker_only_add_and_a_damaged_one_is_refused():
    mine, theirs = spending(), spending()
    theirs.count_slate(["a"], time_ms=NOON, offset=0)
    old = theirs.take().rows
    theirs.count_slate(["a"], time_ms=NOON, offset=1)
    for key, value in [*theirs.take().rows, *old]:
        mine.on_row(key, value)
    assert counts(mine, "a") == [2]
    mine.begin(NOON + 24 * HOUR)
    for key, value in old:
        mine.on_row(key, value)
    assert counts(mine, "a") == [0]
    with pytest.raises(ValueError, match="policy-state row of spending"):
        mine.on_row(spend_key(3, 1), b"\x93\x01")


def test_only_what_is_wanted_is_counted():
    part = spending(wants=lambda key: key == key_of("a"))
    part.count_slate(["a", "b"], time_ms=NOON, offset=0)
    assert part.counts == {key_of("a"): 1}
