"""CloudEvents and Debezium envelopes."""

import base64
import json
from typing import Any

import pytest

from streams.kafka.columns import Record
from streams.mapping.translate import Event, Translator
from streams.mapping.values import Fault
from tests.streams.mapping.conftest import NOW, translator_of

CLICKS = """
event_id = "$event.id"
user_id = "who"
item_id = "what"
action = { path = "$event.type", values = { "shop.seen" = "view" } }
timestamp_ms = { path = "$event.time", unit = "iso" }
"""
ATTRIBUTES = {
    "specversion": "1.0",
    "id": "7",
    "source": "/shop",
    "type": "shop.seen",
    "time": "2025-11-24T16:00:00Z",
}
DATA = {"who": "u1", "what": "i1"}
MADE = {"event_id": "7", "user_id": "u1", "item_id": "i1", "action": "view", "timestamp_ms": NOW}
ITEMS = 'item_id = { path = "sku", as = "text" }\ntitle = "name"'


def events(translator: Translator, value: Any, key: Any = None, headers: Any = ()) -> list[Event]:
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    raw_key = None if key is None else json.dumps(key).encode()
    return translator.events(Record("shop", 0, 0, NOW, raw_key, raw), lambda: headers)


def made(event: Event) -> dict[str, Any]:
    assert event.value is not None
    return {name: value for name, value in json.loads(event.value).items() if value is not None}


def cloudevents() -> Translator:
    return translator_of(CLICKS, more='envelope = "cloudevents"')


def test_a_cloudevent_in_structured_mode_has_its_data_in_the_value() -> None:
    (event,) = events(cloudevents(), {**ATTRIBUTES, "data": DATA})
    assert made(event) == MADE
    encoded = base64.b64encode(json.dumps(DATA).encode()).decode()
    (event,) = events(cloudevents(), {**ATTRIBUTES, "data_base64": encoded})
    assert made(event) == MADE


def test_a_cloudevent_in_binary_mode_has_its_attributes_in_headers() -> None:
    headers = [(f"ce_{name}", value.encode()) for name, value in ATTRIBUTES.items()]
    (event,) = events(cloudevents(), DATA, headers=[("content-type", b"application/json"), *headers])
    assert made(event) == MADE


def test_what_is_no_cloudevent_says_so() -> None:
    with pytest.raises(Fault, match="neither a ce_specversion header nor specversion in the value"):
        events(cloudevents(), DATA)
    with pytest.raises(Fault, match="data_base64 of the CloudEvent"):
        events(cloudevents(), {**ATTRIBUTES, "data_base64": "?"})


@pytest.fixture(params=[False, True], ids=["bare", "with its schema"])
def wrap(request: pytest.FixtureRequest) -> Any:
    return lambda payload: {"schema": {"type": "struct"}, "payload": payload} if request.param else payload


def debezium(feeds: str = "content", fields: str = ITEMS) -> Translator:
    return translator_of(fields, feeds=feeds, more='envelope = "debezium"\nkey = "$key.sku"')


@pytest.mark.parametrize("op", ["c", "u", "r"])
def test_a_change_is_the_row_after_it(wrap: Any, op: str) -> None:
    after = {"sku": 7, "name": "Heat"}
    (event,) = events(debezium(), wrap({"op": op, "before": None, "after": after, "source": {}}), {"sku": 7})
    assert (event.key, made(event)["title"]) == (b"7", "Heat")


def test_a_deletion_names_its_item_by_the_row_before_or_the_key(wrap: Any) -> None:
    full = wrap({"op": "d", "before": {"sku": 7, "name": "Heat"}, "after": None})
    assert events(debezium(), full) == [Event(b"7", None)]
    assert events(debezium(), wrap({"op": "d", "before": None, "after": None}), wrap({"sku": 8})) == [
        Event(b"8", None)
    ]


def test_the_tombstone_after_a_deletion_deletes_once_more(wrap: Any) -> None:
    assert events(debezium(), None, wrap({"sku": 7})) == [Event(b"7", None)]


def test_deletions_and_tombstones_of_clicks_are_left_out(wrap: Any) -> None:
    clicks = debezium("clicks", 'user_id = "u"\nitem_id = "i"\naction = { constant = "like" }')
    assert events(clicks, wrap({"op": "d", "before": {"u": "u"}, "after": None})) == []
    assert events(clicks, None, wrap({"sku": 7})) == []


def test_what_is_about_the_stream_is_left_out_and_what_is_no_envelope_says_so(wrap: Any) -> None:
    assert events(debezium(), wrap({"op": "t"})) == events(debezium(), wrap({"op": "m"})) == []
    with pytest.raises(Fault, match="there is no `op`"):
        events(debezium(), {"sku": 7, "name": "Heat"})
    with pytest.raises(Fault, match="the change 'c' has no `after`"):
        events(debezium(), wrap({"op": "c"}))


def test_the_envelope_itself_can_be_asked_for(wrap: Any) -> None:
    translator = translator_of(
        ITEMS + '\npublished_ms = "$event.ts_ms"', feeds="content",
        more='envelope = "debezium"\nwhere = [{ path = "$event.source.table", is = "items" }]',
    )  # fmt: skip
    change = {"op": "c", "after": {"sku": 7, "name": "Heat"}, "ts_ms": NOW}
    (event,) = events(translator, wrap({**change, "source": {"table": "items"}}))
    assert made(event)["published_ms"] == NOW
    assert events(translator, wrap({**change, "source": {"table": "prices"}})) == []
