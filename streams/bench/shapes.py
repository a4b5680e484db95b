"""The same click as others may say it, and the mapping that reads it."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from streams.events import Click
from streams.mapping.schemas import Schemas


class Shape(NamedTuple):
    """A kind of topic: its mapping, what writes a click as its producer does, and the schemas it needs."""

    mapping: str
    write: Callable[[Click], bytes]
    schemas: Schemas | None = None


def mapping(fields: str, more: str = "") -> str:
    """Return a mapping of clicks with these fields."""
    return f'[[source]]\ntopic = "shop"\nfeeds = "clicks"\n{more}\n[source.fields]\n{fields}'


ACTIONS = '{ product_seen = "view", product_opened = "click", liked = "like" }'
INSIDE = """
user_id = { path = "user.number", as = "text" }
item_id = "object.sku"
request_id = "object.list"
position = "object.rank"
dwell_ms = "read_ms"
"""
EVENT = f"""
event_id = "id"
action = {{ path = "type", values = {ACTIONS} }}
timestamp_ms = {{ path = "sent_at", unit = "iso" }}
{INSIDE}
"""
CLOUD_EVENT = f"""
event_id = "$event.id"
action = {{ path = "$event.type", values = {ACTIONS} }}
timestamp_ms = {{ path = "$event.time", unit = "iso" }}
{INSIDE}
"""
ROW = f"""
event_id = "id"
user_id = {{ path = "user_number", as = "text" }}
item_id = "sku"
action = {{ path = "kind", values = {ACTIONS} }}
timestamp_ms = "sent_at"
request_id = "list"
position = "rank"
dwell_ms = "read_ms"
"""


def _iso(ms: int) -> str:
    second, fraction = divmod(ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(second))}.{fraction:03d}Z"


def inside(click: Click) -> dict[str, object]:
    """The fields of a click that `INSIDE` reads."""
    return {
        "user": {"number": int(click.user_id[1:]), "plan": "free"},
        "object": {"sku": click.item_id, "rank": click.position, "list": click.request_id},
        "read_ms": click.dwell_ms,
        "bot": False,
    }


def _event(click: Click) -> bytes:
    said = {"id": click.event_id, "type": "product_opened", "sent_at": _iso(click.timestamp_ms)}
    return msgspec.json.encode({**said, **inside(click)})


def _cloud_event(click: Click) -> bytes:
    attributes = {
        "specversion": "1.0", "id": click.event_id, "source": "/shop", "type": "product_opened",
        "time": _iso(click.timestamp_ms), "datacontenttype": "application/json",
    }  # fmt: skip
    return msgspec.json.encode({**attributes, "data": inside(click)})


def change(click: Click) -> dict[str, object]:
    """A change of a row that says a click, as Debezium writes it."""
    row = {
        "id": click.event_id, "user_number": int(click.user_id[1:]), "sku": click.item_id,
        "kind": "product_opened", "sent_at": click.timestamp_ms, "list": click.request_id,
        "rank": click.position, "read_ms": click.dwell_ms,
    }  # fmt: skip
    source = {
        "version": "2.7.0.Final", "connector": "postgresql", "name": "shop", "ts_ms": click.timestamp_ms,
        "snapshot": "false", "db": "shop", "schema": "public", "table": "clicks", "txId": 571,
        "lsn": 24023128,
    }  # fmt: skip
    return {
        "before": None, "after": row, "source": source, "op": "c", "ts_ms": click.timestamp_ms + 5,
        "transaction": None,
    }  # fmt: skip


def _connect_schema(value: Any, field: str | None = None) -> dict[str, Any]:
    """Describe a value as Kafka Connect's JSON converter does."""
    said = {"optional": True} if field is None else {"optional": True, "field": field}
    if isinstance(value, dict):
        return {
            "type": "struct",
            "fields": [_connect_schema(one, name) for name, one in value.items()],
            **said,
        }
    return {"type": "string" if value is None or isinstance(value, str) else "int64", **said}


def _change_with_schema(click: Click) -> bytes:
    said = change(click)
    schema = _connect_schema({**said, "before": said["after"]})
    return msgspec.json.encode({"schema": schema, "payload": said})


BOT = 'where = [{ path = "bot", is_not = true }]'
SHAPES = {
    "JSON": Shape(mapping(EVENT, BOT), _event),
    "CloudEvents": Shape(mapping(CLOUD_EVENT, 'envelope = "cloudevents"'), _cloud_event),
    "Debezium": Shape(
        mapping(ROW, 'envelope = "debezium"'), lambda click: msgspec.json.encode(change(click))
    ),
    "Debezium with schema": Shape(mapping(ROW, 'envelope = "debezium"'), _change_with_schema),
}
