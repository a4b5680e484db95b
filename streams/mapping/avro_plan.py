"""Turns Avro schemas into programs for `avro_kernels` that write only what the paths of a mapping lead to."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from streams.decoding.byte_steps import Data, Table
from streams.kafka.columns import VALUE, VALUE_SIZE, RecordColumns
from streams.mapping import avro_kernels as k
from streams.mapping.schemas import Schemas, schema_ids

if TYPE_CHECKING:
    from streams.mapping.avro import AvroSchema  # which needs a package that not everyone has

_LONG = 2**63
_LATEST_MS = 253_402_300_799_999  # the last of the year 9999
_DAY_MS = 86_400_000
_MAX_STEPS = 10_000  # of a schema; types that are named twice are walked twice
_DECIMAL_BYTES = 16
_LONGEST = 2**31 - 1  # bytes of a value
_NUMBER_SIZE = 20
# By kind and logical type: the range that a number may have, and what makes it milliseconds, if it is a time.
_NUMBERS = {
    "int": (-_LONG, _LONG - 1, 1),
    "long": (-_LONG, _LONG - 1, 1),
    "long-timestamp-millis": (0, _LATEST_MS, 1),
    "long-local-timestamp-millis": (0, _LATEST_MS, 1),
    "long-timestamp-micros": (0, 1000 * _LATEST_MS, 1000),
    "long-local-timestamp-micros": (0, 1000 * _LATEST_MS, 1000),
    "int-date": (0, _LATEST_MS // _DAY_MS, 0),
    "int-time-millis": (0, _DAY_MS - 1, 0),
    "long-time-micros": (0, 1000 * _DAY_MS - 1, 0),
}
_REALS = {"float": 4, "double": 8}


class _Wanted:
    """What the paths read of a value: itself, or fields in it."""

    def __init__(self) -> None:
        self.itself = False
        self.inside: dict[str, _Wanted] = {}

    def add(self, steps: Sequence[str]) -> None:
        if steps:
            self.inside.setdefault(steps[0], _Wanted()).add(steps[1:])
        else:
            self.itself = True


class _TooLong(Exception):
    """A program has more steps than any schema of clicks."""


class Tables(NamedTuple):
    """Programs as `transcode` is given them, in its order.

    Attributes
    ----------
    ids, starts : (schemas,) int64; steps : (steps, 4) int64; texts : (bytes,) uint8
    most : bytes that a record adds to those of its texts, at most
    """

    ids: Table
    starts: Table
    steps: Table
    texts: Data
    most: int


class _Program:
    """The steps that walk the records of one schema; places count from `base` on.

    Parameters
    ----------
    named : the types that have names
    texts : what all programs write; it is added to
    """

    def __init__(self, schema: Any, named: Mapping[str, Any], wanted: _Wanted, base: int, texts: bytearray):
        self.steps: list[list[int]] = []
        self.most = 0
        self._named, self._base, self._texts = named, base, texts
        self._open: list[str] = []  # names of the types that are being walked
        self._depth = 0
        self._pending = b""
        self._value(schema, wanted)
        self._step(k.END)

    def _step(self, what: int, *arguments: int) -> list[int]:
        self._place()
        return self._append(what, *arguments)

    def _append(self, what: int, *arguments: int) -> list[int]:
        if len(self.steps) >= _MAX_STEPS:
            raise _TooLong
        step = [what, *arguments, *(0,) * (3 - len(arguments))]
        self.steps.append(step)
        return step

    def _place(self) -> int:
        """Index of the next step; pending literals are written before it."""
        if self._pending:
            begin = len(self._texts)
            self._texts += self._pending
            self.most += len(self._pending)
            self._pending = b""
            self._append(k.TEXT, begin, len(self._texts))
        return self._base + len(self.steps)

    def _value(self, schema: Any, wanted: _Wanted | None) -> None:
        if isinstance(schema, list):
            self._switch([partial(self._value, one, wanted) for one in schema])
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        if isinstance(kind, str) and kind in self._named:
            schema = self._named[kind]
            kind = schema["type"]
        if kind == "record":
            self._record(schema, wanted)
        elif not isinstance(kind, str):
            self._step(k.UNSURE)
        elif kind in ("array", "map"):
            self._list(schema, kind, wanted)
        else:
            logical = schema.get("logicalType") if isinstance(schema, dict) else None
            written = wanted is not None and wanted.itself
            if wanted is not None and not written:
                self._pending += b"null"  # nothing is inside of it
            self._scalar(schema, f"{kind}-{logical}" if logical else kind, written)

    def _record(self, schema: Any, wanted: _Wanted | None) -> None:
        name = schema["name"]
        if name in self._open:
            self._step(k.UNSURE)
            return
        self._open.append(name)
        mark = b"{"
        for field in schema["fields"]:
            inside = None if wanted is None else wanted.inside.get(field["name"])
            if inside is not None:
                self._pending += mark + msgspec.json.encode(field["name"]) + b":"
                mark = b","
            self._value(field["type"], inside)
        if wanted is not None:
            self._pending += b"{}" if mark == b"{" else b"}"
        self._open.pop()

    def _list(self, schema: Any, kind: str, wanted: _Wanted | None) -> None:
        if self._depth == k.DEEPEST or (wanted is not None and (wanted.itself or kind == "map")):
            self._step(k.UNSURE)
            return
        if wanted is not None:
            self._pending += b"null"  # no name is inside of it
        block = self._step(k.BLOCK, self._depth)
        first = self._place()
        self._depth += 1
        if kind == "map":
            self._step(k.STRING)
        self._value(schema["values" if kind == "map" else "items"], None)
        self._depth -= 1
        self._step(k.NEXT, self._depth, first, first - 1)
        block[2] = self._place()

    def _scalar(self, schema: Any, kind: str, written: bool) -> None:
        if kind in _NUMBERS:
            least, greatest, divisor = _NUMBERS[kind]
            if written and not divisor:
                self._step(k.UNSURE)
                return
            self._step(k.NUMBER, least, greatest, divisor if written else 0)
            self.most += _NUMBER_SIZE
        elif kind in ("string", "string-uuid"):
            quote = b'"' if written else b""
            self._pending += quote
            self._step(k.STRING if kind == "string" else k.UUID, int(written))
            self._pending += quote
        elif kind == "enum":
            if written:
                self._switch([partial(self._write, msgspec.json.encode(one)) for one in schema["symbols"]])
            else:
                self._step(k.NUMBER, 0, len(schema["symbols"]) - 1)
        elif kind == "boolean":
            self._step(k.BOOLEAN, int(written))
            self.most += _NUMBER_SIZE
        elif kind in _REALS:
            self._step(k.REAL, int(written), _REALS[kind])
            self.most += _NUMBER_SIZE
        elif kind == "null":
            self._pending += b"null" if written else b""
        elif written:
            self._step(k.UNSURE)
        elif kind == "bytes" or (kind == "bytes-decimal" and _usual(schema)):
            self._step(k.BYTES, _LONGEST if kind == "bytes" else _DECIMAL_BYTES)
        elif kind in ("fixed", "fixed-decimal") and _is_size(schema["size"]):
            self._step(k.FIXED if kind == "fixed" or _usual(schema) else k.UNSURE, schema["size"])
        else:
            self._step(k.UNSURE)

    def _write(self, text: bytes) -> None:
        self._pending += text

    def _switch(self, branches: Sequence[Callable[[], None]]) -> None:
        """Append what goes one of several ways, by a number that the record has."""
        self._step(k.SWITCH, len(branches))
        ways = [self._append(k.JUMP) for _ in branches]
        ends, before, longest = [], self.most, self.most
        for way, branch in zip(ways, branches, strict=True):
            way[1], self.most = self._place(), before
            branch()
            ends.append(self._step(k.JUMP))
            longest = max(longest, self.most)
        self.most = longest
        for end in ends:
            end[1] = self._place()


def _is_size(size: object) -> bool:
    return isinstance(size, int) and 0 <= size <= _LONGEST


def _usual(decimal: Any) -> bool:
    """Whether any few bytes are a decimal of this type."""
    precision, scale = decimal.get("precision"), decimal.get("scale", 0)
    return (
        isinstance(precision, int)
        and isinstance(scale, int)
        and 0 <= scale <= precision
        and 1 <= precision <= 38
        and decimal.get("size", 0) <= _DECIMAL_BYTES
    )


class AvroAsJson:
    """Writes records as JSON objects of what the paths lead to, where `transcode` is sure of them.

    Threads may share it.

    Parameters
    ----------
    paths : names of the fields, from the value on
    schemas : those that are here are used, and none is asked for
    """

    def __init__(self, paths: Iterable[Sequence[str]], schemas: Schemas) -> None:
        self._wanted = _Wanted()
        for path in paths:
            self._wanted.add(path)
        self._schemas = schemas
        self._lock = threading.Lock()
        self._tables = _NONE

    def __call__(self, records: RecordColumns) -> tuple[Data, Table]:
        """Return bytes and a table as of `RecordColumns`, with the keys of the records.

        A value that it is not sure of is null there.
        """
        while True:
            tables = self._tables
            data, values = _transcoded(records, tables)
            new = np.flatnonzero(values[:, 1] == k.NEW)
            if not len(new) or not self._learn(records.rows(new), tables):
                break
        table = records.table.copy()
        table[:, (VALUE, VALUE_SIZE)] = values
        table[values[:, 1] < 0, VALUE_SIZE] = -1
        return data, table

    def _learn(self, records: RecordColumns, tables: Tables) -> bool:
        """Make programs of the schemas of records; return whether any are here that `tables` lack."""
        with self._lock:
            known = set(self._tables.ids.tolist())
            for number in schema_ids(records, VALUE, VALUE_SIZE):
                decode = self._schemas.decoder("avro", number)
                if decode is not None and number not in known:
                    schema = getattr(decode, "schema", None)  # none where every value is refused
                    self._tables = _with(self._tables, number, schema, self._wanted)
            return self._tables is not tables


_NONE = Tables(
    np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4), np.int64), np.zeros(0, np.uint8), 0
)


def _with(tables: Tables, number: int, schema: "AvroSchema | None", wanted: _Wanted) -> Tables:
    """Return programs and one more."""
    start, steps, texts, most = -1, tables.steps, bytearray(tables.texts.tobytes()), tables.most
    if schema is not None:
        try:
            program = _Program(schema.parsed, schema.named, wanted, len(steps), texts)
        except (_TooLong, RecursionError):
            texts = bytearray(tables.texts.tobytes())
        else:
            start, most = len(steps), max(most, program.most)
            steps = np.concatenate((steps, np.array(program.steps, np.int64)))
    return Tables(
        np.append(tables.ids, number), np.append(tables.starts, start), steps,
        np.array(texts, np.uint8), most,
    )  # fmt: skip


def _transcoded(records: RecordColumns, tables: Tables) -> tuple[Data, Table]:
    """Return the bytes of records with their JSON behind them, and where that lies: see `transcode`."""
    raw, values = records.data, np.empty((len(records), 2), np.int64)
    sizes = int(np.maximum(records.table[:, VALUE_SIZE], 0).sum())
    data = np.empty(len(raw) + sizes + tables.most * len(records), np.uint8)
    data[: len(raw)] = raw
    used = k.transcode(data, records.table, len(raw), *tables[:-1], values)
    data.flags.writeable = False  # as fetched bytes are
    return data[:used], values


def warm() -> None:
    """Compile the reading of Avro, or load it from the cache."""
    _transcoded(RecordColumns.of_rows([(None, b"")]), _NONE)
