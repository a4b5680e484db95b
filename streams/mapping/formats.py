"""Makes objects of bytes: the format of a value, and the envelope around it."""

from collections.abc import Callable
from typing import Any

import msgspec

from streams.decoding.records import INVALID, NULL_VALUE, why_undecodable
from streams.events import UNDECODABLE
from streams.kafka.columns import Record
from streams.mapping.places import Context
from streams.mapping.schemas import Schemas
from streams.mapping.values import Fault, LeftOut
from streams.settings.source_paths import parse
from streams.settings.sources import DELETED_BY_NULL, REGISTERED, Source


class Unwrapped(Exception):
    """A record says that something is deleted; `before` is what is known of it, None of nothing."""

    def __init__(self, before: Any) -> None:
        super().__init__()
        self.before = before


def read_json(value: bytes) -> Any:
    """Decode the JSON of a value.

    Raises
    ------
    Fault
        Saying what it is instead.
    """
    try:
        found = msgspec.json.decode(value)
    except UNDECODABLE as error:
        reason, words = why_undecodable(error, value)
        raise Fault(words, reason) from None
    if found is None:
        raise Fault(why_undecodable(ValueError(), b"null")[1], NULL_VALUE)
    return found


def value_reader(source: Source, schemas: Schemas | None) -> Callable[[bytes], Any]:
    """Return what decodes a value; it raises `Fault`, and `RegistryError` where a registry is asked."""
    if source.format not in REGISTERED:
        return read_json
    assert schemas is not None
    read, kind = schemas.read, source.format

    def read_registered(value: bytes) -> Any:
        found = read(value, kind=kind)
        if found is None:
            raise Fault(f"is the null of {kind}", NULL_VALUE)
        return found

    return read_registered


def key_reader(source: Source, schemas: Schemas | None) -> Callable[[Record], Any]:
    """Return what decodes a record's key, when a path asks for it."""
    if source.key_format in REGISTERED:
        assert schemas is not None
        read = schemas.read
        return lambda record: None if record.key is None else read(record.key, kind=source.key_format)
    paths = [parse(source.key), *source.paths()]
    inside = any(path.root == "$key" and path.steps for path in paths)
    return read_json_key if inside or source.key_format == "json" else read_text_key


def unwrapper(source: Source) -> Callable[[Context], None]:
    """Return what takes an envelope off a context's value, into its value and event.

    Raises
    ------
    LeftOut
        From what is returned: the record is about the stream, or says again what a null value says.
    Unwrapped
        Something is deleted.
    """
    return {"none": _bare, "cloudevents": _cloudevent, "debezium": lambda context: _change(source, context)}[
        source.envelope
    ]


def _bare(context: Context) -> None:
    return


def _cloudevent(context: Context) -> None:
    """CloudEvents 1.0 for Kafka: binary mode has its attributes in headers, structured mode in the value."""
    attributes = {name[3:]: value for name, value in context.headers.items() if name.startswith("ce_")}
    if "specversion" in attributes:
        context.event = attributes
        return
    event = context.value
    if not isinstance(event, dict) or "specversion" not in event:
        raise Fault("is no CloudEvent: neither a ce_specversion header nor specversion in the value")
    context.event = event
    context.value = event.get("data")
    if isinstance(encoded := event.get("data_base64"), str):
        try:
            data = msgspec.convert(encoded, bytes)
        except msgspec.ValidationError as error:
            raise Fault(f"data_base64 of the CloudEvent: {error}") from None
        context.value = read_json(data)


def _change(source: Source, context: Context) -> None:
    """A Debezium envelope: before, after, op and source; with its schema around it, or without."""
    event = context.value
    if isinstance(event, dict) and event.keys() == {"schema", "payload"}:
        event = event["payload"]
    if not isinstance(event, dict) or "op" not in event:
        raise Fault('is no Debezium envelope: there is no `op`; set envelope = "none" for flattened rows')
    context.event = event
    if event["op"] == "d":
        if source.feeds in DELETED_BY_NULL:
            raise Unwrapped(event.get("before"))
        raise LeftOut
    if event["op"] not in ("c", "u", "r"):  # truncations and messages
        raise LeftOut
    context.value = event.get("after")
    if context.value is None:
        raise Fault(f"the change {event['op']!r} has no `after`")


def payload_opening(value: bytes) -> bytes:
    """Return what stands before the payload of a value that is `{"schema": ..., "payload": ...}`, as bytes.

    Behind it comes the payload's JSON, and one brace. Of any other value it is empty.
    """
    name = b'"payload":'
    before, found, _ = value.partition(name)
    opening = before + found
    try:
        around = msgspec.json.decode(opening + b"null}")
    except UNDECODABLE:
        return b""
    return opening if isinstance(around, dict) and around.keys() == {"schema", "payload"} else b""


def read_text_key(record: Record) -> Any:
    """Return a key as text; raises `Fault` where it is no UTF-8: other text would be another user's id."""
    if record.key is None:
        return None
    try:
        return record.key.decode()
    except UnicodeDecodeError as error:
        raise Fault(f"$key: {error}", INVALID) from None


def read_json_key(record: Record) -> Any:
    """Return a key that is JSON; as text where it is not. Of a key with its schema, the payload."""
    if record.key is None:
        return None
    try:
        key = msgspec.json.decode(record.key)
    except UNDECODABLE:
        return read_text_key(record)
    return key["payload"] if isinstance(key, dict) and key.keys() == {"schema", "payload"} else key
