"""Avro becomes what JSON would be."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from streams.events import decode_click
from streams.mapping.registry import Registry
from streams.mapping.schemas import Schemas
from streams.mapping.translate import Translator
from streams.mapping.values import Fault
from tests.registry_server import RegistryServer, avro, head, registry_server
from tests.streams.mapping.conftest import NOW, record, source_of


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as running:
        yield running


def read(server: RegistryServer, schema: Any, value: Any) -> Any:
    server.register(1, schema)
    return Schemas(Registry(server.url)).read(avro(1, schema, value), kind="avro")


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        ({"type": "long", "logicalType": "timestamp-millis"}, datetime(2025, 11, 24, 16, tzinfo=UTC), NOW),
        ({"type": "long", "logicalType": "timestamp-micros"}, datetime(2025, 11, 24, 16, tzinfo=UTC), NOW),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, datetime(2025, 11, 24, 16), NOW),
        ({"type": "int", "logicalType": "date"}, date(2025, 11, 24), "2025-11-24"),
        ({"type": "int", "logicalType": "time-millis"}, time(0, 1, 2, 3000), 62_003),
        ({"type": "string", "logicalType": "uuid"}, UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, Decimal("9.50"), 9.5),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9}, Decimal("42"), 42),
        ({"type": "enum", "name": "E", "symbols": ["seen", "bought"]}, "bought", "bought"),
        (["null", "string"], None, None),
        ({"type": "array", "items": {"type": "map", "values": "int"}}, [{"a": 1}], [{"a": 1}]),
        ("bytes", b"\xff", b"\xff"),
    ],
)
def test_types_become_those_of_json(server: RegistryServer, kind: Any, value: Any, made: Any) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": kind}]}
    found = read(server, schema, {"x": value})["x"]
    assert (found, type(found)) == (made, type(made))


NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "a", "type": "null"}]}


@pytest.mark.parametrize("items", ["null", {"type": "record", "name": "Empty", "fields": []}, NOTHING])
@pytest.mark.parametrize("inside", [False, True])
def test_an_array_that_a_few_bytes_could_make_endless_is_refused(
    server: RegistryServer, items: Any, *, inside: bool
) -> None:
    array = {"type": "array", "items": items}
    of = {"type": "map", "values": ["null", array]} if inside else array
    server.register(1, {"type": "record", "name": "Row", "fields": [{"name": "x", "type": of}]})
    schemas, count = Schemas(Registry(server.url)), b"\xff" * 8 + b"\x7f"  # of items that are to come
    with pytest.raises(Fault, match="array of items that take no bytes"):
        schemas.read(head(1) + count, kind="avro")


def test_an_array_of_what_refers_to_itself_is_read(server: RegistryServer) -> None:
    children = {"type": "array", "items": "Node"}
    kind = {"type": "record", "name": "Node", "fields": [{"name": "of", "type": children}]}
    assert read(server, kind, {"of": [{"of": []}]}) == {"of": [{"of": []}]}


def test_a_schema_may_refer_to_others_that_refer_to_others(server: RegistryServer) -> None:
    item = {"type": "record", "name": "shop.Item", "fields": [{"name": "sku", "type": "string"}]}
    line = {"type": "record", "name": "shop.Line", "fields": [{"name": "item", "type": "shop.Item"}]}
    order = {"type": "record", "name": "shop.Order",
             "fields": [{"name": "lines", "type": {"type": "array", "items": "shop.Line"}}]}  # fmt: skip
    server.register(1, item, subject="a/item")
    server.register(
        2, line, subject="line", references=[{"name": "shop.Item", "subject": "a/item", "version": 1}]
    )
    server.register(3, order, references=[{"name": "shop.Line", "subject": "line", "version": 1}])
    value = head(3) + b"\x04\x04a1\x04b2\x00"
    found = Schemas(Registry(server.url)).read(value, kind="avro")
    assert found == {"lines": [{"item": {"sku": "a1"}}, {"item": {"sku": "b2"}}]}


def test_paths_conditions_lists_and_keys_work_as_with_json(server: RegistryServer) -> None:
    schema = {
        "type": "record",
        "name": "Shown",
        "fields": [
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "items", "type": {"type": "array", "items": {
                "type": "record", "name": "Item",
                "fields": [{"name": "sku", "type": "long"}, {"name": "opened", "type": "boolean"}]}}},
        ],
    }  # fmt: skip
    key = {"type": "record", "name": "Key", "fields": [{"name": "user", "type": "string"}]}
    server.register(1, schema)
    server.register(2, key)
    source = source_of(
        'user_id = "$key.user"\nitem_id = { path = "@.sku", as = "text" }\n'
        'action = { constant = "click" }\ntimestamp_ms = "at"\nposition = "$index"',
        more=f'format = "avro"\nkey_format = "avro"\nregistry = "{server.url}"\nrepartition = true\n'
        'each = "items"\nwhere = [{ path = "@.opened", is = true }]',
    )
    items = [{"sku": 5, "opened": False}, {"sku": 6, "opened": True}]
    value = avro(1, schema, {"at": datetime(2025, 11, 24, 16, tzinfo=UTC), "items": items})
    translator = Translator(source, schemas=Schemas(Registry(server.url)))
    (event,) = translator.events(record(value, key=avro(2, key, {"user": "u9"})))
    assert event.value is not None
    click = decode_click(event.value)
    assert (click.user_id, click.item_id, click.timestamp_ms, click.position) == ("u9", "6", NOW, 1)
