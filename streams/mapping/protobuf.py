"""Decodes Protobuf by a registry's descriptors: what JSON would give, and times in milliseconds."""

import base64
import binascii
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError, Message

from streams.mapping.registry import Registry, Schema
from streams.mapping.values import Fault

_OURS = "value.proto"  # a registry has no name for the file that an id stands for
_WRAPPERS = {f"google.protobuf.{name}Value" for name in (
    "Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes",
)}  # fmt: skip
_JSON = {"google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"}


def decoder(registry: Registry, schema: Schema) -> Callable[[bytes], Any]:
    """Return what decodes values that begin with the index list of their message.

    Raises
    ------
    Fault
        The registry gives no descriptors of it, or they are not whole.
    UnknownSchema, RegistryError
        A schema that it imports cannot be had.
    """
    pool, added = descriptor_pool.DescriptorPool(), set[str]()
    file = _add(registry, schema, _OURS, pool, added)
    classes: dict[tuple[int, ...], type[Message]] = {}

    def decode(value: bytes) -> Any:
        indexes, at = _indexes(value)
        made = classes.get(indexes)
        if made is None:
            made = classes[indexes] = message_factory.GetMessageClass(
                pool.FindMessageTypeByName(_name(file, indexes))
            )
        try:
            return plain(made.FromString(value[at:]))
        except (DecodeError, ValueError, RecursionError) as error:
            name = made.DESCRIPTOR.full_name
            raise Fault(f"is no Protobuf of {name}: {error}".rstrip(": ")) from None

    return decode


def _add(
    registry: Registry, schema: Schema, name: str, pool: descriptor_pool.DescriptorPool, added: set[str]
) -> FileDescriptorProto:
    """Add a file to a pool, what it imports first; return it."""
    added.add(name)
    for other, subject, version in schema.references:
        if other not in added:
            _add(registry, registry.by_version(subject, version), other, pool, added)
    file = _file(schema)
    file.name = name
    for imported in file.dependency:
        if imported not in added:
            _add_known(imported, pool, added)
    try:
        pool.AddSerializedFile(file.SerializeToString())
        pool.FindFileByName(name)
    except Exception as error:  # the pool's own errors are of several kinds
        raise Fault(f"has a schema whose descriptors are not whole: {error}") from None
    return file


def _file(schema: Schema) -> FileDescriptorProto:
    try:
        return FileDescriptorProto.FromString(base64.b64decode(schema.text, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        raise Fault(
            "has a schema whose descriptors the registry does not give: it has to answer ?format=serialized"
        ) from None


def _add_known(name: str, pool: descriptor_pool.DescriptorPool, added: set[str]) -> None:
    """Add one of the files that come with Protobuf itself."""
    added.add(name)
    try:
        if not name.startswith("google/protobuf/"):
            raise KeyError
        importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
        file = descriptor_pool.Default().FindFileByName(name)
    except (ImportError, KeyError):
        raise Fault(f"has a schema that imports {name}, to which the registry has no reference") from None
    for other in file.dependencies:
        if other.name not in added:
            _add_known(other.name, pool, added)
    pool.AddSerializedFile(file.serialized_pb)


def _indexes(value: bytes) -> tuple[tuple[int, ...], int]:
    """Read the list of indexes that leads to the message, and where the message begins."""
    count, at = _zigzag(value, 0)
    if count == 0:  # short for the first message
        return (0,), at
    if count < 0:
        raise Fault(f"has a list of {count} message indexes after its schema id")
    indexes: list[int] = []
    for _ in range(count):  # a value that is too short ends it
        index, at = _zigzag(value, at)
        indexes.append(index)
    return tuple(indexes), at


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(value) and shift < 35:
        byte = value[at]
        number, at, shift = number | (byte & 0x7F) << shift, at + 1, shift + 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
    raise Fault("has no list of message indexes after its schema id")


def _name(file: FileDescriptorProto, indexes: tuple[int, ...]) -> str:
    """Return the full name of the message that a list of indexes leads to."""
    among: Sequence[DescriptorProto] = file.message_type
    names = [file.package] if file.package else []
    for index in indexes:
        if not 0 <= index < len(among):
            raise Fault(f"is of the message {list(indexes)}, which its schema does not have")
        names.append(among[index].name)
        among = among[index].nested_type
    return ".".join(names)


def plain(message: Message) -> Any:
    """Turn a message into what JSON has.

    Names are those of the schema, enums their names, timestamps milliseconds since 1970. What is not there
    and can be told from its default is left out.
    """
    name = message.DESCRIPTOR.full_name
    of: Any = message
    if name == "google.protobuf.Timestamp":
        return of.seconds * 1000 + of.nanos // 1_000_000
    if name in _WRAPPERS:
        return of.value
    if name in _JSON:
        return json_format.MessageToDict(message)
    return {
        field.name: _of_field(field, getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _of_field(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        inner = field.message_type.fields_by_name["value"]
        return {_key(key): _one(inner, value[key]) for key in value}
    if field.is_repeated:
        return [_one(field, one) for one in value]
    return _one(field, value)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _one(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return value if known is None else known.name
    return value
