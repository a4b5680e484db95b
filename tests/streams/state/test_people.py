import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.co_visitation import CoVisitation
from streams.durability.digest import fold_batch
from streams.events import Click
from streams.state.item_index import ItemIndex
from streams.state.people import gather
from streams.state.profiles import Profiles

ACTIONS = ("view", "like")
POSITIVE = np.array([False, True])
EVERYTHING = np.array([True, True])


def partitions(log, history_limit=32):
    """Fold (partition, user, item, action) in order."""
    index = ItemIndex()
    profiles = [
        Profiles(p, history_limit=history_limit, actions=ACTIONS, positive=["like"]) for p in range(2)
    ]
    for k, (partition, user, item, action) in enumerate(log):
        event = Click(event_id=f"{k}", user_id=user, item_id=item, action=action, timestamp_ms=10**12 + k)
        fold_batch(profiles[partition], CoVisitation(neighbours=32, window=2), index, [(k, event)])
    return profiles, index


def test_users_of_several_partitions_are_read_in_the_order_asked_for():
    profiles, index = partitions(
        [(0, "u", "a", "like"), (1, "v", "b", "view"), (1, "v", "c", "like"), (0, "u", "d", "view")]
    )
    profiles[1].set_stated(
        "v", attributes={"age": "7"}, preferences=["x"], blocked=index.rows_of(["a"]), offset=0
    )
    people = gather(
        [(profiles[1], 0), (profiles[0], -1), (profiles[0], 0)],
        depth=3,
        counts_as_seen=EVERYTHING,
        positive=POSITIVE,
    )
    a, b, c, d = index.rows_of(["a", "b", "c", "d"]).tolist()

    assert people.pasts.bounds.tolist() == [0, 2, 2, 4]
    assert people.pasts.items.tolist() == [b, c, a, d]
    assert people.pasts.actions.tolist() == [0, 1, 1, 0]
    assert people.pasts.positive.tolist() == [False, True, True, False]
    assert (people.pasts.times_ms - 10**12).tolist() == [1, 2, 0, 3]
    assert people.events.tolist() == [2, 0, 2]
    assert [sorted(rows.tolist()) for rows in people.seen] == [sorted([b, c]), [], sorted([a, d])]
    assert [said.preferences for said in people.stated] == [["x"], [], []]
    assert people.stated[0].blocked.tolist() == [a]


def test_what_was_gathered_stays_as_it_was():
    profiles, index = partitions([(0, "u", "a", "like")])
    people = gather([(profiles[0], 0)], depth=2, counts_as_seen=EVERYTHING, positive=POSITIVE)
    fold_batch(
        profiles[0], CoVisitation(neighbours=32, window=2), index,
        [(9, Click(event_id="9", user_id="u", item_id="b", action="like", timestamp_ms=10**12))],
    )  # fmt: skip

    assert people.pasts.items.tolist() == [0]
    assert people.seen[0].tolist() == [0]


@given(
    st.lists(
        st.tuples(st.just(0), st.sampled_from("uv"), st.sampled_from("abcdef"), st.sampled_from(ACTIONS))
    ),
    st.integers(1, 40),
)
def test_it_says_what_the_profiles_say(log, depth):
    profiles, _ = partitions(log)
    rows = [profiles[0].row_of(user) for user in "uvw"]
    people = gather(
        [(profiles[0], row) for row in rows], depth=depth, counts_as_seen=POSITIVE, positive=POSITIVE
    )
    pasts = people.pasts
    for place, row in enumerate(rows):
        here = slice(*pasts.bounds[place : place + 2].tolist())
        items, actions, times = profiles[0].history(row, depth)
        assert pasts.items[here].tolist() == items.tolist()
        assert pasts.actions[here].tolist() == actions.tolist()
        assert pasts.times_ms[here].tolist() == times.tolist()
        assert people.seen[place].tolist() == items[POSITIVE[actions]].tolist()
