"""What a request may be given, against the rules said one by one."""

from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from model_core.signals.pasts import Pasts
from streams.events import Request
from streams.serving.allowed_rows import AllowedRows, Wanted
from streams.serving.eligibility import Eligibility
from streams.state.catalogue import Catalogue
from streams.state.item_index import ItemIndex
from streams.state.item_rows import encode_item_state
from streams.state.people import People
from streams.state.prerequisites import Prerequisites
from streams.state.stated import NOTHING_STATED, Stated

NOW = 1_700_000_000_000
NAMES = "abcdef"
GENRES = {"a": ["x"], "b": ["x", "y"], "c": ["y"], "d": [], "e": ["x"], "f": ["y"]}
REQUIRES = {"c": ["a"], "e": ["a", "b"], "f": ["unknown"]}
WINDOWS = {"e": (NOW - 10, None), "f": (None, NOW + 10)}  # published and expires


def world():
    index = ItemIndex()
    catalogue = Catalogue(index)
    eligibility = Eligibility(catalogue, now_ms=NOW)
    prerequisites = Prerequisites(catalogue, index, "requires", np.array([False, True]))
    for name in NAMES:
        published, expires = WINDOWS.get(name, (None, None))
        value = encode_item_state(
            content_id=name, title=name, text=None, image=None, audio=None, triples=[],
            attributes={"genre": GENRES[name], "requires": REQUIRES.get(name, [])}, available=name != "d",
            published_ms=published, expires_ms=expires, partition=0, offset=0,
        )  # fmt: skip
        changed = catalogue.apply([SimpleNamespace(key=name.encode(), value=value, timestamp=0)])
        prerequisites.changed(changed)
        eligibility.changed(changed)
    eligibility.mark_encoded(index.rows_of(list(NAMES)).astype(np.int64))
    return index, catalogue, eligibility, prerequisites


def lasts(name, time_ms):
    published, expires = WINDOWS.get(name, (None, None))
    return name != "d" and (published or 0) <= time_ms and (expires is None or time_ms < expires)


names = st.lists(st.sampled_from([*NAMES, "unknown"]), max_size=3)
asked = st.fixed_dictionaries(
    {
        "late": st.sampled_from([-20, 0, 0, 20]),
        "exclude": names,
        "candidates": st.one_of(st.none(), names),
        "genre": st.one_of(st.none(), st.lists(st.sampled_from("xyz"), max_size=2)),
        "seen": st.lists(st.sampled_from(NAMES), max_size=6),
        "events": st.lists(st.tuples(st.sampled_from([*NAMES, "unknown"]), st.integers(0, 1)), max_size=6),
        "blocked": st.lists(st.sampled_from(NAMES), max_size=2),
    }
)


@given(st.lists(asked, min_size=1, max_size=4))
def test_a_request_may_be_given_what_its_own_rules_leave_whatever_is_in_its_batch(batch):
    index, catalogue, eligibility, prerequisites = world()
    requests = [
        Request(
            request_id=f"{number}", user_id="u", timestamp_ms=NOW + one["late"], exclude=one["exclude"],
            candidates=one["candidates"], filters={} if one["genre"] is None else {"genre": one["genre"]},
        )
        for number, one in enumerate(batch)
    ]  # fmt: skip
    events = [event for one in batch for event in one["events"]]
    actions = np.array([action for _, action in events], np.uint8)
    pasts = Pasts(
        np.cumsum([0, *(len(one["events"]) for one in batch)]), index.rows_of([item for item, _ in events]),
        actions, actions > 0, np.zeros(len(events), np.int64),
    )  # fmt: skip
    people = People(
        pasts=pasts, events=np.zeros(len(batch), np.int64),
        seen=[index.rows_of(one["seen"]) for one in batch],
        stated=[
            Stated(0, {}, [], index.rows_of(one["blocked"])) if one["blocked"] else NOTHING_STATED
            for one in batch
        ],
    )  # fmt: skip
    wanted = Wanted(
        requests=requests,
        people=people,
        bits=eligibility.bits,
        on_time=[eligibility.holds(request.timestamp_ms) for request in requests],
        filters=[[catalogue.postings(*pair) for pair in request.filters.items()] for request in requests],
        opened=prerequisites.opened(pasts),
    )
    allowed = AllowedRows(eligibility, index, prerequisites).of(wanted, len(index), fallback=None)
    rows = index.rows_of(list(NAMES))
    for b, one in enumerate(batch):
        may = {
            name
            for name in NAMES
            if lasts(name, NOW + one["late"])
            and {(needed, 1) for needed in REQUIRES.get(name, [])} <= set(one["events"])
            and name not in one["exclude"]
            and name not in one["blocked"]
            and (one["candidates"] is None or name in one["candidates"])
            and (one["genre"] is None or set(one["genre"]) & set(GENRES[name]))
        }
        unseen = may - set(one["seen"])

        def given(seen, b=b):
            permitted = allowed.permits(b, rows, seen=seen)
            return {name for name, yes in zip(NAMES, permitted.tolist(), strict=True) if yes}

        alone = Pasts(
            np.array([0, len(one["events"])]), *(c[pasts.bounds[b] : pasts.bounds[b + 1]] for c in pasts[1:])
        )
        unlocked = prerequisites.permits(rows.astype(np.int64), alone)
        assert given(seen=True) == may
        assert may <= {name for name, yes in zip(NAMES, unlocked.tolist(), strict=True) if yes}
        assert given(seen=False) == (unseen or may)
        assert allowed.fallbacks[b] == ("all_seen" if may and not unseen else None)
