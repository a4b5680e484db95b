"""Looks at a sample of records: which places they have, and what lies there."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from streams.events import UNDECODABLE
from streams.kafka.partitioner import partition_of
from streams.mapping.sample import Sampled

DEEPEST = 5
MAX_KEPT = 1_000  # values of a place
# Ranges of times from 2001 to 2065, by unit.
_UNITS = {"s": (1e9, 3e9), "ms": (1e12, 3e12), "us": (1e15, 3e15), "ns": (1e18, 3e18)}
_PLAIN_NAME = re.compile(r"[^.\[\]\"'\s$@]+")


@dataclass(slots=True)
class Place:
    """A path, and the values found there; `records` is in how many records something is."""

    path: str
    values: list[Any] = field(default_factory=list)
    records: int = 0

    @property
    def name(self) -> str:
        """The path in lower case with its parts joined by `_`: `User.Id` and `userId` are `user_id`."""
        words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", self.path.removeprefix("$event."))
        return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")

    @property
    def parts(self) -> list[str]:
        """The names on the way, as they are written, without what only leads there."""
        return [part for part in re.split(r"[.@\[\]\"]+", self.path) if part] or [self.path]

    @property
    def last(self) -> str:
        """The last part of the path, as in `name`."""
        words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.split(r"[.@]", self.path)[-1])
        return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")

    def all_are(self, *kinds: type) -> bool:
        """Whether every value is of these types; true and false are no numbers."""
        return bool(self.values) and all(
            isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds)
            for value in self.values
        )

    @property
    def distinct(self) -> int:
        """Number of distinct values among texts, numbers and booleans."""
        return len({repr(value) for value in self.values})

    @property
    def unit(self) -> str | None:
        """The unit of the times that these are: of `FieldSource.unit`; None where they are none."""
        if self.all_are(int, float):
            for unit, (low, high) in _UNITS.items():
                if all(low <= value < high for value in self.values):
                    return unit
        if self.all_are(str) and all(map(_is_iso, self.values)):
            return "iso"
        return None


def _is_iso(text: str) -> bool:
    if len(text) < 10:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Inspected:
    """Contents of a sample.

    Attributes
    ----------
    envelope : as of `Source.envelope`
    places : of values, by path; those in `each` begin with `@`
    each : path of the list of objects that is most likely one of events; None without one
    unread : how many values are no JSON objects
    """

    envelope: str
    places: Mapping[str, Place]
    each: str | None
    records: int
    unread: int


def inspect(sampled: Sequence[Sampled]) -> Inspected:
    """Look at records."""
    objects: list[dict[str, Any]] = []
    headers: list[Mapping[str, bytes | None]] = []
    for one in sampled:
        try:
            value = msgspec.json.decode(one.record.value or b"")
        except UNDECODABLE:
            continue
        if isinstance(value, dict):
            objects.append(value)
            headers.append(dict(one.headers))
    envelope = _envelope(objects, headers)
    places: dict[str, Place] = {}
    lists: dict[str, int] = {}
    for value, of in zip(objects, headers, strict=True):
        body, event = _unwrapped(envelope, value, of)
        _collect(body, "", places, lists)
        _collect(event, "$event", places, {})
    each = max(lists, key=lambda path: lists[path]) if lists else None
    if each is not None:
        for value, of in zip(objects, headers, strict=True):
            elements = _at(_unwrapped(envelope, value, of)[0], each)
            for element in elements if isinstance(elements, list) else ():
                _collect(element, "@", places, {})
    return Inspected(envelope, places, each, len(objects), len(sampled) - len(objects))


def _envelope(objects: Sequence[dict[str, Any]], headers: Sequence[Mapping[str, Any]]) -> str:
    if objects and all("ce_specversion" in of or ("specversion" in value and "type" in value)
                       for value, of in zip(objects, headers, strict=True)):  # fmt: skip
        return "cloudevents"
    bodies = [value["payload"] if value.keys() == {"schema", "payload"} else value for value in objects]
    if bodies and all(isinstance(body, dict) and "op" in body and ("after" in body or "before" in body)
                      for body in bodies):  # fmt: skip
        return "debezium"
    return "none"


def _unwrapped(envelope: str, value: dict[str, Any], headers: Mapping[str, bytes | None]) -> tuple[Any, Any]:
    """Return what is in the envelope, and what it says itself."""
    if envelope == "cloudevents":
        attributes = {
            name[3:]: (text or b"").decode(errors="replace")
            for name, text in headers.items()
            if name.startswith("ce_")
        }
        if attributes:
            return value, attributes
        return value.get("data"), {name: one for name, one in value.items() if name != "data"}
    if envelope == "debezium":
        body = value["payload"] if value.keys() == {"schema", "payload"} else value
        return body.get("after") or body.get("before"), {"ts_ms": body.get("ts_ms")}
    return value, None


def _collect(value: Any, path: str, places: dict[str, Place], lists: dict[str, int], depth: int = 0) -> None:
    if isinstance(value, dict) and depth < DEEPEST:
        for name, inner in value.items():
            plain = _PLAIN_NAME.fullmatch(name)
            step = name if plain else '"' + name.replace('"', '\\"') + '"'
            _collect(inner, f"{path}.{step}" if path else step, places, lists, depth + 1)
        return
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        if path and not path.startswith(("@", "$")):
            lists[path] = lists.get(path, 0) + 1
        return
    if value is None or not path:
        return
    place = places.setdefault(path, Place(path))
    place.records += 1
    if len(place.values) < MAX_KEPT:
        place.values.append(value)


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        value = value.get(step.strip('"')) if isinstance(value, dict) else None
    return value


def why_repartition(
    sampled: Sequence[Sampled], ids: Sequence[str | None], has: int, wanted: int
) -> str | None:
    """Say why a topic cannot be read from where it is; None where it can, or where it is not known.

    Parameters
    ----------
    ids : of the user, or the item, that each record is about; None where it has none
    has, wanted : partitions of the topic, and of ours
    """
    if not has:
        return None
    if has != wanted:
        return f"it has {has} partitions, ours have {wanted}"
    known = [(one.record, id_) for one, id_ in zip(sampled, ids, strict=True) if id_ is not None]
    if has == 1 or not known or all(record.partition == partition_of(id_, has) for record, id_ in known):
        return None
    if all(record.key is None for record, _ in known):
        return "its records have no key, so one's events lie on any partition"
    keys = [(record.partition, record.key) for record, _ in known if record.key is not None]
    if all(place == zlib.crc32(key) % has for place, key in keys):
        return "its producer chooses partitions by CRC32 (librdkafka's default), not by murmur2"
    if all(place == partition_of(key.decode(errors="replace"), has) for place, key in keys):
        return "its key is another than this id"
    return "its records do not lie where murmur2 of the id puts them"
