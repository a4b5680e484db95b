"""The kernel reads what translating reads, and leaves to it what it is not sure of."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.decoding.clicks import ClickColumns, click_columns
from streams.kafka.columns import Record, RecordColumns
from streams.mapping.click_reader import ClickReader
from streams.mapping.time_kernels import iso_ms
from streams.mapping.translate import Translator
from streams.settings.sources import Source
from tests.streams.mapping.conftest import NOW, record, source_of

CODES = {"view": 0, "click": 1, "like": 2}
DAY = 86_400_000
FIELDS = """
user_id = { path = "user.id", as = "text" }
item_id = "sku"
action = { path = "type", values = { seen = "view", 7 = "like", true = "click" } }
timestamp_ms = { path = "at", unit = "s" }
position = "user.rank"
"""
WHERE = 'where = [{ path = "bot", is_not = [true, "yes", 1] }, { path = "sku", exists = true }]'
EVENT = {"user": {"id": 5, "rank": 2}, "sku": "i1", "type": "seen", "at": 1764000000, "bot": False}


def source(fields: str = FIELDS, more: str = WHERE) -> Source:
    return source_of(fields, more=more)


def batch(*values: Any) -> RecordColumns:
    raws = [
        value if value is None or isinstance(value, bytes) else json.dumps(value).encode() for value in values
    ]
    return RecordColumns.of([record(raw, offset=10 + 3 * k) for k, raw in enumerate(raws)])


def translated(mapping: Source, records: RecordColumns) -> tuple[ClickColumns, list[tuple[int, str]], int]:
    """The same by translating every record and reading what comes out as a topic of ours."""
    made = Translator(mapping).batch(records)
    columns = click_columns(made.records, CODES, DAY)
    refused = [(bad.record.offset, bad.reason) for bad in (*made.rejected, *columns.rejected)]
    return columns, sorted(refused), made.left_out


def assert_same(mapping: Source, records: RecordColumns) -> ClickColumns:
    reader = ClickReader(mapping, CODES, DAY)
    assert reader.compiled
    columns = reader(records)
    expected, refused, left_out = translated(mapping, records)
    assert sorted((bad.record.offset, bad.reason) for bad in columns.rejected) == refused
    assert columns.left_out == left_out
    assert columns.offsets.tolist() == expected.offsets.tolist()
    assert columns.users == expected.users
    assert columns.items == expected.items
    assert columns.keys.tolist() == expected.keys.tolist()
    assert columns.times.tolist() == expected.times.tolist()
    assert columns.actions.tolist() == expected.actions.tolist()
    for row in range(len(columns)):
        assert columns.click(row) == expected.click(row)
    return columns


def test_plain_clicks_are_read_by_the_kernel_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    other = [{"a": [1, -2.5, "x\n", "\u00e9"]}, {}, []]
    records = batch(
        *(msgspec.json.encode({**EVENT, "sku": f"é{k}"}) for k in range(25)),
        *({**EVENT, "other": other} for _ in range(25)),
    )
    assert_same(source(), records)
    reader = ClickReader(source(), CODES, DAY)

    def refuse(*_: object) -> None:
        raise AssertionError("a plain click was translated")

    monkeypatch.setattr(Translator, "batch", refuse)
    columns = reader(records)
    assert columns.items == [*(f"é{k}" for k in range(25)), *["i1"] * 25]


@pytest.mark.parametrize(
    "changes",
    [
        {"sku": None}, {"sku": 7}, {"sku": ""}, {"sku": "x" * 600}, {"sku": 'a"b'}, {"sku": "line\nbreak"},
        {"user": {}}, {"user": {"id": 1.5}}, {"user": {"id": True}}, {"user": {"id": -4}}, {"user": []},
        {"user": {"id": "u", "rank": "3"}}, {"user": {"id": "u", "rank": None}},
        {"user": {"id": "u", "rank": -1}}, {"user": {"id": "u", "rank": 2**31 - 1}},
        {"user": {"id": "u", "rank": 2**31}},
        {"type": 7}, {"type": True}, {"type": "other"}, {"type": None}, {"type": {"a": 1}},
        {"sku": "\u00e9"}, {"more": "\ud83d\ude80"}, {"at": 1764000000.25}, {"at": 1764000000.0005},
        {"at": "1764000000"}, {"at": 1764000000000}, {"at": "x"}, {"at": 1864000000},
        {"bot": True}, {"bot": "yes"}, {"bot": 1}, {"bot": 1.0},
        {"bot": None}, {"bot": [1]},
    ],
)  # fmt: skip
def test_what_is_not_plain_comes_to_the_same_as_translating(changes: dict[str, Any]) -> None:
    assert_same(source(), batch(EVENT, {**EVENT, **changes}, EVENT))


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b"{", b"{}", b'{"user": {"id": 1}', b'{"a": 1,}', b'{"a": [1,]}',
        b'{"a" 1}', b"{} x", b'{"a": "\\ud83d"}', b'{"a": "\\u00g0"}', b'{"a": "\\x"}',
        b'{"a": 01}', b'{"a": 1.}', b'{"a": -}', b'{"a": nul}', b'{"a": "\xff"}', b'{"a": "\xed\xa0\x80"}',
        b'{"a": NaN}', b'{"a": 1e999}', b'{"a": "\x01"}', b'{"a": {"b": [}]}', b'{"a": [{]}}',
        b'{"sku": "i", "sku": "j", "user": {"id": 1}, "type": "seen", "at": 1764000000}',
        b'{"user": {"id": 1}, "user": {"rank": 1}, "sku": "j", "type": "seen", "at": 1764000000}',
        b'\n{ "user" : { "id" : 1 } , "sku":"j","type":"seen" , "at": 1764000000 }\t',
        b'{"\\u0073ku": "i", "user": {"id": 1}, "type": "seen", "at": 1764000000}',
        b"[" * 40 + b"]" * 40, b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)  # fmt: skip
def test_malformed_and_odd_json_comes_to_the_same_as_translating(raw: bytes) -> None:
    assert_same(source(), batch(EVENT, raw, EVENT))


def test_null_values_and_records_without_keys_come_to_the_same() -> None:
    mapping = source_of('user_id = "$key"\nitem_id = "i"\naction = { constant = "like" }')
    records = RecordColumns.of(
        [
            Record("shop", 1, 0, NOW, b"u1", b'{"i":"a"}'),
            Record("shop", 1, 1, NOW, None, b'{"i":"a"}'),
            Record("shop", 1, 2, NOW, b"u1", None),
        ]
    )
    assert assert_same(mapping, records).users == ["u1"]


SCALARS = (
    st.none() | st.booleans() | st.integers(-5, 2**63) | st.floats(allow_nan=False) | st.text(max_size=6)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "user": st.fixed_dictionaries({}, optional={"id": SCALARS, "rank": SCALARS, "x": JSON}) | JSON,
        "sku": st.just("i1") | JSON,
        "type": st.sampled_from(["seen", 7, True, "other"]) | JSON,
        "at": st.just(1764000000) | st.floats(1.6e9, 1.9e9) | JSON,
        "bot": JSON,
        "more": JSON,
    },
)


@given(st.lists(EVENTS, min_size=1, max_size=4), st.booleans())
def test_any_events_come_to_the_same_as_translating(events: list[Any], compact: bool) -> None:
    separators = (",", ":") if compact else None
    raws = [json.dumps(event, separators=separators, ensure_ascii=compact).encode() for event in events]
    assert_same(source(), batch(*raws))


NUMERALS = st.one_of(
    st.integers(-20, 20),
    st.integers(-(2**63), 2**63),
    st.decimals(-30, 30, places=1).map(float),
    st.floats(allow_nan=False),
    st.sampled_from(["3", "3.5", "007", "-1", "1e3", " 3", "3.", ".5", "1_0", "", "nan", "inf", "\u0663",
                     "3" * 16, "2147483647", "2147483648", 2**31]),
    JSON,
)  # fmt: skip
NUMBERED = """
user_id = { path = "user.id", as = "text" }
item_id = "sku"
action = { constant = "like" }
timestamp_ms = { path = "at", unit = "s" }
request_id = { path = "slate", as = "text" }
position = { path = "rank", as = "integer" }
dwell_ms = { path = "read", as = "integer" }
value = { path = "price", as = "number" }
"""
LIMITS = 'where = [{ path = "score", at_least = -2.5, at_most = 3 }, { path = "price", at_most = 20.1 }]'


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["slate", "rank", "read", "price", "score"]), NUMERALS),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(["", LIMITS, LIMITS.replace("at_least = -2.5, at_most = 3", "at_least = 3.0")]),
)
def test_numbers_and_their_limits_come_to_the_same_as_translating(events: list[Any], where: str) -> None:
    raws = [{**EVENT, "score": 0, "price": 0, **event} for event in events]
    assert_same(source(NUMBERED, where), batch(*raws))


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("3", 3.0), ("2.9999", 3.0), ("3.0000", 3.0), ("-3", -3.0), ("-2.5", -2.5), ("0.1", 0.1),
        ("-0.0", 0.0), ("999999999999999", 999999999999999.0), ("2.9999999999999999", 3.0),
        ("9007199254740993", 2.0**53), ("0.30000000000000", 0.3), ("true", 1.0), ('"3"', 3.0), ("null", 0.0),
    ],
)  # fmt: skip
def test_a_number_is_compared_with_its_limits_as_python_does(text: str, limit: float) -> None:
    raw = msgspec.json.encode(EVENT)[:-1] + f',"n":{text}}}'.encode()
    for bound in (limit, limit + 1e-9, limit - 1e-9):
        for test in ("at_least", "at_most"):
            assert_same(source(more=f'where = [{{ path = "n", {test} = {bound!r} }}]'), batch(raw))


def test_numbers_in_texts_and_limits_are_read_by_the_kernel_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {**EVENT, "slate": 7, "rank": "3", "read": "1200", "price": "3.50", "score": -1.5}
    reader = ClickReader(source(NUMBERED, LIMITS), CODES, DAY)

    def refuse(*_: object) -> None:
        raise AssertionError("a plain click was translated")

    monkeypatch.setattr(Translator, "batch", refuse)
    columns = reader(batch({**told, "price": 3}, {**told, "score": 4, "price": 3}))
    assert (len(columns), columns.left_out) == (1, 1)
    click = columns.click(0)
    assert (click.request_id, click.position, click.dwell_ms, click.value) == ("7", 3, 1200, 3)
    reader = ClickReader(source(NUMBERED, ""), CODES, DAY)
    assert reader(batch(told)).click(0).value == 3.5


@given(st.binary(max_size=30), st.integers(0, 120))
def test_events_with_bytes_put_in_come_to_the_same_as_translating(noise: bytes, at: int) -> None:
    raw = msgspec.json.encode(EVENT)
    assert_same(source(), batch(raw, raw[:at] + noise + raw[at:], raw[:at], raw))


CLOUD_FIELDS = """
user_id = { path = "user.id", as = "text" }
item_id = "sku"
action = { path = "$event.type", values = { seen = "view" } }
timestamp_ms = { path = "$event.time", unit = "iso" }
event_id = "$event.id"
"""
CLOUD = {
    "specversion": "1.0", "id": "e1", "source": "/shop", "type": "seen", "time": "2025-11-24T16:00:00Z",
    "data": {"user": {"id": 5}, "sku": "i1"},
}  # fmt: skip
CLOUD_EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "specversion": st.just("1.0") | SCALARS,
        "id": st.text(max_size=4) | SCALARS,
        "type": st.sampled_from(["seen", "other"]) | JSON,
        "time": st.just(CLOUD["time"]) | JSON,
        "data": st.fixed_dictionaries({}, optional={"user": EVENTS, "sku": st.just("i1") | JSON}) | JSON,
        "data_base64": st.none() | st.just("e30=") | JSON,
        "user": JSON,
    },
)


def cloud() -> Source:
    return source(CLOUD_FIELDS, 'envelope = "cloudevents"')


@given(st.lists(CLOUD_EVENTS, min_size=1, max_size=4), st.sets(st.sampled_from(list(CLOUD))))
def test_any_cloudevents_come_to_the_same_as_translating(events: list[Any], kept: set[str]) -> None:
    whole = [{**CLOUD, **{name: event[name] for name in kept & event.keys()}} for event in events]
    twice = b'{"data":{"user":{"id":1}},' + msgspec.json.encode(CLOUD)[1:]
    assert_same(cloud(), batch(CLOUD, *events, *whole, twice, twice[:-1] + b',"data":{"sku":"x"}}'))


def test_plain_cloudevents_are_read_by_the_kernel_and_those_with_headers_translated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Headed(NamedTuple):
        topic: str
        partition: int
        offset: int
        timestamp: int
        key: bytes | None
        value: bytes | None
        headers: list[tuple[str, bytes]]

    def event(offset: int, value: Any, *headers: tuple[str, bytes]) -> Headed:
        return Headed("shop", 1, offset, NOW, b"5", json.dumps(value).encode(), list(headers))

    attributes = [(f"ce_{name}", str(CLOUD[name]).encode()) for name in ("specversion", "id", "type", "time")]
    mixed = [
        event(1, CLOUD),
        event(2, CLOUD["data"], *attributes),
        event(3, CLOUD, ("trace", b"x")),
        event(4, 5),
    ]
    columns = assert_same(cloud(), RecordColumns.of(mixed))  # type: ignore[arg-type]
    assert columns.offsets.tolist() == [1, 2, 3]
    reader, translated_rows = ClickReader(cloud(), CODES, DAY), list[int]()
    whole = Translator.batch

    def counted(self: Translator, records: RecordColumns) -> Any:
        translated_rows.extend(records.offsets.tolist())
        return whole(self, records)

    monkeypatch.setattr(Translator, "batch", counted)
    reader(RecordColumns.of(mixed))  # type: ignore[arg-type]
    assert translated_rows == [2, 3, 4]


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(2285, 1, 1)),
    st.sampled_from(["seconds", "milliseconds", "microseconds"]),
    st.sampled_from([None, UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=11))]),
)
def test_iso_times_are_those_that_python_reads(moment: datetime, spec: str, zone: timezone | None) -> None:
    text = moment.replace(tzinfo=zone).isoformat(timespec=spec)
    read = datetime.fromisoformat(text)
    since = (read if read.tzinfo else read.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    data = np.frombuffer(text.encode(), np.uint8)
    assert iso_ms(data, 0, len(data)) == since // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "2025-02-29T00:00:00Z",
        "2025-13-01T00:00:00",
        "2025-01-01T24:00:00",
        "20x5-01-01T00:00:00",
        "2025-01-01",
    ],
)
def test_what_is_no_usual_time_is_left_to_python(text: str) -> None:
    assert iso_ms(np.frombuffer(text.encode(), np.uint8), 0, len(text)) == -1


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        (FIELDS.replace('"sku"', '"skus[0]"'), ""),
        (FIELDS + 'event_id = "$header.id"', ""),
        (FIELDS + 'value = { path = "v", as = "number", default = 1 }', ""),
    ],
)
def test_a_mapping_of_another_kind_is_translated_record_by_record(fields: str, more: str) -> None:
    mapping = source_of(fields, more=more)
    reader = ClickReader(mapping, CODES, DAY)
    assert not reader.compiled
    value = {**EVENT, "skus": ["i1"], "v": "3.5", "n": 4}
    records = batch(value)
    columns = reader(records)
    expected, refused, _ = translated(mapping, records)
    assert columns.offsets.tolist() == expected.offsets.tolist()
    assert [bad.reason for bad in columns.rejected] == [reason for _, reason in refused]
    assert len(columns) + len(refused) == 1


def test_a_refused_click_is_a_dead_letter_of_the_record_as_it_came() -> None:
    late = {**EVENT, "at": NOW // 1000 + 3 * 86_400}
    (rejected,) = ClickReader(source(), CODES, DAY)(batch(EVENT, late)).rejected
    letter = msgspec.json.decode(rejected.dead_letter()[1])
    assert (rejected.reason, letter["offset"]) == ("future", 13)
    assert json.loads(rejected.record.value) == late
