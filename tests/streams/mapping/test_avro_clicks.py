"""Clicks in Avro are read by a kernel, and come to what translating them comes to."""

import itertools
import json
import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.decoding.clicks import ClickColumns
from streams.kafka.columns import RecordColumns
from streams.mapping.avro_kernels import transcode
from streams.mapping.click_kernels import read_mapped
from streams.mapping.click_reader import ClickReader, warm
from streams.mapping.registry import Registry, Schema, UnknownSchema
from streams.mapping.schemas import Schemas
from streams.mapping.translate import Translator
from streams.settings.sources import Source
from tests.registry_server import avro, head
from tests.streams.mapping.conftest import NOW, record, source_of

CODES = {"view": 0, "click": 1, "like": 2}
DAY = 86_400_000
FIELDS = """
user_id = { path = "user.id", as = "text" }
item_id = "sku"
action = { path = "type", values = { seen = "view", 7 = "like", true = "click" } }
timestamp_ms = "at"
position = "user.rank"
dwell_ms = "read.ms"
"""
WHERE = 'where = [{ path = "bot", is_not = [true, "yes", 1] }, { path = "sku", exists = true }]'
AT = {"type": "long", "logicalType": "timestamp-millis"}


class Known(Registry):
    """A registry that has these schemas, by their id from 1 on."""

    def __init__(self, *schemas: Any) -> None:
        super().__init__("http://registry")
        self.schemas = dict(enumerate(schemas, 1))

    def by_id(self, number: int) -> Schema:
        if number not in self.schemas:
            raise UnknownSchema
        return Schema("AVRO", json.dumps(self.schemas[number]), ())


def source(fields: str = FIELDS, more: str = WHERE) -> Source:
    return source_of(fields, more=f'format = "avro"\nregistry = "http://registry"\n{more}')


def batch(values: Sequence[bytes | None]) -> RecordColumns:
    return RecordColumns.of([record(value, offset=10 + 3 * k) for k, value in enumerate(values)])


def assert_same(values: Sequence[bytes | None], *schemas: Any, mapping: Source | None = None) -> ClickColumns:
    """Read records by the kernel and one by one; what comes of both must be the same."""
    mapping, kept, records = mapping or source(), Schemas(Known(*schemas)), batch(values)
    fast, slow = (ClickReader(mapping, CODES, DAY, schemas=kept) for _ in range(2))
    assert fast.compiled
    slow._plan = None
    expected, late = slow(records), ClickReader(mapping, CODES, DAY, schemas=Schemas(Known(*schemas)))
    for columns in (fast(records), fast(records), late(records)):  # the last one has no schema here at first
        for name in ("users", "items", "left_out", "key_mismatches"):
            assert getattr(columns, name) == getattr(expected, name)
        for name in ("keys", "times", "actions", "offsets", "broker_times", "rows"):
            assert getattr(columns, name).tolist() == getattr(expected, name).tolist()
        assert [columns.click(row) for row in range(len(columns))] == [
            expected.click(row) for row in range(len(columns))
        ]
        assert sorted((bad.record.offset, bad.reason, bad.error) for bad in columns.rejected) == sorted(
            (bad.record.offset, bad.reason, bad.error) for bad in expected.rejected
        )
    return expected


def of(name: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": one, "type": kind} for one, kind in fields.items()],
    }


@pytest.fixture
def translates(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Offsets of the records that are translated one by one."""
    seen, whole = list[int](), Translator.batch

    def counted(self: Translator, records: RecordColumns) -> Any:
        seen.extend(records.offsets.tolist())
        return whole(self, records)

    monkeypatch.setattr(Translator, "batch", counted)
    return seen


PLACE = of("shop.Place", city="string", more=["null", "shop.Place"])
RICH = of(
    "shop.Seen",
    more={"type": "map", "values": {"type": "array", "items": ["null", "string", "double"]}},
    at={"type": "long", "logicalType": "timestamp-micros"},
    user=["null", of("shop.User", id=["string", "long"], rank=["int", "null"], place=["null", PLACE])],
    price={"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
    day={"type": "int", "logicalType": "date"},
    session={"type": "string", "logicalType": "uuid"},
    sku="string",
    bot="boolean",
    raw={"type": "fixed", "name": "shop.Four", "size": 4},
    again="shop.Four",
    type={"type": "enum", "name": "shop.Kind", "symbols": ["seen", "bought"]},
    read=["null", of("shop.Read", ms="double")],
    ratio="float",
)
VALUE = {
    "more": {"a": ["x", None, 1.5], "b": []}, "at": datetime(2025, 11, 24, 16, tzinfo=UTC),
    "user": {"id": 5, "rank": 2, "place": None}, "price": Decimal("9.50"), "day": 20_000,
    "session": UUID(int=1), "sku": "é1", "bot": False, "raw": b"1234", "again": b"1234", "type": "seen",
    "read": {"ms": 900.05}, "ratio": 0.5,
}  # fmt: skip


def test_usual_clicks_of_several_schemas_are_read_by_the_kernel_alone(translates: list[int]) -> None:
    other = of("shop.Seen", sku="string", user=of("shop.User", id="long"), type="string", at=AT)
    more = {"sku": "i2", "user": {"id": -0}, "type": "seen", "at": NOW}
    values = [avro(1, RICH, VALUE), avro(2, other, more), avro(1, RICH, {**VALUE, "read": None})] * 2
    reader = ClickReader(source(), CODES, DAY, schemas=(kept := Schemas(Known(RICH, other))))
    kept.fetch([("avro", 1), ("avro", 2)])
    warm()
    compiled = [len(kernel.signatures) for kernel in (transcode, read_mapped)]
    columns = reader(batch(values))
    assert not translates
    assert compiled == [len(kernel.signatures) for kernel in (transcode, read_mapped)]
    assert columns.users == ["5", "0", "5"] * 2
    assert columns.items == ["é1", "i2", "é1"] * 2
    assert columns.click(0).dwell_ms == 900.05
    assert_same(values, RICH, other)


@pytest.mark.parametrize(
    "changes",
    [
        {"sku": 'a"b'}, {"sku": "line\n"}, {"user": None}, {"type": "bought"}, {"at": datetime(1960, 1, 1)},
        {"user": {"id": 5, "rank": -2, "place": None}}, {"user": {"id": 2**62, "rank": 1, "place": None}},
        {"read": {"ms": 1 / 3}},
        {"user": {"id": 5, "rank": 1, "place": {"city": "x", "more": {"city": "y", "more": None}}}},
    ],
)  # fmt: skip
def test_unusual_clicks_are_translated_and_come_to_the_same(
    changes: dict[str, Any], translates: list[int]
) -> None:
    values = [avro(1, RICH, VALUE), avro(1, RICH, {**VALUE, **changes})]
    kept = Schemas(Known(RICH))
    kept.fetch([("avro", 1)])
    ClickReader(source(), CODES, DAY, schemas=kept)(batch(values))
    assert translates == [13]
    assert_same(values, RICH)


def test_what_has_no_schema_or_another_one_comes_to_the_same() -> None:
    whole = avro(1, RICH, VALUE)
    endless = head(3) + b"\xfe\xff\xff\xff\x0f"  # a block of very many nulls, and no more
    few = of("Few", nothing={"type": "array", "items": "long"})
    values = [None, b"", b"\0", b"\1" + whole[1:], head(9) + whole[5:], head(2) + whole[5:], whole, endless]
    assert len(assert_same(values, RICH, "no schema", few)) == 1


@pytest.mark.parametrize("size", range(5, 40, 3))
def test_records_that_are_cut_off_or_too_long_come_to_the_same(size: int) -> None:
    whole = avro(1, RICH, VALUE)
    assert_same([whole, whole[:size], whole + b"\0", whole], RICH)


REALS = st.sampled_from([0.5, -2.25, 900.0, 12.000001, 0.1, 1e14, 1764000000.25]) | st.floats()


@given(st.lists(REALS | st.decimals(-(10**6), 10**6, places=4).map(float), min_size=20, max_size=20))
def test_doubles_are_read_as_they_are_or_left_to_others(numbers: list[float]) -> None:
    user = of("User", id=["long", "double"])
    schema = of("Click", user=user, sku="string", type="string", at="double", bot="double")
    mapping = source(
        FIELDS.replace('"at"', '{ path = "at", unit = "s" }'),
        'where = [{ path = "bot", at_least = 0.5 }]',
    )
    some = {"user": {"id": 1}, "sku": "i", "type": "seen", "at": NOW / 1000, "bot": 1.0}
    values = [avro(1, schema, {**some, name: one}) for one in numbers for name in ("at", "bot")]
    values += [avro(1, schema, {**some, "user": {"id": one}}) for one in numbers]
    assert_same(values, schema, mapping=mapping)


@pytest.mark.parametrize(
    "kind",
    [
        {"type": "fixed", "name": "F", "size": 2**70},
        {"type": "enum", "name": "E", "symbols": [f"s{k}" for k in range(6000)]},
        {"type": "bytes", "logicalType": "decimal", "precision": 10**6},
        {"type": "long", "logicalType": "of-nobody"},
        {"type": "array", "items": {"type": "map", "values": {"type": "array", "items": "double"}}},
    ],
)
def test_schemas_of_any_kind_and_size_come_to_the_same(kind: Any) -> None:
    schema = of("Click", user=of("User", id="long"), sku="string", at=AT, bot=kind, type=["string", kind])
    value = head(1) + long(7) + sized(b"i1") + long(NOW)
    assert_same([value + b"\0\0" + sized(b"seen"), value + b"\0\2\0", value], schema)


def test_cloudevents_in_avro_are_read_as_in_json(translates: list[int]) -> None:
    schema = of("Event", specversion="string", id="string", type="string",
                data=of("Data", user=of("User", id="long"), sku="string"), time=AT)  # fmt: skip
    mapping = source(
        'user_id = { path = "user.id", as = "text" }\nitem_id = "sku"\nevent_id = "$event.id"\n'
        'action = { path = "$event.type", values = { seen = "view" } }\ntimestamp_ms = "$event.time"',
        'envelope = "cloudevents"',
    )
    value = {
        "specversion": "1.0",
        "id": "e",
        "type": "seen",
        "time": NOW,
        "data": {"user": {"id": 1}, "sku": "i"},
    }
    kept = Schemas(Known(schema))
    kept.fetch([("avro", 1)])
    columns = ClickReader(mapping, CODES, DAY, schemas=kept)(batch([avro(1, schema, value)]))
    assert (columns.users, columns.items, translates) == (["1"], ["i"], [])
    assert_same([avro(1, schema, value)], schema, mapping=mapping)


ROW = of("Row", id="string", user="long", sku="string", at=AT, payload="bytes")
CHANGE = of("Envelope", before=["null", ROW], after=["null", "Row"], op="string", ts_ms=["null", "long"],
            source=of("Origin", table="string", lsn=["null", "long"]))  # fmt: skip
CHANGED = source(
    'user_id = { path = "user", as = "text" }\nitem_id = "sku"\nevent_id = "id"\ntimestamp_ms = "at"\n'
    'action = { constant = "like" }',
    'envelope = "debezium"\nwhere = [{ path = "$event.source.table", is = "clicks" }]',
)


def test_changes_of_a_database_in_avro_are_read_as_in_json(translates: list[int]) -> None:
    row = {"id": "e", "user": 7, "sku": "i", "at": NOW, "payload": b""}
    change = {"before": None, "after": row, "op": "c", "ts_ms": NOW, "source": {"table": "clicks", "lsn": 3}}
    kinds: list[dict[str, Any]] = [
        {}, {"op": "r", "ts_ms": None}, {"op": "d", "before": row, "after": None},
        {"source": {"table": "items", "lsn": None}}, {"after": None}, {"op": "t"},
    ]  # fmt: skip
    values = [avro(1, CHANGE, {**change, **one}) for one in kinds]
    kept = Schemas(Known(CHANGE))
    kept.fetch([("avro", 1)])
    columns = ClickReader(CHANGED, CODES, DAY, schemas=kept)(batch(values))
    assert (columns.users, columns.left_out, translates) == (["7", "7"], 3, [22])
    assert_same([None, *values, head(1) + values[0][6:]], CHANGE, mapping=CHANGED)


def long(number: int) -> bytes:
    """A zigzag varint."""
    rest, out = (number << 1 ^ number >> 63) & (1 << 64) - 1, bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes((*out, rest))


def written(text: str) -> bytes:
    return sized(text.encode())


def sized(content: bytes) -> bytes:
    return long(len(content)) + content


Kind = tuple[Any, st.SearchStrategy[bytes]]


def mostly(usual: Any, odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """What is usual, and seldom what is odd: most records of many fields should be of use."""
    common = usual if isinstance(usual, st.SearchStrategy) else st.sampled_from(usual)
    return st.integers(0, 19).flatmap(lambda k: odd if k == 19 else common)


LONGS = mostly([1, 0, 7, 20_000], st.sampled_from([NOW, NOW * 1000]) | st.integers(-(2**63), 2**63 - 1))
TEXTS = mostly(["seen", "i1", "yes", "7", "é", str(UUID(int=77))], st.just('a"b') | st.text(max_size=5))
STRINGS = TEXTS.map(written)
_DECIMAL = {"logicalType": "decimal", "precision": 5, "scale": 2}
PLAIN: list[Kind] = [
    ("null", st.just(b"")),
    ("boolean", mostly([b"\0", b"\1"], st.just(b"\2"))),
    ("int", LONGS.map(long)),
    ("long", mostly(LONGS.map(long), st.sampled_from([b"\x80\0", b"\xff" * 9 + b"\1", b"\xff" * 9 + b"\2"]))),
    *(
        ({"type": kind, "logicalType": logical}, LONGS.map(long))
        for kind, logical in [
            ("long", "timestamp-millis"), ("long", "timestamp-micros"), ("long", "local-timestamp-millis"),
            ("long", "local-timestamp-micros"), ("int", "date"), ("int", "time-millis"),
            ("long", "time-micros"),
        ]
    ),
    ("float", st.floats(width=32).map(lambda one: struct.pack("<f", one))),
    ("double", REALS.map(lambda one: struct.pack("<d", one))),
    ("string", STRINGS),
    ("string", mostly(STRINGS, st.binary(max_size=3).map(sized))),
    ({"type": "string", "logicalType": "uuid"}, mostly(st.uuids().map(str).map(written), STRINGS)),
    ("bytes", st.binary(max_size=4).map(sized)),
    ({"type": "bytes", **_DECIMAL}, mostly(st.binary(max_size=4), st.binary(max_size=20)).map(sized)),
]  # fmt: skip


@st.composite
def kinds(draw: st.DrawFn, names: Iterator[int], depth: int = 0) -> Kind:
    """A type, and what values of it are written as."""
    shape = draw(st.integers(0, 9 if depth < 3 else 5))
    name = f"N{next(names)}"
    if shape <= 3:
        return draw(st.sampled_from(PLAIN))
    if shape == 4:
        symbols = draw(st.lists(st.sampled_from(["seen", "b", "c"]), min_size=1, unique=True))
        return {"type": "enum", "name": name, "symbols": symbols}, mostly(
            range(len(symbols)), st.sampled_from([-1, len(symbols)])
        ).map(long)
    if shape == 5:
        size = draw(st.integers(0, 3))
        extra = draw(st.sampled_from([{}, _DECIMAL]))
        return {"type": "fixed", "name": name, "size": size, **extra}, st.binary(min_size=size, max_size=size)
    if shape == 6:
        inside = draw(st.dictionaries(st.sampled_from(["id", "rank", "ms", "x"]), kinds(names, depth + 1)))
        return of(name, **{one: kind for one, (kind, _) in inside.items()}), joined(
            v for _, v in inside.values()
        )
    inner, values = draw(kinds(names, depth + 1))
    if shape == 7 and not isinstance(inner, list):
        union = draw(st.sampled_from([["null", inner], [inner, "null"], [inner]]))
        branches = [st.just(long(k)) if one == "null" else values.map(lambda v, k=k: long(k) + v)  # type: ignore[misc]
                   for k, one in enumerate(union)]  # fmt: skip
        return union, mostly(st.one_of(*branches), st.sampled_from([long(-1), long(len(union))]))
    keyed = shape == 8
    if not keyed:  # of items without bytes a few bytes could say that there are 2^60
        inner, values = of(name, some="boolean", more=inner), joined([st.just(b"\1"), values])
    item = joined([STRINGS, values]) if keyed else values
    blocks = st.lists(st.tuples(st.lists(item, min_size=1, max_size=3), st.booleans()), max_size=2)
    return {"type": "map", "values": inner} if keyed else {"type": "array", "items": inner}, blocks.map(
        lambda all_: (
            b"".join(
                (long(-len(items)) + long(sum(map(len, items))) if signed else long(len(items)))
                + b"".join(items)
                for items, signed in all_
            )
            + b"\0"
        )
    )


def joined(parts: Any) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


@st.composite
def clicks(draw: st.DrawFn) -> tuple[Any, list[bytes]]:
    """A schema and some values of it, most of them as a click's are."""
    names = itertools.count()
    user: dict[str, Kind] = {"id": draw(st.sampled_from([PLAIN[3], ("string", STRINGS)])), "rank": PLAIN[2]}
    usual: dict[str, Kind] = {
        "user": (of("User", id=user["id"][0], rank="int"), joined(value for _, value in user.values())),
        "sku": ("string", STRINGS),
        "type": ({"type": "enum", "name": "Kind", "symbols": ["seen", "b"]}, st.sampled_from([b"\0", b"\2"])),
        "at": (AT, st.just(long(NOW))),
    }  # fmt: skip
    odd = draw(st.dictionaries(st.sampled_from(["bot", "read", "x", "y"]), kinds(names), max_size=4))
    odd |= draw(mostly(st.just({}), st.dictionaries(st.sampled_from([*usual]), kinds(names), max_size=2)))
    fields = {**usual, **odd}
    order = draw(st.permutations(list(fields)))
    schema = of("Click", **{one: fields[one][0] for one in order})
    return schema, draw(st.lists(joined([fields[one][1] for one in order]), min_size=1, max_size=3))


@given(clicks(), clicks(), st.binary(max_size=4), st.integers(0, 40))
def test_any_records_and_damaged_ones_come_to_the_same(
    one: tuple[Any, list[bytes]], other: tuple[Any, list[bytes]], noise: bytes, at: int
) -> None:
    values = [head(k) + value for k, (_, some) in enumerate((one, other), 1) for value in some]
    first = values[0]
    damaged = [first[: at + 5] + noise + first[at + 5 :], first[: at + 5], head(2) + first[5:]]
    assert_same([*values, *damaged], one[0], other[0])
