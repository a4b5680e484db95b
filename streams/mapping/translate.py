"""Makes our events of a source's records, as the mapping file says: a record in, events out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from streams.decoding.records import INVALID, NULL_VALUE, TIMESTAMP, TOO_LARGE, Rejected
from streams.events import encode
from streams.kafka.columns import OFFSET, Record, RecordColumns
from streams.kafka.columns import TIMESTAMP as RECORD_TIME
from streams.mapping.formats import Unwrapped, key_reader, unwrapper, value_reader
from streams.mapping.places import Context, Headers, as_text, getter
from streams.mapping.schemas import Schemas
from streams.mapping.values import Fault, LeftOut, Maker, maker
from streams.pseudonyms import Pseudonyms
from streams.settings.source_paths import parse
from streams.settings.sources import DELETED_BY_NULL, IDS, STRUCTS, Condition, FieldSource, Source

MAX_EVENTS = 10_000
"""Of one record: each repeats what it shares with the others."""


@dataclass(frozen=True, slots=True)
class Event:
    """One of our events: its key and its JSON, None where it deletes what the key names."""

    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Translated:
    """Result of mapping a batch of a source's records.

    Attributes
    ----------
    records : our events with topic, offset and time of the records that they came from
    rejected : source records that break the mapping or a rule of our events
    left_out : how many the mapping leaves out
    """

    records: RecordColumns
    rejected: list[Rejected]
    left_out: int


class Translator:
    """Translates the records of one source.

    Parameters
    ----------
    schemas : of the registry that its formats need
    pseudonyms : of users, by which events name them; None = by their ids
    """

    def __init__(
        self, source: Source, *, schemas: Schemas | None = None, pseudonyms: Pseudonyms | None = None
    ) -> None:
        self.source = source
        self._pseudonyms = pseudonyms if IDS[source.feeds] == "user_id" else None
        self._schemas = schemas
        self.read = value_reader(source, schemas)
        self._struct = STRUCTS[source.feeds]
        self._id = IDS[source.feeds]
        self._read_key = key_reader(source, schemas)
        self._unwrap = unwrapper(source)
        self._key = getter(parse(source.key))
        self._each = None if source.each is None else getter(parse(source.each))
        self._tests = [_test(condition) for condition in source.where]
        struct = self._struct
        required = struct.__struct_fields__[: len(struct.__struct_fields__) - len(struct.__struct_defaults__)]
        self._makers = {
            name: maker(name, spec, required=name in required)
            if isinstance(spec, FieldSource)
            else _object_maker(name, spec)
            # What is left out needs no other field.
            for name, spec in sorted(source.all_fields.items(), key=lambda one: not _leaves_out(one[1]))
        }

    def events(self, record: Record, headers: Callable[[], Headers] = tuple) -> list[Event]:
        """Make events of a record: none where it is left out.

        Parameters
        ----------
        headers : called when a path or the envelope asks for them

        Raises
        ------
        Fault
            Saying which field cannot be had, and why.
        """
        context = Context(record, self._read_key, headers)
        try:
            if record.value is None:
                return self._null(context)
            context.value = self.read(record.value)
            self._unwrap(context)
        except LeftOut:
            return []
        except Unwrapped as deleted:
            return [self._deletion(context, deleted.before)]
        if self._each is None:
            return self._one(context)
        elements = self._each(context)
        if elements is not None and not isinstance(elements, list):
            raise Fault(f"each: `{self.source.each}` is no list but {as_text(elements) or 'an object'}")
        if elements is not None and len(elements) > MAX_EVENTS:
            message = f"each: {len(elements):,} elements; a record may have {MAX_EVENTS:,}"
            raise Fault(message, TOO_LARGE)
        events: list[Event] = []
        for context.index, context.element in enumerate(elements or ()):
            events += self._one(context)
        return events

    async def ready(self, records: RecordColumns) -> None:
        """Wait until the schemas of records are here, so that nothing blocks when they are translated."""
        if self._schemas is not None:
            await self._schemas.ready(records, self.source)

    def batch(self, records: RecordColumns) -> Translated:
        """Translate records that make at most an event each."""
        rows, keys, rejected, left_out = [], [], [], 0
        for row, record in enumerate(records):
            try:
                made = self.events(record, lambda row=row: records.headers(row))  # type: ignore[misc]
            except Fault as fault:
                rejected.append(self.rejection(record, fault))
                continue
            if made:
                rows.append(row)
                keys.append((made[0].key, made[0].value))
            else:
                left_out += 1
        columns = RecordColumns.of_rows(keys)
        kept = records.table[np.array(rows, np.int64)]
        columns.table[:, OFFSET], columns.table[:, RECORD_TIME] = kept[:, OFFSET], kept[:, RECORD_TIME]
        columns.topic, columns.partition, columns.ends = records.topic, records.partition, records.ends
        columns.source = records
        return Translated(columns, rejected, left_out)

    def rejection(self, record: Record, fault: Fault) -> Rejected:
        """Return what becomes of a record that cannot be mapped."""
        return Rejected(record, fault.reason, f"mapping {record.topic} -> {self.source.feeds}: {fault}")

    def _one(self, context: Context) -> list[Event]:
        try:
            if not all(test(context) for test in self._tests):
                return []
            values = {
                name: value for name, make in self._makers.items() if (value := make(context)) is not None
            }
        except LeftOut:
            return []
        try:
            made = msgspec.convert(values, self._struct)
        except msgspec.ValidationError as error:
            raise self._broken(str(error)) from None
        if self._pseudonyms is not None:
            made = self._pseudonyms.in_event(made)
        return [Event(getattr(made, self._id).encode(), encode(made))]

    def _broken(self, error: str) -> Fault:
        """Say of a value that breaks a rule of our events where it comes from."""
        place = error.partition("`$.")[2].rstrip("`")
        name = place.replace("[", ".").partition(".")[0]
        spec = self.source.all_fields.get(name)
        if isinstance(spec, FieldSource) and spec.path is not None:
            error += f" (it comes from `{spec.path}`)"
        return Fault(error, TIMESTAMP if name == "timestamp_ms" else INVALID)

    def _null(self, context: Context) -> list[Event]:
        if self.source.feeds in DELETED_BY_NULL:
            return [self._deleted(as_text(self._key(context)))]
        if self.source.envelope == "debezium":
            return []
        raise Fault(f"a null value means nothing on {context.record.topic}", NULL_VALUE)

    def _deletion(self, context: Context, before: Any) -> Event:
        """Name what is deleted by the fields that it had, or by the record's key."""
        context.value = before
        try:
            named = None if before is None else self._makers[self._id](context)
        except (Fault, LeftOut):
            named = None
        return self._deleted(as_text(self._key(context) if named is None else named))

    def _deleted(self, named: str | None) -> Event:
        if named and self._pseudonyms is not None:
            named = self._pseudonyms.of(named)
        return Event(None if named is None else named.encode(), None)


def _leaves_out(spec: FieldSource | dict[str, FieldSource]) -> bool:
    return (
        spec.unlisted == "leave_out"
        if isinstance(spec, FieldSource)
        else any(map(_leaves_out, spec.values()))
    )


def _object_maker(name: str, specs: dict[str, FieldSource]) -> Maker:
    makers: dict[str, Maker] = {
        part: maker(f"{name}.{part}", spec, required=False) for part, spec in specs.items()
    }

    def make(context: Context) -> Any:
        made = {part: value for part, one in makers.items() if (value := one(context)) is not None}
        return made or None

    return make


def _test(condition: Condition) -> Callable[[Context], bool]:
    get = getter(parse(condition.path))
    tests: list[Callable[[Any], bool]] = []
    if condition.is_ is not None:
        tests.append(lambda value, allowed=condition.is_: _among(value, allowed))  # type: ignore[misc]
    if condition.is_not is not None:
        tests.append(lambda value, refused=condition.is_not: not _among(value, refused))  # type: ignore[misc]
    if condition.exists is not None:
        tests.append(lambda value, there=condition.exists: (value is not None) == there)  # type: ignore[misc]
    if condition.at_least is not None:
        tests.append(lambda value, least=condition.at_least: _is_number(value) and value >= least)  # type: ignore[misc]
    if condition.at_most is not None:
        tests.append(lambda value, most=condition.at_most: _is_number(value) and value <= most)  # type: ignore[misc]
    return lambda context: all(test(get(context)) for test in tests)


def _among(value: Any, choices: Sequence[Any]) -> bool:
    # In Python true is 1; in a record it is not.
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in choices)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
