"""What a mapping makes of records, and what it says of those that it cannot map."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.decoding.clicks import click_columns
from streams.decoding.records import decode
from streams.events import decode_click, decode_content, decode_request, decode_user
from streams.kafka.columns import Record, RecordColumns
from streams.mapping.translate import Translator
from streams.mapping.values import Fault
from tests.streams.mapping.conftest import NOW, identity, record, translator_of

DECODERS: dict[str, Any] = {
    "clicks": decode_click, "content": decode_content, "users": decode_user, "requests": decode_request,
}  # fmt: skip
BASE = 'user_id = "u"\nitem_id = "i"\naction = {constant = "click"}\ntimestamp_ms = "t"\n'
GOOD = {"u": "u1", "i": "i1", "t": NOW}


def values(translator: Translator, *given: Any) -> list[Any]:
    """What a record with each of these values becomes: our JSON as objects, None of a deletion."""
    made = []
    for value in given:
        raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        made += [event.value for event in translator.events(record(raw))]
    return [None if value is None else json.loads(value) for value in made]


def one(fields: str, value: Any, **source: str) -> Any:
    (made,) = values(translator_of(fields, **source), value)
    return made


@pytest.mark.parametrize(
    ("field", "held", "value"),
    [
        ('event_id = "a.b[1].c"', {"a": {"b": [0, {"c": "x"}]}}, "x"),
        ('event_id = "a.b[-1]"', {"a": {"b": ["x", "y"]}}, "y"),
        ("""event_id = 'a."b.c d"'""", {"a": {"b.c d": "x"}}, "x"),
        ('event_id = "$.a"', {"a": "x"}, "x"),
        ('event_id = { constant = "x" }', {}, "x"),
        ('event_id = { template = "{u}/{n}{{" }', {"n": 7}, "u1/7{"),
        ('event_id = { template = "{$topic}-{$partition}-{$offset}" }', {}, "shop-3-0"),
        ('event_id = { path = "n", as = "text" }', {"n": 7}, "7"),
        ('event_id = { path = "n", as = "text" }', {"n": 7.5}, "7.5"),
        ('event_id = { path = "n", default = "none" }', {"n": None}, "none"),
        ('event_id = { path = "n", values = { a = "b" } }', {"n": "a"}, "b"),
        ('event_id = { path = "n", values = { 1 = "b" } }', {"n": 1}, "b"),
        ('event_id = { path = "n", values = { true = "b" } }', {"n": True}, "b"),
        ('event_id = { path = "n", values = { a = "b" }, unlisted = "keep" }', {"n": "c"}, "c"),
        ('event_id = "$key"', {}, "u1"),
        ('position = { path = "n", as = "integer" }', {"n": "3"}, 3),
        ('position = { path = "n", as = "integer" }', {"n": 3.0}, 3),
        ('value = { path = "n", as = "number" }', {"n": "3.5"}, 3.5),
        ('timestamp_ms = { path = "n", unit = "s" }', {"n": 1764000000}, NOW),
        ('timestamp_ms = { path = "n", unit = "s" }', {"n": 1764000000.25}, NOW + 250),
        ('timestamp_ms = { path = "n", unit = "s" }', {"n": "1764000000.25"}, NOW + 250),
        ('timestamp_ms = { path = "n", unit = "ms" }', {"n": "1764000000000"}, NOW),
        ('timestamp_ms = { path = "n", unit = "us" }', {"n": 1764000000000999}, NOW),
        ('timestamp_ms = { path = "n", unit = "ns" }', {"n": 1764000000000000000}, NOW),
        ('timestamp_ms = { path = "n", unit = "iso" }', {"n": "2025-11-24T16:00:00Z"}, NOW),
        ('timestamp_ms = { path = "n", unit = "iso" }', {"n": "2025-11-24T17:00:00.5+01:00"}, NOW + 500),
        ('timestamp_ms = { path = "n", unit = "iso" }', {"n": "2025-11-24 16:00:00"}, NOW),
        ('timestamp_ms = "$timestamp"', {}, NOW),
        ('context.device = "ua.kind"', {"ua": {"kind": "tv"}}, {"device": "tv"}),
        ('context = "ua"', {"ua": {"kind": "tv"}}, {"kind": "tv"}),
    ],
)  # fmt: skip
def test_a_field_comes_from_where_the_mapping_says(field: str, held: Any, value: Any) -> None:
    name = re.match(r"\w+", field)
    assert name is not None
    fields = "\n".join(line for line in BASE.splitlines() if not line.startswith(name[0])) + f"\n{field}"
    assert one(fields, {**GOOD, **held})[name[0]] == value


@pytest.mark.parametrize(
    ("spec", "held", "value"),
    [
        ('"tags"', ["a", "b"], ["a", "b"]),
        ('{ path = "tags", as = "texts" }', "a", ["a"]),
        ('{ path = "tags", as = "texts" }', [1, None, True], ["1", "true"]),
        ('{ path = "tags", split = "|" }', "Action| Sci-Fi |", ["Action", "Sci-Fi"]),
        ('"tags[].name"', [{"name": "a"}, {}, {"name": "b"}], ["a", "b"]),
        ('"tags[].names[]"', [{"names": ["a"]}, {"names": ["b", "c"]}], ["a", "b", "c"]),
    ],
)
def test_an_attribute_is_a_list_of_texts(spec: str, held: Any, value: list[str]) -> None:
    fields = f'item_id = "id"\ntitle = "name"\nattributes.genre = {spec}'
    made = one(fields, {"id": "i1", "name": "Heat", "tags": held}, feeds="content")
    assert made["attributes"] == {"genre": value}


def test_an_optional_field_that_is_not_there_has_its_default() -> None:
    made = one('item_id = "id"\ntitle = "name"\nattributes.genre = "g"\ntext = "x"', {"id": "i", "name": "n"},
               feeds="content")  # fmt: skip
    assert (made["attributes"], made["text"], made["available"]) == ({}, None, True)


def test_each_element_of_a_list_is_an_event() -> None:
    translator = translator_of(
        'user_id = "user"\nitem_id = "@.id"\naction = { path = "@.kind" }\n'
        'event_id = { template = "{imp}:{$index}" }\nposition = "$index"',
        more='each = "shown[]"\nwhere = [{ path = "@.kind", is_not = "none" }]\nrepartition = true',
    )
    shown = [{"id": "a", "kind": "view"}, {"id": "b", "kind": "none"}, {"id": "c", "kind": "click"}]
    made = values(translator, {"user": "u", "imp": "7", "shown": shown})
    assert [(one["item_id"], one["action"], one["position"], one["event_id"]) for one in made] == [
        ("a", "view", 0, "7:0"), ("c", "click", 2, "7:2"),
    ]  # fmt: skip
    assert values(translator, {"user": "u", "imp": "7", "shown": []}, {"user": "u", "imp": "8"}) == []


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ('{ path = "n", is = 1 }', [1]),
        ('{ path = "n", is = [1, "x"] }', [1, "x"]),
        ('{ path = "n", is_not = 1 }', [True, "x", 5, None]),
        ('{ path = "n", exists = true }', [1, True, "x", 5]),
        ('{ path = "n", exists = false }', [None]),
        ('{ path = "n", at_least = 2 }', [5]),
        ('{ path = "n", at_least = 1, at_most = 4 }', [1]),
    ],
)
def test_records_that_do_not_meet_every_condition_are_left_out(condition: str, kept: list[Any]) -> None:
    translator = translator_of(BASE + 'context.n = "n"', more=f"where = [{condition}]")
    made = values(translator, *({**GOOD, "n": n} for n in (1, True, "x", 5, None)))
    assert [(value["context"] or {}).get("n") for value in made] == kept


def test_a_value_that_is_not_listed_may_leave_the_record_out() -> None:
    action = '{ path = "n", values = { a = "click" }, unlisted = "leave_out" }'
    fields = f'user_id = "u"\nitem_id = "i"\naction = {action}'
    assert len(values(translator_of(fields), {**GOOD, "n": "a"}, {**GOOD, "n": "b"})) == 1


def test_what_is_left_out_needs_no_other_field() -> None:
    action = '{ path = "n", values = { a = "click" }, unlisted = "leave_out" }'
    translator = translator_of(f'user_id = "u"\nitem_id = "i"\naction = {action}')
    assert values(translator, {"n": "heartbeat"}) == []
    with pytest.raises(Fault, match="nothing at `u`"):
        values(translator, {"n": "a"})


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        ({"i": "i1", "t": NOW}, "mapping", "user_id: nothing at `u`: the value has i, t"),
        ({**GOOD, "u": None}, "mapping", "user_id: nothing at `u`: u is null"),
        ({**GOOD, "u": 7}, "invalid", r"Expected `str`, got `int` - at `\$.user_id` \(it comes from `u`\)"),
        ({**GOOD, "t": "noon"}, "timestamp", r"got `str` - at `\$.timestamp_ms` \(it comes from `t`\)"),
        ({**GOOD, "t": 1764000000}, "timestamp", ">= 100000000000"),
        ([1], "mapping", "user_id: nothing at `u`: the value is a list"),
        (b"null", "null_value", "the text null"),
        (None, "null_value", "means nothing on shop"),
        (b"\x00\x00\x00\x00\x07{}", "invalid", r"schema registry.*\(schema 7\)"),
        (b"\xef\xbb\xbf{}", "invalid", "byte order mark"),
        (b"\x1f\x8b\x08", "invalid", "gzip"),
        (b'{"u": NaN}', "invalid", r"NaN is no number in JSON - at `\$.u`"),
        (b'{"x": ' + b"[" * 2_000 + b"]" * 2_000 + b"}", "invalid", "recursion"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_says_which_field_and_why(value: Any, reason: str, words: str) -> None:
    translator = translator_of(BASE)
    raw = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(Fault, match=words) as caught:
        translator.events(record(raw))
    assert caught.value.reason == reason
    (rejected,) = translator.batch(RecordColumns.of([record(raw)])).rejected
    assert rejected.record.value == raw
    assert rejected.error.startswith("mapping shop -> clicks: ")


@pytest.mark.parametrize(
    ("field", "held", "words"),
    [
        ('timestamp_ms = { path = "t", unit = "iso" }', "noon", "'noon' is no time in ISO 8601"),
        ('timestamp_ms = { path = "t", unit = "s" }', "noon", "'noon' is no time in s"),
        ('timestamp_ms = { path = "t", unit = "s" }', True, "True is no time in s"),
        ('timestamp_ms = { path = "t", unit = "s" }', "²", "'²' is no time in s"),
        ('timestamp_ms = { path = "t", unit = "s" }', 1e306, "1e\\+306 is no time in s"),
        ('timestamp_ms = { path = "t", unit = "us" }', "9" * 5_000, "is no time in us"),
        ('position = { path = "t", as = "integer" }', "²", "'²' is no number"),
        (
            'event_id = { path = "t", values = { a = "b" } }',
            "c",
            r"event_id: 'c' is not among `values` \(a\)",
        ),
        ('position = { path = "t", as = "integer" }', "3.5", "'3.5' is no whole number"),
        ('value = { path = "t", as = "number" }', "inf", "no finite number"),
        ('event_id = "$header.id"', "x", "nothing at `\\$header.id`: the headers are none"),
        ('event_id = "t.x[0]"', {"x": []}, "t.x has 0 elements"),
        ('event_id = "t.x.y"', {"x": "text"}, "t.x is a text"),
    ],
)
def test_a_value_that_cannot_be_made_says_what_it_was(field: str, held: Any, words: str) -> None:
    name = field.partition(" ")[0]
    fields = "\n".join(line for line in BASE.splitlines() if not line.startswith(name)) + f"\n{field}"
    with pytest.raises(Fault, match=words):
        translator_of(fields).events(record(json.dumps({**GOOD, "t": held}).encode()))


def test_a_record_of_too_many_events_is_refused_whole() -> None:
    fields = 'user_id = "u"\nitem_id = "@"\naction = { constant = "view" }'
    translator = translator_of(fields, more='each = "shown[]"\nrepartition = true')
    with pytest.raises(Fault, match="each: 10,001 elements; a record may have 10,000") as caught:
        translator.events(record(json.dumps({"u": "u", "shown": ["i"] * 10_001}).encode()))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("key_format", ["text", "json"])
def test_a_key_that_is_no_text_is_nobodys_id(key_format: str) -> None:
    fields = BASE.replace('user_id = "u"', 'user_id = "$key"').replace('item_id = "i"', 'item_id = "i"')
    translator = translator_of(fields, more=f'key_format = "{key_format}"')
    for key in (b"\xff", b"u\xfe", b"\xed\xa0\x80"):
        with pytest.raises(Fault, match="key: 'utf-8' codec can't decode"):
            translator.events(record(json.dumps(GOOD).encode(), key=key))


def test_what_is_said_of_a_record_is_cut_to_what_a_letter_can_bear() -> None:
    translator = translator_of(
        BASE.replace('{constant = "click"}', '{ path = "a", values = { x = "click" } }')
    )
    raw = json.dumps({**GOOD, "a": "\x7f" * 900_000}).encode()
    (rejected,) = translator.batch(RecordColumns.of([record(raw)])).rejected
    assert len(rejected.error) < 1_100
    assert len(rejected.dead_letter()[1]) < 400_000


def test_a_null_value_deletes_what_its_key_names() -> None:
    plain = translator_of('item_id = "id"\ntitle = "t"', feeds="content")
    assert [event.key for event in plain.events(record(None, key=b"i1"))] == [b"i1"]
    inside = translator_of('item_id = "id"\ntitle = "t"', feeds="content", more='key = "$key.id"')
    (event,) = inside.events(record(None, key=b'{"schema": {}, "payload": {"id": 7}}'))
    assert (event.key, event.value) == (b"7", None)
    quoted = translator_of('item_id = "id"\ntitle = "t"', feeds="content", more='key_format = "json"')
    assert [event.key for event in quoted.events(record(None, key=b'"i1"'))] == [b"i1"]


def test_a_batch_keeps_offsets_and_times_and_counts_what_is_left_out() -> None:
    translator = translator_of(BASE, more='where = [{ path = "bot", is_not = true }]')
    records = [
        record(json.dumps({**GOOD, **more}).encode(), offset=offset, timestamp=NOW + offset)
        for offset, more in ((4, {}), (5, {"bot": True}), (7, {"u": 1}), (9, {"i": "i9"}))
    ]
    made = translator.batch(RecordColumns.of(records))
    assert made.records.offsets.tolist() == [4, 9]
    assert made.records.timestamps.tolist() == [NOW + 4, NOW + 9]
    assert [decode_click(one.value).item_id for one in made.records] == ["i1", "i9"]
    assert [bad.record.offset for bad in made.rejected] == [7]
    assert made.left_out == 1
    assert len(translator.batch(RecordColumns.of([])).records) == 0


# What a plain topic and a mapping that changes nothing make of the same records.

CLICK = {"event_id": "e", "user_id": "u1", "item_id": "i", "action": "click", "timestamp_ms": NOW}
FIELD_CASES: list[tuple[str, dict[str, Any] | bytes]] = [
    ("clicks", {**CLICK, "timestamp_ms": "2025-11-24T16:00:00Z"}),
    ("clicks", {**CLICK, "timestamp_ms": "1764000000000"}),
    ("clicks", {**CLICK, "timestamp_ms": 1764000000000.0}),
    ("clicks", {**CLICK, "timestamp_ms": 1764000000000.5}),
    ("clicks", {**CLICK, "timestamp_ms": 1764000000}),
    ("clicks", {**CLICK, "timestamp_ms": 1764000000000000}),
    ("clicks", {**CLICK, "user_id": ["id1", "id2"]}),
    ("clicks", {**CLICK, "user_id": "[id1,id2]"}),
    ("clicks", {**CLICK, "user_id": "👩‍🚀", "item_id": "line\nbreak"}),
    ("clicks", {**CLICK, "item_id": "x" * 513}),
    ("clicks", {**CLICK, "action": "Click"}),
    ("clicks", {**CLICK, "position": "3"}),
    ("clicks", {**CLICK, "position": 2**63}),
    ("clicks", {**CLICK, "position": None, "dwell_ms": None}),
    ("clicks", {**CLICK, "event_id": 1, "user_id": 1}),
    ("clicks", b'{"event_id": "e", "value": NaN}'),
    ("clicks", b'{"value": 1e999}'),
    ("clicks", b'{"event_id": "e\xff"}'),
    ("clicks", b"null"),
    ("clicks", b"\x1f\x8b\x08"),
    ("content", {"item_id": 1, "title": "t"}),
    ("content", {"item_id": "i", "title": "t", "attributes": {"genre": "Drama"}}),
    ("content", {"item_id": "i", "title": "t", "attributes": {"genre": ["Drama", None]}}),
    ("content", {"item_id": "i", "title": "t", "attributes": {"maker": {"name": "Acme"}}}),
    ("content", {"item_id": "i", "title": "t", "image": "https://example.org/8.jpg"}),
    ("content", {"item_id": "i", "title": "t", "image": {"data": "AAAA"}}),
    ("content", {"item_id": "i", "title": "t", "image": {"data": "data:image/png;base64,AAAA"}}),
    ("content", {"item_id": "i", "title": "t", "triples": [["made_by", "Acme"]]}),
    ("users", {"user_id": "u1", "attributes": {"age": 34}}),
    ("users", {"user_id": "u1", "attributes": {"age": "34"}, "preferences": ["a"]}),
    ("requests", {"request_id": "r", "user_id": "u1", "timestamp_ms": NOW, "k": 201}),
    ("requests", {"request_id": "r", "user_id": "u1", "timestamp_ms": "2025-11-24T16:00:00Z"}),
    ("requests", {"request_id": "r", "user_id": "u1", "timestamp_ms": NOW, "filters": {"g": ["a"]}}),
]


@pytest.mark.parametrize(("name", "value"), FIELD_CASES)
def test_a_mapping_that_changes_nothing_gives_what_the_plain_topic_gives(name: str, value: Any) -> None:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    plain = decode([Record(name, 0, 0, NOW, b"u1", raw)], DECODERS[name])
    mapped = identity(name).batch(RecordColumns.of([record(raw)]))
    assert [bad.reason for bad in mapped.rejected] == [bad.reason for bad in plain.rejected]
    assert [DECODERS[name](one.value) for one in mapped.records] == plain.values


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


NAMES = st.sampled_from([*CLICK, "position", "dwell_ms", "value", "context", "other"])


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_whatever_a_click_holds_the_mapping_accepts_what_the_plain_path_accepts(
    changes: dict[str, Any],
) -> None:
    raw = msgspec.json.encode({**CLICK, **changes})
    plain = click_columns([Record("clicks", 0, 0, NOW, b"u1", raw)], {"click": 0}, 0)
    made = identity("clicks").batch(RecordColumns.of([record(raw)]))
    mapped = click_columns(made.records, {"click": 0}, 0)
    assert len(mapped) == len(plain)
    if len(plain):
        assert mapped.click(0) == plain.click(0)
