"""Protobuf becomes what JSON would be, by the descriptors that the registry gives."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pool, message_factory, text_format, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from streams.mapping.registry import Registry
from streams.mapping.schemas import Schemas
from streams.mapping.values import Fault
from tests.registry_server import RegistryServer, head, registry_server

NOW = 1_764_000_000_123
ITEM = """
name: "item.proto" package: "shop" syntax: "proto3"
message_type { name: "Item" field { name: "sku" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } }
"""
CLICK = """
name: "click.proto" package: "shop" syntax: "proto3"
dependency: "item.proto" dependency: "google/protobuf/timestamp.proto"
dependency: "google/protobuf/wrappers.proto"
enum_type { name: "Kind" value { name: "SEEN" number: 0 } value { name: "BOUGHT" number: 1 } }
message_type { name: "Other" nested_type { name: "Inner"
  field { name: "n" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL } } }
message_type {
  name: "Click"
  field { name: "user" number: 1 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "items" number: 2 type: TYPE_MESSAGE type_name: ".shop.Item" label: LABEL_REPEATED }
  field { name: "kind" number: 3 type: TYPE_ENUM type_name: ".shop.Kind" label: LABEL_OPTIONAL }
  field { name: "at" number: 4 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp"
    label: LABEL_OPTIONAL }
  field { name: "note" number: 5 type: TYPE_MESSAGE type_name: ".google.protobuf.StringValue"
    label: LABEL_OPTIONAL }
  field { name: "tags" number: 6 type: TYPE_MESSAGE type_name: ".shop.Click.TagsEntry" label: LABEL_REPEATED }
  field { name: "place" number: 7 type: TYPE_INT32 label: LABEL_OPTIONAL oneof_index: 0
    proto3_optional: true }
  nested_type { name: "TagsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".shop.Item" label: LABEL_OPTIONAL } }
  oneof_decl { name: "_place" }
}
"""
CLICK_AT, INNER_AT = b"\x02\x02", b"\x04\x00\x00"  # [1] and [0, 0], zigzag


def file(text: str) -> FileDescriptorProto:
    return text_format.Parse(text, FileDescriptorProto())


def message(name: str, text: str) -> bytes:
    pool = descriptor_pool.DescriptorPool()
    for known in (timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.Add(file(ITEM))
    pool.Add(file(CLICK))
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()
    return bytes(text_format.Parse(text, made, descriptor_pool=pool).SerializeToString())


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry_server() as running:
        running.register(1, file(ITEM), kind="PROTOBUF", subject="item")
        references = [{"name": "item.proto", "subject": "item", "version": 1}]
        running.register(2, file(CLICK), kind="PROTOBUF", references=references)
        yield running


def read(server: RegistryServer, value: bytes) -> Any:
    return Schemas(Registry(server.url)).read(value, kind="protobuf")


def test_a_message_becomes_what_json_would_be(server: RegistryServer) -> None:
    text = f"""user: 9007199254740993 items {{ sku: "a" }} items {{ sku: "b" }} kind: BOUGHT
        at {{ seconds: {NOW // 1000} nanos: 123456789 }} note {{ value: "n" }}
        tags {{ key: "k" value {{ sku: "c" }} }} place: 0"""
    assert read(server, head(2) + CLICK_AT + message("shop.Click", text)) == {
        "user": 9007199254740993, "items": [{"sku": "a"}, {"sku": "b"}], "kind": "BOUGHT", "at": NOW,
        "note": "n", "tags": {"k": {"sku": "c"}}, "place": 0,
    }  # fmt: skip


def test_what_is_not_there_is_left_out_or_its_default(server: RegistryServer) -> None:
    assert read(server, head(2) + CLICK_AT) == {"user": 0, "items": [], "kind": "SEEN", "tags": {}}


def test_the_index_list_finds_the_first_message_and_nested_ones(server: RegistryServer) -> None:
    assert read(server, head(1) + b"\0" + message("shop.Item", 'sku: "a"')) == {"sku": "a"}
    assert read(server, head(2) + INNER_AT + message("shop.Other.Inner", "n: -5")) == {"n": -5}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (head(2), "has no list of message indexes"),
        (head(2) + b"\xff\xff\xff\xff\xff\xff", "has no list of message indexes"),
        (head(2) + b"\xfe\xff\xff\xff\x0f\2", "has no list of message indexes"),
        (head(2) + b"\2\x0e", r"is of the message \[7\], which its schema does not have"),
        (head(2) + b"\1", "has a list of -1 message indexes"),
        (head(2) + CLICK_AT + b"\x0a\xff", "schema 2 is no Protobuf of shop.Click"),
        (head(3) + b"\0", "schema 3 has a schema that imports item.proto, to which the registry has no"),
        (head(4) + b"\0", "schema 4 is AVRO, and the mapping says protobuf"),
        (head(5) + b"\0", "names the schema 5, which"),
    ],
)
def test_a_bad_value_is_a_fault(server: RegistryServer, value: bytes, why: str) -> None:
    server.register(3, file(CLICK), kind="PROTOBUF")
    server.register(4, {"type": "string"})
    with pytest.raises(Fault, match=why):
        read(server, value)


def test_a_registry_that_gives_no_descriptors_is_said_so(server: RegistryServer) -> None:
    server.gives_descriptors = False
    with pytest.raises(
        Fault, match=r"whose descriptors the registry does not give: it has to answer \?format="
    ):
        read(server, head(1) + b"\0")
