"""The compiled reader of clicks agrees with msgspec on everything that it reads."""

import json

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.decoding.byte_steps import texts
from streams.decoding.click_kernels import EVENT, FIELDS, ITEM, NAMES, USER, read_clicks
from streams.events import decode_click
from streams.kafka.columns import Record, RecordColumns

ACTIONS = ("view", "click")
TIME = 1_764_000_000_000
GOOD = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "action": "click", "timestamp_ms": TIME}

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(10**11 - 1, 10**13),
    st.floats(-10, 10),
    st.text(max_size=4),
    st.just("x" * 600),
    st.just([1]),
    st.just({"a": "b"}),
)
fields = st.sampled_from([*(name.decode() for name in NAMES), "other"])
changes = st.dictionaries(fields, anything, max_size=4)


def read(value):
    records = RecordColumns.of([Record("clicks", 0, 7, TIME, b"u1", value)])
    spans, numbers = np.zeros((3, 1, 2), np.int64), np.zeros((1, 2), np.int64)
    hashes, good = np.zeros((3, 1), np.uint64), np.empty(1, np.bool_)
    names = texts(tuple(name.encode() for name in ACTIONS))
    read_clicks(records.data, records.table, *FIELDS, *names, spans, numbers, hashes, good)
    if not good[0]:
        return None
    ids = [records.raw[begin : begin + size].decode() for begin, size in spans[:, 0].tolist()]
    return ids[USER], ids[ITEM], ids[EVENT], *numbers[0].tolist()


def by_msgspec(value):
    try:
        click = decode_click(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    code = ACTIONS.index(click.action) if click.action in ACTIONS else len(ACTIONS)
    return click.user_id, click.item_id, click.event_id, code, click.timestamp_ms


def agrees(value):
    found = read(value)
    assert found is None or found == by_msgspec(value), value
    return found is not None


@given(changes, st.sets(fields, max_size=1), st.sampled_from([None, 2]))
def test_it_agrees_on_any_fields(changed, left_out, indent):
    click = {name: value for name, value in {**GOOD, **changed}.items() if name not in left_out}
    agrees(json.dumps(click, indent=indent).encode())


@settings(max_examples=500)
@given(st.data())
def test_it_agrees_on_damaged_clicks(data):
    value = bytearray(json.dumps({**GOOD, "position": 3, "dwell_ms": 2.5, "value": None}).encode())
    at = data.draw(st.integers(0, len(value) - 1))
    kind = data.draw(st.sampled_from(("cut", "drop", "put", "double")))
    if kind == "cut":
        del value[at:]
    elif kind == "drop":
        del value[at]
    elif kind == "double":
        value[at:at] = value[at : at + 12]
    else:
        value[at] = data.draw(st.sampled_from(b'{}[]":,.-+eE0 \\ntf\x00\xff\t'))
    agrees(bytes(value))


def test_it_reads_what_is_common():
    assert agrees(json.dumps(GOOD).encode())
    assert agrees(
        json.dumps({**GOOD, "request_id": "r", "position": 2**31 - 1, "dwell_ms": 1.25, "value": 3}).encode()
    )
    assert agrees(json.dumps({**GOOD, "context": None, "other": True}, indent=1).encode())


def test_what_it_is_not_sure_of_is_left_to_msgspec():
    for changed in ({"user_id": "é"}, {"context": {"a": 1}}, {"user_id": "u" * 129}, {"dwell_ms": 1e30},
                    {"position": 2**31}):  # fmt: skip
        assert read(json.dumps({**GOOD, **changed}, ensure_ascii=False).encode()) is None
