import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.co_visitation import CoVisitation
from streams.durability.digest import digest, fold_batch
from streams.durability.profile_restore import Restore
from streams.durability.profile_rows import all_rows, take_profiles
from streams.events import Click
from streams.kafka.columns import RecordColumns
from streams.state.fold_kernels import APPLIED, REPLAYED
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles
from streams.state.rows import (
    ACTIONS_KEY,
    ERASED_PREFIX,
    SCHEMA_VERSION,
    Actions,
    chunk_key,
    encode,
    stated_key,
)

ACTIONS = ("view", "click", "like")


def click(offset, user="u", action="click"):
    fields = {"event_id": f"e{offset}", "item_id": f"i{offset % 11}", "timestamp_ms": 10**12 + offset}
    return offset, Click(user_id=user, action=action, **fields)


def make(history_limit=64, actions=ACTIONS):
    return Profiles(0, history_limit=history_limit, actions=actions, positive=["like"])


def folded(log, **arguments):
    profiles, index = make(**arguments), ItemIndex()
    fold_batch(profiles, CoVisitation(window=4), index, log)
    return profiles, index


def restored(rows, **arguments):
    profiles, index = make(**arguments), ItemIndex()
    index.rows_of(["another", "numbering", "of", "items"])
    restore = Restore(profiles, index)
    restore.add(RecordColumns.of_rows(rows))
    restore.finish()
    return profiles, index


def history(profiles, index, user="u"):
    items, actions, times = profiles.history(profiles.row_of(user), 1000)
    names = [profiles.actions[code] for code in actions]
    return list(zip([index.ids[item] for item in items], names, times.tolist(), strict=True))


@given(st.integers(0, 150), st.integers(1, 3))
def test_rows_bring_back_the_same_state(n, n_users):
    profiles, index = folded([click(k, f"u{k % n_users}") for k in range(n)])
    rows = list(take_profiles(profiles, index).rows)
    again, index_again = restored(rows)

    assert digest(index_again, {0: again}, {}) == digest(index, {0: profiles}, {})
    assert list(take_profiles(profiles, index).rows) == []
    assert list(take_profiles(again, index_again).rows) == []


def test_only_what_changed_is_written_again():
    profiles, index = folded([click(k, f"u{k % 10}") for k in range(160)])
    take_profiles(profiles, index)
    fold_batch(profiles, CoVisitation(window=4), index, [click(160, "u3"), click(161, "u3")])

    assert [key for key, _ in take_profiles(profiles, index).rows] == [chunk_key("u3", 1)]


def test_rows_that_are_put_back_are_taken_again():
    profiles, index = folded([click(k, f"u{k % 10}") for k in range(160)])
    profiles.set_stated("u0", attributes={}, preferences=["Jazz"], blocked=index.rows_of([]), offset=3)
    profiles.erase("u1")
    first = take_profiles(profiles, index)
    first.put_back()
    second = take_profiles(profiles, index)

    assert sorted(second.rows) == sorted(first.rows)
    assert list(take_profiles(profiles, index).rows) == []


def test_what_is_put_back_of_a_user_erased_meanwhile_is_only_the_tombstones():
    profiles, index = folded([click(k) for k in range(20)])
    profiles.set_stated("u", attributes={}, preferences=["Jazz"], blocked=index.rows_of([]), offset=3)
    taken = take_profiles(profiles, index)
    profiles.erase("u")
    taken.put_back()
    rows = dict(take_profiles(profiles, index).rows)

    assert [key for key, value in rows.items() if value is None] == [
        chunk_key("u", 0), chunk_key("u", 1), stated_key("u"),
    ]  # fmt: skip
    assert all(key.startswith((ACTIONS_KEY, ERASED_PREFIX)) for key, value in rows.items() if value)


def test_stated_data_come_back():
    profiles, index = folded([click(0)])
    profiles.set_stated(
        "quiet", attributes={"age": "30"}, preferences=["Jazz"], blocked=index.rows_of(["x"]), offset=5
    )
    again, index_again = restored(list(take_profiles(profiles, index).rows))

    row = again.row_of("quiet")
    said = again.stated.of(row)
    assert (said.preferences, said.attributes) == (["Jazz"], {"age": "30"})
    assert index_again.keys[said.blocked].tolist() == index.keys[index.rows_of(["x"])].tolist()
    assert not again.set_stated("quiet", attributes={}, preferences=[], blocked=said.blocked, offset=5)


def test_an_erasure_removes_every_row_and_outlives_a_restart():
    log = [click(k, f"u{k % 2}") for k in range(100)]
    profiles, index = folded(log)
    profiles.set_stated("u0", attributes={}, preferences=["Jazz"], blocked=index.rows_of([]), offset=3)
    topic = dict(take_profiles(profiles, index).rows)
    profiles.erase("u0", 4)
    rows = list(take_profiles(profiles, index).rows)
    topic.update(rows)

    live = {key: value for key, value in topic.items() if value is not None}
    assert not any(key.startswith(b"u0") or b"u0" in value for key, value in live.items())
    assert {key for key, value in rows if value is None} == {chunk_key("u0", slot) for slot in range(4)} | {
        stated_key("u0")
    }
    again, index_again = restored(topic.items())
    assert again.row_of("u0") == -1
    assert set(fold_batch(again, CoVisitation(window=4), index_again, log)) == {REPLAYED}
    assert fold_batch(again, CoVisitation(window=4), index_again, [click(100, "u0")]) == [APPLIED]
    assert digest(index_again, {0: again}, {}) != digest(index, {0: profiles}, {})


def test_a_user_erased_before_the_first_flush_leaves_no_event_behind():
    profiles, index = folded([click(k) for k in range(40)])
    profiles.erase("u", 0)
    rows = list(take_profiles(profiles, index).rows)

    assert not any(value is not None and b"\xa1u" in value for _, value in rows)
    assert all_rows(profiles, index) == []


@pytest.mark.parametrize(("before", "after"), [(64, 128), (128, 64), (64, 32), (48, 64)])
def test_another_history_limit_keeps_the_last_events(before, after):
    log = [click(k) for k in range(135)]
    profiles, index = folded(log, history_limit=before)
    topic = dict(take_profiles(profiles, index).rows)
    old = history(profiles, index)
    for begin in (135, 150):
        again, index_again = restored(topic.items(), history_limit=after)
        index_again.rows_of([f"i{k}" for k in range(11)])
        kept = history(again, index_again)
        assert kept == old[-len(kept) :]
        assert len(kept) >= min(after, before) - 15
        fold_batch(again, CoVisitation(window=4), index_again, [click(begin + k) for k in range(15)])
        old = history(again, index_again)
        for key, value in take_profiles(again, index_again).rows:
            if value is None:
                del topic[key]
            else:
                topic[key] = value
    assert len(topic) - 1 <= after // 16
    assert [time for _, _, time in old] == [10**12 + k for k in range(165 - len(old), 165)]


def test_actions_may_be_added_and_reordered():
    profiles, index = folded([click(k, action=ACTIONS[k % 3]) for k in range(40)])
    again, index_again = restored(
        list(take_profiles(profiles, index).rows), actions=("like", "buy", "click", "view")
    )
    index_again.rows_of([f"i{k}" for k in range(11)])

    assert history(again, index_again) == history(profiles, index)
    assert again.counts(0).tolist() == [13, 0, 13, 14]
    third, index_third = restored(
        list(take_profiles(again, index_again).rows), actions=("like", "buy", "click", "view")
    )
    assert third.counts(0).tolist() == [13, 0, 13, 14]


def test_an_action_with_events_cannot_be_taken_away():
    profiles, index = folded([click(0)])
    with pytest.raises(ValueError, match=r"actions must keep \['view'\], which user-state has events of"):
        restored(list(take_profiles(profiles, index).rows), actions=("click", "like"))


def test_tombstones_in_the_changelog_remove_rows():
    profiles, index = folded([click(0, "a"), click(1, "b")])
    rows = list(take_profiles(profiles, index).rows)
    again, _ = restored([*rows, (chunk_key("a", 0), None), (chunk_key("never", 0), None)])

    assert again.user_ids() == ["b"]


def test_profiles_in_use_are_not_restored_over():
    profiles, index = folded([click(0)])
    with pytest.raises(ValueError, match="profiles of partition 0 must be empty to be restored"):
        Restore(profiles, index)


def damaged(change):
    profiles, index = folded([click(k) for k in range(3)])
    rows = list(take_profiles(profiles, index).rows)
    key, value = rows[-1]
    return [*rows[:-1], (key, change(value))]


def test_a_row_of_a_newer_schema_is_named():
    def newer(value):
        return msgspec.msgpack.encode([SCHEMA_VERSION + 1, {"something": "else"}])

    message = r"user-state row b'u\\x00\\x00\\x00' has schema version 2; this worker reads up to 1"
    with pytest.raises(ValueError, match=message):
        restored(damaged(newer))


def test_a_newer_schema_that_only_adds_fields_is_refused_as_well():
    def newer(value):
        fields = msgspec.msgpack.decode(value)
        return msgspec.msgpack.encode([SCHEMA_VERSION + 1, *fields[1:], "new"])

    with pytest.raises(ValueError, match="has schema version 2"):
        restored(damaged(newer))


def shorter_column(value):
    fields = msgspec.msgpack.decode(value)
    return msgspec.msgpack.encode([*fields[:-1], fields[-1][:-8]])


def unknown_code(value):
    fields = msgspec.msgpack.decode(value)
    return msgspec.msgpack.encode([*fields[:6], b"\x07" * len(fields[6]), *fields[7:]])


def cut_short(value):
    return value[:20]


def emptied(value):
    return b""


def not_msgpack(value):
    return b"junk"


@pytest.mark.parametrize("change", [cut_short, emptied, not_msgpack, shorter_column, unknown_code])
def test_a_damaged_row_is_named(change):
    with pytest.raises(ValueError, match=r"user-state row b'u\\x00\\x00\\x00' is damaged"):
        restored(damaged(change))


def test_action_names_are_written_once():
    profiles, index = folded([click(0)])
    rows = dict(take_profiles(profiles, index).rows)

    assert rows[ACTIONS_KEY] == encode(Actions(SCHEMA_VERSION, list(ACTIONS)))
    assert list(take_profiles(profiles, index).rows) == []
    assert np.array_equal(profiles.counts(0), [0, 1, 0])
