"""Records of others' topics, by mappings: in JSON, Avro and Protobuf."""

import json
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import fastavro
import msgspec
import numpy as np
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from streams.decoding.clicks import ClickColumns, click_columns
from streams.events import (
    decode_click,
    decode_content,
    decode_dead_letter,
    decode_request,
    decode_user,
)
from streams.kafka.columns import Record
from streams.mapping.avro import decoder as avro_decoder
from streams.mapping.click_reader import ClickReader
from streams.mapping.protobuf import decoder as protobuf_decoder
from streams.mapping.registry import Registry, Schema, UnknownSchema
from streams.mapping.schemas import Schemas
from streams.mapping.translate import Translator
from streams.mapping.values import Fault
from streams.settings.sources import Source, parse_sources
from tests.fuzz.examples import (
    CODES,
    DAY,
    NOW,
    batch_of,
    said,
    words_of,
    written,
)

FLAT = """
[[source]]
topic = "shop"
feeds = "clicks"
where = [{ path = "bot", is_not = [true, "yes", 1] }, { path = "sku", exists = true }]
[source.fields]
user_id = { path = "user.id", as = "text" }
item_id = "sku"
action = { path = "type", values = { seen = "view", 7 = "like", true = "click" } }
timestamp_ms = { path = "at", unit = "s" }
position = "user.rank"
"""
ISO = """
[[source]]
topic = "shop"
feeds = "clicks"
[source.fields]
user_id = "u"
item_id = { path = "i", as = "text" }
action = { constant = "like" }
timestamp_ms = { path = "at", unit = "iso" }
event_id = { template = "shop-{$partition}-{$offset}" }
"""
FLAT_EVENT = {"user": {"id": 5, "rank": 2}, "sku": "i1", "type": "seen", "at": 1764000000, "bot": False,
              "more": [{"a": [1, -2.5, "é"]}]}  # fmt: skip
ISO_EVENT = {"u": "u1", "i": 7, "at": "2025-11-24T16:00:00.123+01:00", "x": {"y": "\u2028"}}


class MappedClicks:
    """Clicks of a mapping, by its kernel, against translating each record."""

    batch = 200

    def __init__(self, mapping: str, *events: dict[str, Any]) -> None:
        self.seeds = written(events)
        self.words = [*words_of(events), b'"id"', b'"rank"', b'"seen"', b'"yes"', b'"2025-11-24T16:00:00Z"']
        self._source = parse_sources(mapping, "mapping")[0]
        self._reader = ClickReader(self._source, CODES, DAY)
        assert self._reader.compiled

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """See `Target`."""
        records = batch_of(inputs)
        columns = self._reader(records)
        made = Translator(self._source).batch(records)
        expected = click_columns(made.records, CODES, DAY)
        refused = sorted((bad.record.offset, bad.reason) for bad in (*made.rejected, *expected.rejected))
        assert sorted((bad.record.offset, bad.reason) for bad in columns.rejected) == refused
        assert columns.left_out == made.left_out
        for name in ("offsets", "keys", "times", "actions"):
            assert np.array_equal(getattr(columns, name), getattr(expected, name)), name
        assert (columns.users, columns.items) == (expected.users, expected.items)
        assert [columns.click(row) for row in range(len(columns))] == [
            expected.click(row) for row in range(len(expected))
        ]
        return _answers(columns, len(inputs))


def _answers(columns: ClickColumns, n: int) -> list[Hashable]:
    found: dict[int, Hashable] = {bad.record.offset: said(bad) for bad in columns.rejected}
    for row, offset in enumerate(columns.offsets.tolist()):
        click = columns.click(row)
        found[offset] = tuple(type(getattr(click, name)) for name in click.__struct_fields__)
    return [found.get(offset) for offset in range(n)]


CHANGED = FLAT.replace('"clicks"', '"clicks"\nenvelope = "debezium"')
CHANGED_EVENT = {"before": None, "after": FLAT_EVENT, "op": "c", "source": {}}
CLOUD = """
[[source]]
topic = "shop"
feeds = "requests"
envelope = "cloudevents"
[source.fields]
request_id = "$event.id"
user_id = { path = "who", as = "text" }
timestamp_ms = { path = "$event.time", unit = "iso" }
k = "n"
context = "about"
"""
CLOUD_EVENT = {"specversion": "1.0", "id": "r1", "source": "/s", "type": "t", "time": "2025-11-24T16:00:00Z",
               "data": {"who": 5, "n": 3, "about": {"page": "home"}}}  # fmt: skip
CHANGE = """
[[source]]
topic = "shop"
feeds = "content"
envelope = "debezium"
[source.fields]
item_id = { path = "id", as = "text" }
title = "name"
attributes.genre = { path = "tags", split = "," }
available = "stock"
"""
CHANGES = (
    {"before": None, "after": {"id": 1, "name": "T", "tags": "a,b", "stock": True}, "op": "c", "source": {}},
    {"schema": {}, "payload": {"before": {"id": 1}, "after": None, "op": "d", "ts_ms": NOW}},
)
EACH = """
[[source]]
topic = "shop"
feeds = "clicks"
each = "lines"
repartition = true
[source.fields]
user_id = "buyer"
item_id = "@.sku"
action = { constant = "like" }
value = { path = "@.price", as = "number" }
event_id = { path = "@.id", as = "text" }
"""
EACH_EVENT = {
    "buyer": "u",
    "lines": [{"sku": "a", "price": "3.5", "id": 1}, {"sku": "b", "price": 2, "id": 2}],
}
DECODERS = {
    "clicks": decode_click,
    "content": decode_content,
    "requests": decode_request,
    "users": decode_user,
}


class Mapped:
    """Records of a mapping: each is refused, left out, or makes events that a worker takes."""

    batch = 100

    def __init__(
        self, mapping: str, seeds: Sequence[bytes], words: Sequence[bytes], schemas: Schemas | None = None
    ) -> None:
        self.seeds, self.words = seeds, words
        self._source: Source = parse_sources(mapping, "mapping")[0]
        self._translator = Translator(self._source, schemas=schemas)

    def check(self, inputs: list[bytes]) -> list[Hashable]:
        """See `Target`."""
        return [self._answer(Record("shop", 0, 0, NOW, b"u1", value)) for value in inputs]

    def _answer(self, record: Record) -> Hashable:
        try:
            events = self._translator.events(record)
        except Fault as fault:
            bad = self._translator.rejection(record, fault)
            decode_dead_letter(bad.dead_letter()[1])
            return said(bad)
        made = [
            None if event.value is None else DECODERS[self._source.feeds](event.value) for event in events
        ]
        return tuple(
            None if one is None else tuple(map(type, msgspec.structs.astuple(one))) for one in made[:3]
        )


class OneSchema(Registry):
    """A registry that has one schema, whose id is 1."""

    def __init__(self, schema: Schema) -> None:
        super().__init__("http://schemas.invalid")
        self._one = schema

    def by_id(self, number: int) -> Schema:
        """Return the schema of an id."""
        if number != 1:
            raise UnknownSchema
        return self._one


AVRO = {
    "type": "record",
    "name": "Seen",
    "fields": [
        {"name": "who", "type": ["null", "string", "long"]},
        {"name": "what", "type": {"type": "array", "items": "string"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {
            "name": "price",
            "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}],
        },
        {"name": "more", "type": {"type": "map", "values": ["double", "boolean", "bytes"]}},
    ],
}
AVRO_MAPPING = """
[[source]]
topic = "shop"
feeds = "clicks"
format = "avro"
each = "what"
repartition = true
registry = "http://schemas.invalid"
[source.fields]
user_id = { path = "who", as = "text" }
item_id = "@"
event_id = { template = "{$topic}-{$partition}-{$offset}-{$index}" }
action = { constant = "view" }
timestamp_ms = "at"
value = { path = "price", as = "number" }
context = "more"
"""
PROTO = """
name: "seen.proto" syntax: "proto3"
message_type { name: "Seen"
  field { name: "who" number: 1 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "what" number: 2 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "at" number: 3 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "inner" number: 4 type: TYPE_MESSAGE type_name: ".Seen" label: LABEL_OPTIONAL }
  field { name: "price" number: 5 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
}
"""
PROTO_MAPPING = AVRO_MAPPING.replace('"avro"', '"protobuf"').replace(
    'context = "more"\n', 'context = "inner"\n'
)
HEAD = b"\0\0\0\0\1"


def avro() -> Mapped:
    """Values in Avro."""
    import io

    seeds = []
    for event in (
        {"who": "u", "what": ["a", "b"], "at": NOW * 1000, "day": None, "price": None, "more": {}},
        {
            "who": 7,
            "what": ["é"],
            "at": NOW * 1000,
            "day": 20_000,
            "price": b"\x03\xb6",
            "more": {"a": 1.5, "b": True},
        },
    ):
        out = io.BytesIO()
        plain = json.loads(json.dumps(AVRO).replace(', "logicalType"', ', "unread"'))
        fastavro.schemaless_writer(out, fastavro.parse_schema(plain), event)
        seeds.append(HEAD + out.getvalue())
    schema = Schema("AVRO", json.dumps(AVRO), ())
    assert callable(avro_decoder(OneSchema(schema), schema))
    return Mapped(
        AVRO_MAPPING,
        seeds,
        (HEAD, b"\x7f" * 9, b"\x80" * 10, b"\xff" * 9 + b"\x01"),
        Schemas(OneSchema(schema)),
    )


def protobuf() -> Mapped:
    """Values in Protobuf."""
    import base64

    from google.protobuf import descriptor_pool, message_factory

    file = text_format.Parse(PROTO, FileDescriptorProto())
    schema = Schema("PROTOBUF", base64.b64encode(file.SerializeToString()).decode(), ())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("Seen"))
    message = made(who=5, what=["a", "é"], at=NOW, price=2.5)
    message.inner.who = 3
    assert callable(protobuf_decoder(OneSchema(schema), schema))
    value = HEAD + b"\0" + message.SerializeToString()
    return Mapped(
        PROTO_MAPPING,
        [value, HEAD + b"\x02\x00" + value[6:]],
        (HEAD, b"\x22\x02" * 50, b"\xff" * 9),
        Schemas(OneSchema(schema)),
    )


TARGETS: dict[str, Callable[[], Any]] = {
    "mapped-clicks": lambda: MappedClicks(FLAT, FLAT_EVENT),
    "mapped-clicks-iso": lambda: MappedClicks(ISO, ISO_EVENT),
    "mapped-clicks-debezium": lambda: MappedClicks(
        CHANGED, CHANGED_EVENT, {"schema": {"type": "struct"}, "payload": CHANGED_EVENT}
    ),
    "mapping-cloudevents": lambda: Mapped(CLOUD, written([CLOUD_EVENT]), words_of([CLOUD_EVENT])),
    "mapping-debezium": lambda: Mapped(CHANGE, written(CHANGES), words_of(CHANGES)),
    "mapping-each": lambda: Mapped(EACH, written([EACH_EVENT]), words_of([EACH_EVENT])),
    "mapping-avro": avro,
    "mapping-protobuf": protobuf,
}
