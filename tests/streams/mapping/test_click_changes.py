"""Clicks that a database's changes tell: the kernel reads what translating reads, and nothing else."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.mapping.click_reader import ClickReader
from streams.mapping.formats import payload_opening
from streams.mapping.translate import Translator
from streams.settings.sources import Source
from tests.streams.mapping.test_click_reader import CODES, DAY, JSON, SCALARS, assert_same, batch, source

FIELDS = """
user_id = { path = "user.id", as = "text" }
item_id = "sku"
action = { path = "kind", values = { 1 = "view", liked = "like" } }
timestamp_ms = { path = "$event.source.ts_ms" }
"""
WHERE = 'envelope = "debezium"\nwhere = [{ path = "$event.source.table", is = "clicks" }]'
ROW = {"user": {"id": 5}, "sku": "i1", "kind": 1, "payload": "p"}
CHANGE = {
    "before": None, "after": ROW, "source": {"table": "clicks", "ts_ms": 1764000000000}, "op": "c",
    "ts_ms": 1764000000005, "transaction": None,
}  # fmt: skip
SCHEMA = {"type": "struct", "fields": [{"type": "struct", "field": "after", "optional": True}], "name": "é"}


def changes() -> Source:
    return source(FIELDS, WHERE)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def wrapped(payload: Any, schema: Any = SCHEMA) -> bytes:
    return compact({"schema": schema, "payload": payload})


@pytest.mark.parametrize("write", [compact, wrapped, lambda change: json.dumps(change).encode()])
def test_changes_are_read_by_the_kernel_alone(monkeypatch: pytest.MonkeyPatch, write: Any) -> None:
    told = [{**CHANGE, "op": op} for op in "cur"]
    left = [{**CHANGE, "op": "d", "before": ROW, "after": None}, {**CHANGE, "op": "t"}]
    other = {**CHANGE, "source": {**CHANGE["source"], "table": "orders"}}  # type: ignore[dict-item]
    records = batch(*map(write, [*left, other, *told]))
    assert_same(changes(), records)
    reader = ClickReader(changes(), CODES, DAY)

    def refuse(*_: object) -> None:
        raise AssertionError("a plain change was translated")

    monkeypatch.setattr(Translator, "batch", refuse)
    columns = reader(records)
    assert (columns.offsets.tolist(), columns.left_out) == ([19, 22, 25], 3)


ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["c", "u", "r", "d", "t", "m", ""]) | JSON,
        "after": st.fixed_dictionaries(
            {}, optional={"user": st.fixed_dictionaries({}, optional={"id": SCALARS}) | JSON,
                          "sku": st.just("i1") | JSON, "kind": st.sampled_from([1, "liked"]) | JSON}
        ) | JSON,
        "before": JSON,
        "source": st.fixed_dictionaries({}, optional={"table": st.just("clicks") | JSON}) | JSON,
        "schema": JSON,
        "payload": st.just(CHANGE) | JSON,
    },
)  # fmt: skip


@given(
    st.lists(ENVELOPES, min_size=1, max_size=2),
    st.sets(st.sampled_from(list(CHANGE))),
    st.sampled_from([SCHEMA, None, {"payload": 1}, {}]),
    st.permutations(range(4)),
)
def test_any_changes_come_to_the_same_as_translating(
    events: list[Any], kept: set[str], schema: Any, order: list[int]
) -> None:
    whole = [{**CHANGE, **{name: event[name] for name in kept & event.keys()}} for event in events]
    kinds = [
        [*map(compact, events), None],
        [compact(CHANGE), *map(compact, whole)],
        [wrapped(change, schema) for change in (*events, *whole, CHANGE)],
        [wrapped(CHANGE), json.dumps({"schema": SCHEMA, "payload": CHANGE}).encode()],
    ]
    assert_same(changes(), batch(*(value for kind in order for value in kinds[kind])))


@given(st.binary(max_size=8) | st.sampled_from([b"}", b",", b'"payload":', b' ,"payload":{}']), st.data())
def test_changes_with_bytes_put_in_come_to_the_same_as_translating(noise: bytes, data: st.DataObject) -> None:
    whole = wrapped(CHANGE)
    at = data.draw(st.integers(0, len(whole)))
    broken = [whole[:at] + noise + whole[at:], whole[:at], whole[:at] + noise]
    assert_same(changes(), batch(whole, *broken, whole))
    assert_same(changes(), batch(*broken, whole))


@pytest.mark.parametrize(
    "value",
    [
        b"", b"{}", b'{"payload":{}}', b'{"payload":1,"schema":{"payload":{}}}', b'{"schema":{"payload":1}}',
        b'{"schema":1,"more":2,"payload":{}}', b'{"schema":1,"\\"payload":{}}', b'["payload":{}]',
        b'{"schema":"\xff","payload":{}}', b'{"schema":1 "payload":{}}', b'"payload":{}',
    ],
)  # fmt: skip
def test_what_stands_before_a_payload_is_known_only_of_a_schema_and_a_payload(value: bytes) -> None:
    assert payload_opening(value) == b""
    assert_same(changes(), batch(value, wrapped(CHANGE), value))


def test_what_stands_before_a_payload_ends_with_its_colon() -> None:
    assert payload_opening(wrapped({"payload": 1}, 2)) == b'{"schema":2,"payload":'
