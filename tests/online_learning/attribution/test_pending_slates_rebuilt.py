"""A partition's life in random steps: a store rebuilt from its logs is the one that lived."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from online_learning.attribution.pending_slates import OpenSlate, PendingSlates
from online_learning.attribution.rewards import Shaping
from tests.online_learning.attribution.slates import WEIGHTS, features, store

# One step of a partition's life: time passes by `wait`, then something happens.
SERVE = st.tuples(
    st.just("serve"),
    st.sampled_from("uv"),
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=3, unique=True),
)
CLICK = st.tuples(
    st.just("click"),
    st.sampled_from("uv"),
    st.sampled_from("abcde"),
    st.sampled_from(sorted(WEIGHTS)),
    st.integers(-400, 400),  # how far the event's time is from now
    st.none() | st.integers(0, 6),  # how many requests ago the one it names was served
)
CLOSE = st.tuples(st.just("close"), st.integers(0, 500))  # how far the watermark is behind
STEPS = st.lists(st.tuples(st.integers(0, 300), SERVE | CLICK | CLICK | CLOSE), max_size=60)


class Interaction(NamedTuple):
    offset: int
    user_id: str
    item_id: str
    action: str
    timestamp_ms: int
    request_id: str | None = None


def live(
    steps: list[Any], settings: dict[str, Any]
) -> tuple[PendingSlates, list[OpenSlate], list[Interaction], int]:
    """Run a store through `steps`; return it with the logs of slates and events and its watermark."""
    pending, slates, events = store(**settings), [], []
    now, watermark = 10_000, 0
    for wait, step in steps:
        now += wait
        if step[0] == "serve":
            slate = (f"r{len(slates)}", step[1], tuple(step[2]), features(len(step[2])), now)
            pending.add(*slate, after_offset=len(events) - 1)
            slates.append(OpenSlate(*slate, after_offset=len(events) - 1))
        elif step[0] == "click":
            request_id = None if step[5] is None else f"r{len(slates) - 1 - step[5]}"
            event = Interaction(len(events), step[1], step[2], step[3], now + step[4], request_id)
            pending.attribute(*event[1:], offset=event.offset)
            events.append(event)
        else:
            watermark = max(watermark, now - step[1])
            pending.close(watermark)
    return pending, slates, events, watermark


def rebuilt(
    slates: list[OpenSlate], events: Iterable[Interaction], watermark: int, settings: dict[str, Any]
) -> PendingSlates:
    """A store as after a restart: the slates that are kept, then the events, then what had closed by then."""
    pending = store(**settings)
    for slate in slates:
        if slate.timestamp_ms + pending.keep_ms > watermark:
            parts = (slate.request_id, slate.user_id, slate.item_ids, slate.features, slate.timestamp_ms)
            pending.add(*parts, after_offset=slate.after_offset)
    for event in sorted(events):
        pending.attribute(*event[1:], offset=event.offset)
    pending.resume(watermark)
    return pending


LATE = {"shaping": Shaping(WEIGHTS, windows_ms={"view": 1_700}), "lateness_ms": 200}


@pytest.mark.parametrize("settings", [{}, LATE], ids=["one window", "windows and lateness"])
@given(steps=STEPS, shuffle=st.randoms(use_true_random=False))
def test_a_rebuilt_store_equals_the_one_that_lived(
    settings: dict[str, Any], steps: list[Any], shuffle: Any
) -> None:
    lived, slates, events, watermark = live(steps, settings)
    shuffle.shuffle(slates)
    shuffle.shuffle(events)
    again = rebuilt(slates, events, watermark, settings)
    for pending in (lived, again):  # both will say the same of what comes
        pending.close(watermark)
    assert [(slate.request_id, slate.actions, slate.closed) for slate in again.slates()] == [
        (slate.request_id, slate.actions, slate.closed) for slate in lived.slates()
    ]
    assert {user: [slate.request_id for slate in open_] for user, open_ in again.users.items()} == {
        user: [slate.request_id for slate in open_] for user, open_ in lived.users.items()
    }
    left = [[closed.rewards.tolist() for closed in pending.close(10**9)] for pending in (again, lived)]
    assert left[0] == left[1]


@pytest.mark.parametrize("settings", [{}, LATE], ids=["one window", "windows and lateness"])
@given(steps=STEPS)
def test_every_slate_closes_once_and_its_last_word_is_what_was_given_out(
    settings: dict[str, Any], steps: list[Any]
) -> None:
    pending, given_out, closed = store(**settings), {}, []
    now, n_slates = 10_000, 0
    for wait, step in steps:
        now += wait
        if step[0] == "serve":
            pending.add(f"r{n_slates}", step[1], tuple(step[2]), features(len(step[2])), now)
            n_slates += 1
        elif step[0] == "click":
            found = pending.attribute(step[1], step[2], step[3], now + step[4])
            if found.slate is not None:
                key = found.slate.request_id
                given_out[key] = given_out.get(key, 0.0) + found.reward
        else:
            closed += pending.close(now - step[1])
        assert pending.hashes == {xxhash.xxh3_64_intdigest(user.encode()): 1 for user in pending.users}
    closed += pending.close(10**9)
    first = [one.slate.request_id for one in closed if not one.correction]
    assert sorted(first) == sorted(f"r{i}" for i in range(n_slates))
    last = {one.slate.request_id: one.rewards.sum() for one in closed}
    for request_id, total in last.items():
        assert total == pytest.approx(given_out.get(request_id, 0.0))
