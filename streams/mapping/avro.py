"""Decodes Avro: what JSON would give, and times in milliseconds."""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro

from streams.mapping.registry import Registry, Schema
from streams.mapping.values import Fault

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class AvroSchema:
    """A schema as fastavro parses it, and the types that have names."""

    parsed: Any
    named: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes the values of a schema."""

    schema: AvroSchema

    def __call__(self, value: bytes) -> Any:
        """Return a value as JSON would have it; raise `Fault` where it does not fit the schema."""
        file = io.BytesIO(value)
        try:
            found = plain(fastavro.schemaless_reader(file, self.schema.parsed, None))
        except EOFError:  # whose words have an address in memory
            raise Fault("is no Avro of its schema: it ends too early") from None
        except Exception as error:  # of foreign bytes fastavro raises whatever comes
            raise Fault(f"is no Avro of its schema: {type(error).__name__} {error}".rstrip()) from None
        if left := len(value) - file.tell():
            raise Fault(f"is no Avro of its schema: {left} bytes are left over")
        return found


def decoder(registry: Registry, schema: Schema) -> Decoder:
    """Return what decodes values that were written with a schema.

    Raises
    ------
    Fault
        It is no Avro schema, or has an array of items that take no bytes.
    UnknownSchema, RegistryError
        A schema that it refers to cannot be had.
    """
    named: dict[str, Any] = {}
    _parse_references(registry, schema, named, set())
    parsed = _parsed(schema, named)
    for one in (parsed, *named.values()):
        if _counts_nothing(one, named):  # a few bytes could stand for a list that fills the memory
            raise Fault("has a schema with an array of items that take no bytes")
    return Decoder(AvroSchema(parsed, named))


def _counts_nothing(schema: Any, named: Mapping[str, Any]) -> bool:
    """Whether a schema has an array of items that may take no bytes, types that it only names aside."""
    if isinstance(schema, list):
        return any(_counts_nothing(branch, named) for branch in schema)
    if not isinstance(schema, dict):
        return False
    inner = [schema.get("values"), schema.get("items"), *(of["type"] for of in schema.get("fields", ()))]
    if schema["type"] == "array" and _takes_nothing(schema["items"], named, frozenset()):
        return True
    return any(_counts_nothing(one, named) for one in inner)


def _takes_nothing(schema: Any, named: Mapping[str, Any], within: frozenset[str]) -> bool:
    """Whether a value may take no bytes: a null, or what has only such fields."""
    if isinstance(schema, str):
        if schema in within:
            return True
        return schema == "null" or (
            schema in named and _takes_nothing(named[schema], named, within | {schema})
        )
    if not isinstance(schema, dict):
        return False  # a union says which branch it is
    if schema["type"] in ("record", "error"):
        return all(_takes_nothing(of["type"], named, within) for of in schema["fields"])
    if schema["type"] == "fixed":
        return bool(schema["size"] == 0)
    return bool(schema["type"] == "null")


def _parse_references(registry: Registry, schema: Schema, named: dict[str, Any], seen: set[str]) -> None:
    """Parse what a schema refers to, and first what that refers to."""
    for name, subject, version in schema.references:
        if name not in seen:
            seen.add(name)
            other = registry.by_version(subject, version)
            _parse_references(registry, other, named, seen)
            _parsed(other, named)


def _parsed(schema: Schema, named: dict[str, Any]) -> Any:
    try:
        return fastavro.parse_schema(json.loads(schema.text), named_schemas=named)
    except Exception as error:
        raise Fault(f"has a schema that is no Avro: {type(error).__name__} {error}") from None


def plain(value: Any) -> Any:
    """Turn a decoded value into what JSON has; times are milliseconds since 1970, or of a day."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    made = _PLAIN.get(type(value))
    return value if made is None else made(value)


def _ms(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _number(value: Decimal) -> int | float:
    whole = value == value.to_integral_value()
    return int(value) if whole and value.as_tuple().exponent == 0 else float(value)


_PLAIN: dict[type, Callable[[Any], Any]] = {
    datetime: _ms,
    date: date.isoformat,
    time: lambda of: ((of.hour * 60 + of.minute) * 60 + of.second) * 1000 + of.microsecond // 1000,
    Decimal: _number,
    UUID: str,
}
