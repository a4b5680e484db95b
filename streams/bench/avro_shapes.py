"""The same click in Avro as Confluent's serializers write it; its schemas are in this process."""

import io
import json
from collections.abc import Callable
from importlib import util
from typing import Any

from streams.bench.shapes import ACTIONS, BOT, INSIDE, ROW, Shape, change, inside, mapping
from streams.events import Click
from streams.mapping.registry import Registry, Schema
from streams.mapping.schemas import Schemas

_REGISTRY = "http://in-this-process"
_FORMAT = f'format = "avro"\nregistry = "{_REGISTRY}"\n'
_HEAD = b"\0" + (1).to_bytes(4, "big")
EVENT = f"""
event_id = "id"
action = {{ path = "type", values = {ACTIONS} }}
timestamp_ms = "sent_at"
{INSIDE}
"""


class OneSchema(Registry):
    """A registry that has one Avro schema, whatever the id."""

    def __init__(self, schema: Any) -> None:
        super().__init__(_REGISTRY)
        self._text = json.dumps(schema)

    def by_id(self, number: int) -> Schema:
        """Return the schema."""
        return Schema("AVRO", self._text, ())


def _record(kind: str, /, **fields: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": kind,
        "fields": [{"name": name, "type": of} for name, of in fields.items()],
    }


_TIME = {"type": "long", "logicalType": "timestamp-millis"}
_KIND = {"type": "enum", "name": "Kind", "symbols": ["product_seen", "product_opened", "liked"]}
_EVENT = _record(
    "Event", id="string", type=_KIND, sent_at=_TIME, user=_record("User", number="long", plan="string"),
    object=_record("Object", sku="string", rank=["null", "int"], list=["null", "string"]),
    read_ms=["null", "double"], bot="boolean",
)  # fmt: skip
_ROW = _record(
    "Value", id="string", user_number="long", sku="string", kind="string", sent_at="long",
    list=["null", "string"], rank=["null", "int"], read_ms=["null", "double"],
)  # fmt: skip
_SOURCE = _record(
    "Source", version="string", connector="string", name="string", ts_ms="long",
    snapshot=["null", "string"], db="string", schema="string", table="string", txId=["null", "long"],
    lsn=["null", "long"],
)  # fmt: skip
_CHANGE = _record(
    "Envelope", before=["null", _ROW], after=["null", "Value"], source=_SOURCE, op="string",
    ts_ms=["null", "long"], transaction=["null", _record("Block", id="string")],
)  # fmt: skip


def _event(click: Click) -> dict[str, object]:
    return {
        "id": click.event_id, "type": "product_opened", "sent_at": click.timestamp_ms, **inside(click),
    }  # fmt: skip


def _shape(text: str, schema: Any, say: Callable[[Click], dict[str, object]]) -> Shape:
    import fastavro

    parsed = fastavro.parse_schema(schema)

    def write(click: Click) -> bytes:
        file = io.BytesIO()
        fastavro.schemaless_writer(file, parsed, say(click))
        return _HEAD + file.getvalue()

    return Shape(text, write, Schemas(OneSchema(schema)))


def avro_shapes() -> dict[str, Shape]:
    """Return the shapes in Avro; none where the package that writes it is not installed."""
    if util.find_spec("fastavro") is None:
        return {}
    return {
        "Avro": _shape(mapping(EVENT, _FORMAT + BOT), _EVENT, _event),
        "Debezium in Avro": _shape(mapping(ROW, _FORMAT + 'envelope = "debezium"'), _CHANGE, change),
    }
