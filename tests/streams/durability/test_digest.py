"""Whatever happens to a worker, its state is the fold of the log."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.robust.influence import Bound
from model_core.signals.co_visitation import CoVisitation
from streams.durability.covisit_restore import restore_covisits
from streams.durability.covisit_rows import take_covisits
from streams.durability.digest import digest, fold, fold_batch
from streams.durability.profile_restore import Restore
from streams.durability.profile_rows import take_profiles
from streams.events import Click
from streams.kafka.columns import RecordColumns
from streams.state.item_index import ItemIndex
from streams.state.profiles import Profiles

ACTIONS = ("view", "click", "like")
POSITIVE = ("click", "like")
PAIRING = {"window": 4, "pair_decay": 0.7, "pair_other": 0.2, "bound": Bound(5, 12)}
SIZES = {"history_limit": 64, "neighbours": 16, "pairing": PAIRING}


def make_log(seed, size, n_users):
    """Clicks on 26 items, 12 an hour; one event in ten repeats the id of the event before."""
    rng = random.Random(seed)
    return [
        (
            2 * k + 1,
            Click(
                event_id=f"e{k - (rng.random() < 0.1)}",
                user_id=f"u{rng.randrange(n_users)}",
                item_id=f"i{rng.randrange(26)}",
                action=rng.choice(ACTIONS),
                timestamp_ms=1_000_000_000_000 + 300_000 * k,
            ),
        )
        for k in range(size)
    ]


# Drawn by seed: drawn event by event, logs would rarely be long enough for a ring to go round.
logs = st.builds(make_log, st.integers(0, 2**32), st.integers(0, 300), st.integers(1, 3))


def fold_log(log):
    return fold({0: log}, actions=ACTIONS, positive=POSITIVE, **SIZES)


class Worker:
    """A worker on a broker that keeps `users`, `shared` (compacted topics) and a committed position."""

    def __init__(self, log, users=None, shared=None, committed=0):
        self.log = log
        self.users = {} if users is None else users
        self.shared = {} if shared is None else shared
        self.position = self.users_flushed = self.shared_flushed = committed
        self.index = ItemIndex()
        self.profiles = Profiles(0, history_limit=SIZES["history_limit"], actions=ACTIONS, positive=POSITIVE)
        self.covisits = CoVisitation(neighbours=SIZES["neighbours"], **PAIRING)
        restore = Restore(self.profiles, self.index)
        restore.add(RecordColumns.of_rows(self.users.items()))
        restore.finish()
        restore_covisits(self.covisits, self.index, RecordColumns.of_rows(self.shared.items()))

    @property
    def committed(self):
        return min(self.users_flushed, self.shared_flushed)

    def read(self, n):
        batch = self.log[self.position : self.position + n]
        fold_batch(self.profiles, self.covisits, self.index, batch)
        self.position += len(batch)

    def flush(self, *, shared, items=None, users=None):
        """Publish dirty rows; with `items` or `users`, the broker takes only so many of them and refuses."""
        items_first = self.profiles.covisits_first
        shared = shared or items_first
        taken = []
        if shared:
            taken.append(take_covisits(self.covisits, self.index, 0))
            self.profiles.covisits_taken()
            write(self.shared, list(taken[0].rows)[:items])
        taken.append(take_profiles(self.profiles, self.index))
        if not (shared and items_first and items is not None):
            write(self.users, list(taken[-1].rows)[:users])
        if items is None and users is None:
            self.users_flushed = self.position
            if shared:
                self.shared_flushed = self.position
            return
        for rows in taken:
            rows.put_back()
        if shared:
            self.profiles.covisits_failed()

    def crash(self):
        return Worker(self.log, self.users, self.shared, self.committed)

    def digest(self):
        return digest(self.index, {0: self.profiles}, {0: self.covisits})


def write(topic, rows):
    for key, value in rows:
        if value is None:
            topic.pop(key, None)
        else:
            topic.pop(key, None)  # compaction keeps the latest record, at its place in the log
            topic[key] = value


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(1, 120)),
        st.tuples(st.just("flush"), st.booleans()),
        st.tuples(st.just("flush"), st.just(False)),
        st.tuples(st.just("crash"), st.none()),
        st.tuples(
            st.sampled_from(("crash while flushing", "refused flush")),
            st.fixed_dictionaries(
                {
                    "shared": st.booleans(),
                    "items": st.one_of(st.none(), st.integers(0, 25)),
                    "users": st.integers(0, 8),
                }
            ),
        ),
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(logs, steps)
def test_after_any_crashes_the_state_is_the_fold_of_the_log(log, steps):
    worker = Worker(log)
    for step, argument in steps:
        if step == "read":
            worker.read(argument)
        elif step == "flush":
            worker.flush(shared=argument)
        elif step == "refused flush":
            worker.flush(**argument)
        else:
            if step != "crash":
                worker.flush(**argument)
            worker = worker.crash()
    worker.read(len(log))

    assert worker.digest() == fold_log(log).digest()
    worker.flush(shared=True)
    assert worker.crash().digest() == fold_log(log).digest()


@given(logs, st.integers(0, 300))
def test_batch_boundaries_do_not_matter(log, middle):
    whole, halves = Worker(log), Worker(log)
    whole.read(len(log))
    halves.read(middle)
    halves.read(len(log))

    assert halves.digest() == whole.digest()


@given(logs, st.integers(0, 300))
def test_replaying_a_suffix_changes_nothing(log, begin):
    worker = Worker(log)
    worker.read(len(log))
    before = worker.digest()
    worker.flush(shared=True)
    worker.position = begin
    worker.read(len(log))

    assert worker.digest() == before
    assert list(take_profiles(worker.profiles, worker.index).rows) == []
    assert list(take_covisits(worker.covisits, worker.index, 0).rows) == []


@given(logs)
def test_partitions_are_folded_apart(log):
    parts = {p: [(o, c) for o, c in log if c.user_id == f"u{p}"] for p in (0, 1)}
    together = fold(parts, actions=ACTIONS, positive=POSITIVE, **SIZES)
    apart = {p: fold({p: part}, actions=ACTIONS, positive=POSITIVE, **SIZES) for p, part in parts.items()}

    for p, alone in apart.items():
        assert alone.digest() == digest(together.index, {p: together.profiles[p]}, {p: together.covisits[p]})


def test_the_digest_sees_every_part_of_the_state():
    base = [
        (k, Click(event_id=f"e{k}", user_id="u", item_id=f"i{k}", action="like", timestamp_ms=10**12 + k))
        for k in range(5)
    ]
    seen = {fold_log(base).digest()}
    for field, value in (
        ("event_id", "other"), ("user_id", "other"), ("item_id", "other"), ("action", "view"),
        ("timestamp_ms", 10**12 + 99),
    ):  # fmt: skip
        fields = {name: getattr(base[2][1], name) for name in base[2][1].__struct_fields__}
        changed = [*base[:2], (2, Click(**{**fields, field: value})), *base[3:]]
        seen.add(fold_log(changed).digest())
    seen.add(fold_log(base[:4]).digest())
    stated = fold_log(base)
    stated.profiles[0].set_stated(
        "u", attributes={}, preferences=["Jazz"], blocked=stated.index.rows_of([]), offset=0
    )
    seen.add(stated.digest())

    assert len(seen) == 8


def test_an_unknown_action_is_no_part_of_a_log():
    click = Click(event_id="e", user_id="u", item_id="i", action="nod", timestamp_ms=10**12)
    with pytest.raises(KeyError, match="nod"):
        fold_log([(0, click)])


def test_a_digest_is_of_one_way_to_pair_events():
    log = make_log(0, 40, 3)
    found = {
        fold(
            {0: log}, actions=ACTIONS, positive=POSITIVE, **(SIZES | {"pairing": PAIRING | changed})
        ).digest()
        for changed in (
            {},
            {"pair_decay": 0.9},
            {"pair_other": 0.9},
            {"pair_back": 0.5},
            {"window": 2},
            {"bound": Bound()},
            {"bound": Bound(4, 12)},
        )  # fmt: skip
    }
    assert len(found) == 7
