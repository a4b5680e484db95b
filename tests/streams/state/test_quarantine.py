"""Clicks of users in quarantine: in their histories, and in nothing that users share."""

import random

import pytest

from model_core.robust.influence import Bound
from model_core.signals.co_visitation import CoVisitation
from streams.durability.digest import digest, fold_batch
from streams.durability.held_clicks import HeldClicks
from streams.events import Click
from streams.kafka.columns import RecordColumns
from streams.state.fold_kernels import HELD, REPLAYED
from streams.state.item_index import ItemIndex
from streams.state.log_bases import LogsRow
from streams.state.profiles import Profiles
from streams.state.quarantine import FOR_EVER, Quarantine
from streams.state.rows import (
    ACTIONS_KEY,
    SCHEMA_VERSION,
    Actions,
    Quarantined,
    encode,
    quarantine_key,
)

ACTIONS = ("view", "like")
WINDOW = 4
START = 1_000_000_000_000


BOUNDS = (Bound(), Bound.of(5, kept=497, window=WINDOW))


def make(bound):
    profiles = Profiles(0, history_limit=512, actions=ACTIONS, positive=("like",))
    return profiles, CoVisitation(neighbours=16, window=WINDOW, bound=bound), ItemIndex()


def click(offset, user, item, action):
    return offset, Click(
        event_id=f"e{offset}", user_id=user, item_id=item, action=action, timestamp_ms=START + offset
    )


def shared(covisits, index):
    return digest(index, {}, {0: covisits})


def rows(seed, n, users=("a", "b", "suspect")):
    draw = random.Random(seed)
    return [(draw.choice(users), f"i{draw.randrange(12)}", draw.choice(ACTIONS)) for _ in range(n)]


@pytest.mark.parametrize(
    "bound", [Bound(), Bound.of(5, kept=497, window=WINDOW)], ids=["unbounded", "bounded"]
)
@pytest.mark.parametrize("seed", range(4))
def test_what_is_held_is_as_if_it_had_not_been_and_what_follows_as_if_by_somebody_new(seed, bound):
    log = [click(3 * n, *row) for n, row in enumerate(rows(seed, 240))]
    begin, end = 3 * 80, 3 * 160  # of the suspect's clicks, more than a window are held
    profiles, covisits, index = make(bound)
    fold_batch(profiles, covisits, index, log[:80])
    assert profiles.quarantine.hold("suspect", profiles.row_of("suspect"), begin, now_ms=1, why="test")
    outcomes = fold_batch(profiles, covisits, index, log[80:160])
    assert profiles.quarantine.release("suspect", end)
    outcomes += fold_batch(profiles, covisits, index, log[160:])

    without, expected, names = make(bound)
    for offset, event in log:
        if event.user_id != "suspect" or offset < begin:
            fold_batch(without, expected, names, [(offset, event)])
        elif offset >= end and not bound.depth:  # with a bound, what is held is remembered as had
            fold_batch(without, expected, names, [click(offset, "new", event.item_id, event.action)])
    of_suspect = [event.user_id == "suspect" for _, event in log[80:]]
    assert [one == HELD for one in outcomes] == [held and n < 80 for n, held in enumerate(of_suspect)]
    if bound.depth:
        profiles, covisits, index = make(bound)
        profiles.quarantine.hold("suspect", -1, begin, now_ms=1, why="test")
        fold_batch(profiles, covisits, index, log)
    assert shared(covisits, index) == shared(expected, names)


@pytest.mark.parametrize(
    "bound", [Bound(), Bound.of(5, kept=497, window=WINDOW)], ids=["unbounded", "bounded"]
)
def test_clicks_that_are_read_again_for_items_count_as_the_first_time(bound):
    log = [click(3 * n, *row) for n, row in enumerate(rows(7, 200))]
    profiles, covisits, index = make(bound)
    profiles.quarantine.hold("suspect", -1, 3 * 50, now_ms=1, why="test")
    profiles.quarantine.release("suspect", 3 * 120)
    fold_batch(profiles, covisits, index, log)
    again = CoVisitation(neighbours=16, window=WINDOW, bound=bound)
    again.grow(index.keys)
    assert set(fold_batch(profiles, again, index, log)) == {REPLAYED}
    assert shared(again, index) == shared(covisits, index)


def test_a_row_that_another_user_gets_is_not_held_and_who_comes_back_is():
    profiles, covisits, index = make(Bound())
    fold_batch(profiles, covisits, index, [click(0, "suspect", "i", "like")])
    row = profiles.row_of("suspect")
    profiles.quarantine.hold("suspect", row, 1, now_ms=1, why="test")
    profiles.erase("suspect")
    assert [(mark.user_id, mark.why) for mark in profiles.quarantine.marks.values()] == [("", "")]
    fold_batch(profiles, covisits, index, [click(1, "honest", "j", "like")])
    assert profiles.row_of("honest") == row
    outcomes = fold_batch(profiles, covisits, index, [click(n, "suspect", "j", "like") for n in (2, 3)])
    assert outcomes == [HELD, HELD]
    assert covisits.popularity[index.row_of("j")] == 1


def test_spans_are_laid_out_once_however_many_users_are_held_at_once(monkeypatch):
    laid_out = []
    lay_out = Quarantine._laid_out
    monkeypatch.setattr(Quarantine, "_laid_out", lambda held: laid_out.append(1) or lay_out(held))
    held = Quarantine()
    for row in reversed(range(200)):
        held.hold(f"u{row}", row, 5, now_ms=1, why="")
    assert held.spans.tolist() == [[row, 5, FOR_EVER] for row in range(200)]
    assert held.spans is held.spans
    held.leave([3])
    held.release("u4", 9)
    assert held.spans[3:5].tolist() == [[4, 5, 9], [5, 5, FOR_EVER]]
    assert len(laid_out) == 2


def test_an_erased_user_without_a_row_leaves_no_name_and_a_release_brings_none_back():
    profiles, _, _ = make(Bound())
    profiles.quarantine.hold("suspect", -1, 1, now_ms=1, why="test")
    profiles.quarantine.dirty.clear()
    assert not profiles.erase("suspect", 4)
    key = quarantine_key("suspect")
    assert profiles.quarantine.dirty == {key}
    assert profiles.quarantine.release("suspect", 9)
    assert profiles.quarantine.marks[key] == Quarantined(SCHEMA_VERSION, "", [(1, 9)], 1, "")


@pytest.mark.parametrize(
    ("spans", "others", "at"),
    [
        ([(5, None)], None, 5),
        ([(5, 9)], [(5, None)], 9),
        ([(5, 9), (20, None)], [(5, 9)], 20),
        ([(5, None)], [(5, None)], None),
    ],
)
def test_the_first_click_that_two_marks_disagree_on(spans, others, at):
    mark = Quarantined(1, "u", spans, 0, "")
    other = None if others is None else Quarantined(1, "", others, 3, "why")
    assert mark.first_difference(other) == at


def test_forgetting_goes_back_to_the_first_click_but_for_what_policies_learned():
    mark = Quarantined(1, "u", [(50, None)], 0, "")
    assert mark.first_difference(Quarantined(1, "u", [(50, None)], 0, "", forgotten=70)) == 0
    assert not Quarantined(1, "u", [(50, None)], 0, "", forgotten=70).holds(10)


def test_who_reads_the_log_alone_leaves_the_same_clicks_out_also_where_it_was_made_anew():
    marks = {
        "past": Quarantined(1, "past", [(5, 9)], 0, ""),
        "now": Quarantined(1, "now", [(105, None)], 0, "", forgotten=103),
    }
    rows = [(quarantine_key(user), encode(mark)) for user, mark in marks.items()]
    gone = [(quarantine_key("gone"), encode(marks["now"])), (quarantine_key("gone"), None)]
    held, moved = HeldClicks(), HeldClicks()
    held.read(RecordColumns.of_rows([(b"u\0\0\0", b""), (None, b""), *gone, *rows]))
    assert len(held) == 2
    assert [user for user in ("past", "now", "gone", "nobody") if held.lasts(user)] == ["now"]
    assert [n for n in range(200) if held.have("past", n)] == [5, 6, 7, 8]
    assert [n for n in range(107) if not held.have("now", n)] == [103, 104]
    logs = encode(LogsRow(1, {"clicks": "a"}, {"clicks": 100}))
    moved.read(RecordColumns.of_rows([(ACTIONS_KEY, encode(Actions(1, ["view"], logs))), *rows]))
    assert [n for n in range(7) if not moved.have("now", n)] == [3, 4]
