"""The fold of clicks into profiles, against a model in plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.co_visitation import CoVisitation
from streams.durability.digest import fold_batch
from streams.events import Click
from streams.state.click_fold import fold_clicks
from streams.state.fold_kernels import APPLIED, DUPLICATE, REPLAYED
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles

ACTIONS = ("view", "click", "like")
POSITIVE = ("click", "like")
START = 1_000_000_000_000


def make(history_limit=64):
    profiles = Profiles(0, history_limit=history_limit, actions=ACTIONS, positive=POSITIVE)
    return profiles, CoVisitation(neighbours=16, window=4), ItemIndex()


def click(offset, user="u", item="i", action="click", event_id=None):
    value = Click(
        event_id=event_id or f"e{offset}",
        user_id=user,
        item_id=item,
        action=action,
        timestamp_ms=START + offset,
    )
    return offset, value


@st.composite
def logs(draw, max_size=150):
    rows = st.tuples(st.integers(0, 2), st.integers(0, 9), st.sampled_from(ACTIONS), st.integers(0, 9))
    return [
        # one event in ten repeats the id of a recent one
        click(3 * k, f"u{user}", f"i{item}", action, f"e{k - 2 if again == 0 else k}")
        for k, (user, item, action, again) in enumerate(draw(st.lists(rows, max_size=max_size)))
    ]


class Reference:
    """One user's ring, as lists."""

    def __init__(self, history_limit):
        self.slots = history_limit // 16
        self.events = []
        self.outcomes = []

    def add(self, event):
        stored = self.stored()
        fresh = (len(self.events) - 1) % 16 + 1 if self.events else 0
        reach = min(len(stored), fresh + (16 if fresh == 16 else 32))
        if any(event.event_id == old.event_id for old in stored[len(stored) - reach :]):
            self.outcomes.append(DUPLICATE)
        else:
            self.events.append(event)
            self.outcomes.append(APPLIED)

    def stored(self):
        n = len(self.events)
        first_chunk = max(0, (n - 1) // 16 - self.slots + 1)
        return self.events[16 * first_chunk :]


@given(logs(), st.sampled_from([16, 32, 64]))
def test_every_user_keeps_their_last_events_in_order(log, history_limit):
    profiles, covisits, index = make(history_limit)
    outcomes = fold_batch(profiles, covisits, index, log)

    expected = {}
    for _, event in log:
        expected.setdefault(event.user_id, Reference(history_limit)).add(event)
    for user, reference in expected.items():
        row = profiles.row_of(user)
        items, actions, times = profiles.history(row, history_limit)
        kept = reference.stored()
        assert [index.ids[item] for item in items] == [event.item_id for event in kept]
        assert [ACTIONS[code] for code in actions] == [event.action for event in kept]
        assert times.tolist() == [event.timestamp_ms for event in kept]
        assert profiles.events(row) == len(reference.events)
        for code, name in enumerate(ACTIONS):
            assert profiles.counts(row)[code] == sum(event.action == name for event in reference.events)
        assert [o for o, (_, e) in zip(outcomes, log, strict=True) if e.user_id == user] == reference.outcomes


def test_histories_are_padded_on_the_left():
    profiles, covisits, index = make()
    fold_batch(
        profiles, covisits, index, [click(0, "a", "x"), click(1, "a", "y", "like"), click(2, "b", "x")]
    )

    items, actions, times = profiles.histories(np.array([0, 1, -1], np.int32), 3)

    assert items.tolist() == [[-1, 0, 1], [-1, -1, 0], [-1, -1, -1]]
    assert actions.tolist() == [[-1, 1, 2], [-1, -1, 1], [-1, -1, -1]]
    assert times.tolist() == [[0, START, START + 1], [0, 0, START + 2], [0, 0, 0]]
    assert [column.tolist() for column in profiles.history(0, 1)] == [[1], [2], [START + 1]]
    assert [column.tolist() for column in profiles.history(-1, 5)] == [[], [], []]


@given(logs(), st.sets(st.sampled_from(ACTIONS)))
def test_the_seen_mask_and_recent_positives_go_by_action(log, chosen):
    profiles, covisits, index = make()
    fold_batch(profiles, covisits, index, log)
    mask = np.array([name in chosen for name in ACTIONS])
    for user in profiles.user_ids():
        row = profiles.row_of(user)
        items, actions, _ = profiles.history(row, 64)
        expected = items[mask[actions]]
        out = np.ones(len(index), np.bool_)
        profiles.seen_mask(row, mask, out)
        assert set(np.flatnonzero(~out)) == set(expected)
        assert profiles.recent_positives(row, mask, 3).tolist() == expected[-3:].tolist()
        short = np.ones(2, np.bool_)
        profiles.seen_mask(row, mask, short)  # items newer than the array are no matter
        assert short.tolist() == out[:2].tolist() or len(index) < 2


def test_an_unknown_user_has_seen_nothing():
    profiles, _, _ = make()
    out = np.ones(3, np.bool_)
    profiles.seen_mask(-1, np.ones(3, np.bool_), out)

    assert out.all()
    assert profiles.row_of("nobody") == -1
    assert len(profiles.recent_positives(-1, np.ones(3, np.bool_), 5)) == 0
    assert len(profiles.stated.of(-1).blocked) == 0
    assert profiles.stated.of(-1).preferences == []


def test_a_replayed_event_is_reported_and_changes_nothing():
    profiles, covisits, index = make()
    log = [click(0), click(1, item="j"), click(2, item="k")]

    assert fold_batch(profiles, covisits, index, log) == [APPLIED] * 3
    assert fold_batch(profiles, covisits, index, log[1:]) == [REPLAYED] * 2
    assert profiles.events(0) == 3
    assert covisits.popularity.tolist() == [1, 1, 1]


def test_a_duplicate_event_id_is_noticed_among_the_last_32_events():
    profiles, covisits, index = make(history_limit=1024)
    fold_batch(profiles, covisits, index, [click(k, item=f"i{k}") for k in range(100)])

    outcomes = fold_batch(profiles, covisits, index, [click(100, event_id="e68"), click(101, event_id="e10")])

    assert outcomes == [DUPLICATE, APPLIED]
    assert profiles.events(0) == 101


def test_a_duplicate_of_another_user_is_no_duplicate():
    profiles, covisits, index = make()

    log = [click(0, "a", event_id="same"), click(1, "b", event_id="same")]
    assert fold_batch(profiles, covisits, index, log) == [APPLIED, APPLIED]


def test_no_events_are_no_matter():
    profiles, covisits, index = make()
    empty = np.empty(0, np.int64)
    outcomes = fold_clicks(
        profiles, covisits, index, users=empty.astype(np.int32), items=empty.astype(np.int32),
        actions=empty.astype(np.uint8), times=empty, event_keys=empty.astype(np.uint64), offsets=empty,
    )  # fmt: skip

    assert len(outcomes) == 0


def test_many_users_and_events_grow_the_tables():
    profiles, covisits, index = make()
    rng = np.random.default_rng(0)
    log = [click(k, f"u{rng.integers(3000)}", f"i{rng.integers(5000)}") for k in range(8000)]
    fold_batch(profiles, covisits, index, log[:10])
    fold_batch(profiles, covisits, index, log[10:])

    assert profiles.n_users == len({value.user_id for _, value in log})
    assert sum(profiles.events(row) for row in range(profiles.n_users)) == 8000
    last = log[-1][1]
    items, _, _ = profiles.history(profiles.row_of(last.user_id), 1)
    assert index.ids[items[0]] == last.item_id


def test_stated_data_is_replaced_by_later_records_only():
    profiles, _, index = make()
    blocked = index.rows_of(["x", "y"])

    assert profiles.set_stated(
        "u", attributes={"age": "30"}, preferences=["Comedy"], blocked=blocked, offset=7
    )
    row = profiles.row_of("u")
    assert not profiles.set_stated("u", attributes={}, preferences=[], blocked=blocked[:0], offset=7)
    assert profiles.stated.of(row).preferences == ["Comedy"]
    assert profiles.stated.of(row).attributes == {"age": "30"}
    assert profiles.stated.of(row).blocked.tolist() == blocked.tolist()
    assert profiles.set_stated("u", attributes={}, preferences=[], blocked=blocked[:0], offset=8)
    assert profiles.stated.of(row).preferences == []


def test_an_erased_user_is_gone_and_may_begin_again():
    profiles, covisits, index = make()
    log = [click(k, user, f"i{k % 7}") for k in range(90) for user in [f"u{k % 2}"]]
    fold_batch(profiles, covisits, index, log)
    profiles.set_stated("u0", attributes={}, preferences=["Comedy"], blocked=index.rows_of(["x"]), offset=0)

    assert profiles.erase("u0", 1)
    assert profiles.covisits_first
    assert profiles.row_of("u0") == -1
    assert profiles.n_live == 1
    assert "u0" not in profiles.user_ids()
    assert not profiles.erase("u0", 1)

    assert set(fold_batch(profiles, covisits, index, log)) == {REPLAYED}
    assert profiles.events(profiles.row_of("u0")) == 0
    assert not profiles.set_stated("u0", attributes={}, preferences=["Old"], blocked=index.keys[:0], offset=1)
    assert fold_batch(profiles, covisits, index, [click(90, "u0", "new")]) == [APPLIED]
    items, _, _ = profiles.history(profiles.row_of("u0"), 64)
    assert [index.ids[item] for item in items] == ["new"]
    other, _, _ = profiles.history(profiles.row_of("u1"), 64)
    assert len(other) == 45


def test_an_erasure_read_again_spares_the_user_who_came_after_it():
    profiles, _, index = make()
    nothing = index.rows_of([])
    profiles.set_stated("u", attributes={}, preferences=[], blocked=nothing, offset=1)
    profiles.erase("u", 2)
    profiles.set_stated("u", attributes={}, preferences=["Jazz"], blocked=nothing, offset=3)

    assert not profiles.erase("u", 2)
    assert profiles.stated.of(profiles.row_of("u")).preferences == ["Jazz"]


def test_an_erasure_read_again_spares_what_the_user_did_after_it():
    profiles, covisits, index = make()
    fold_batch(profiles, covisits, index, [click(0, "u", "old")])
    assert profiles.erase("u", 2)
    fold_batch(profiles, covisits, index, [click(1, "u", "new")])

    assert not profiles.erase("u", 2)
    assert profiles.events(profiles.row_of("u")) == 1
    assert profiles.erase("u", 3)


def test_memory_of_erased_users_is_used_again():
    profiles, covisits, index = make()
    for k in range(20):
        fold_batch(profiles, covisits, index, [click(100 * k + j, f"u{k}") for j in range(60)])
        profiles.erase(f"u{k}")

    assert profiles.rings.heap[0] == 4  # chunks ever taken


def test_a_user_near_the_ring_size_between_flushes_asks_for_item_rows_first():
    profiles, covisits, index = make(history_limit=64)
    fold_batch(profiles, covisits, index, [click(k) for k in range(64 - 16 - 4)])
    assert not profiles.covisits_first
    fold_batch(profiles, covisits, index, [click(50)])
    assert profiles.covisits_first
    profiles.covisits_taken()
    fold_batch(profiles, covisits, index, [click(51)])
    assert not profiles.covisits_first


@pytest.mark.parametrize("history_limit", [0, 8, 100, 16 * 65_536])
def test_a_history_limit_that_is_no_multiple_of_16_is_refused(history_limit):
    with pytest.raises(ValueError, match=f"history_limit must be a multiple of 16 .*, got {history_limit}"):
        make(history_limit)


def test_positive_actions_must_be_actions():
    with pytest.raises(ValueError, match=r"positive must name some of the actions, got \['buy'\]"):
        Profiles(0, history_limit=16, actions=ACTIONS, positive=["buy"])
