"""Whatever happens to a worker, its state is the fold of the log."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_core.co_visitation import CoVisitation
from streams.events import Click
from streams.state.changelog import covisit_rows, restore_covisits
from streams.state.fold import digest, fold, fold_batch
from streams.state.item_index import ItemIndex
from streams.state.profile_rows import Restore, dirty_rows
from streams.state.profiles import Profiles

ACTIONS = ("view", "click", "like")
POSITIVE = ("click", "like")
SIZES = {"history_limit": 64, "neighbours": 16, "window": 4}


@st.composite
def logs(draw, max_size=120):
    rows = st.tuples(st.integers(0, 2), st.integers(0, 25), st.sampled_from(ACTIONS), st.integers(0, 9))
    return [
        (
            2 * k + 1,
            Click(
                event_id=f"e{k - 1 if again == 0 else k}",
                user_id=f"u{user * (user - 1)}",  # the first of two users has twice the events
                item_id=f"i{item}",
                action=action,
                timestamp_ms=1_000_000_000_000 + k,
            ),
        )
        for k, (user, item, action, again) in enumerate(draw(st.lists(rows, max_size=max_size)))
    ]


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
        self.profiles = Profiles(
            0, history_limit=SIZES["history_limit"], actions=ACTIONS, positive=POSITIVE
        )
        self.covisits = CoVisitation(neighbours=SIZES["neighbours"], window=SIZES["window"])
        restore = Restore(self.profiles, self.index)
        restore.add(self.users.items())
        restore.finish()
        restore_covisits(self.covisits, self.index, self.shared.items())

    @property
    def committed(self):
        return min(self.users_flushed, self.shared_flushed)

    def read(self, n):
        batch = self.log[self.position : self.position + n]
        fold_batch(self.profiles, self.covisits, self.index, batch)
        self.position += len(batch)

    def flush(self, *, shared, durable=None):
        """Publish dirty rows; of each kind only the first `durable` reach the broker, when given."""
        shared = shared or self.profiles.covisits_first
        if shared:
            rows = covisit_rows(self.covisits, self.index, 0)
            write(self.shared, rows[:durable])
            if self.profiles.covisits_first and durable is not None and durable < len(rows):
                return
        rows = dirty_rows(self.profiles, self.index)
        write(self.users, rows[:durable])
        if durable is None:
            self.users_flushed = self.position
            if shared:
                self.shared_flushed = self.position
                self.profiles.covisits_flushed()

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
        st.tuples(st.just("read"), st.integers(1, 60)),
        st.tuples(st.just("flush"), st.booleans()),
        st.tuples(st.just("crash"), st.none()),
        st.tuples(st.just("crash while flushing"), st.integers(0, 30)),
        st.tuples(st.just("crash while flushing all"), st.integers(0, 30)),
    ),
    max_size=12,
)


@settings(max_examples=300)
@given(logs(), steps)
def test_after_any_crashes_the_state_is_the_fold_of_the_log(log, steps):
    worker = Worker(log)
    for step, argument in steps:
        if step == "read":
            worker.read(argument)
        elif step == "flush":
            worker.flush(shared=argument)
        else:
            if step != "crash":
                worker.flush(shared=step.endswith("all"), durable=argument)
            worker = worker.crash()
    worker.read(len(log))

    assert worker.digest() == fold_log(log).digest()


@given(logs(), st.integers(0, 120))
def test_batch_boundaries_do_not_matter(log, middle):
    whole, halves = Worker(log), Worker(log)
    whole.read(len(log))
    halves.read(middle)
    halves.read(len(log))

    assert halves.digest() == whole.digest()


@given(logs(), st.integers(0, 120))
def test_replaying_a_suffix_changes_nothing(log, begin):
    worker = Worker(log)
    worker.read(len(log))
    before = worker.digest()
    worker.flush(shared=True)
    worker.position = begin
    worker.read(len(log))

    assert worker.digest() == before
    assert dirty_rows(worker.profiles, worker.index) == []
    assert covisit_rows(worker.covisits, worker.index, 0) == []


@given(logs())
def test_partitions_are_folded_apart(log):
    parts = {p: [(o, c) for o, c in log if c.user_id == f"u{p}"] for p in (0, 2)}
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
