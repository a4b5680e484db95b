import base64
import gzip
import re
import time
import zlib
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest

from streams.decoding.clicks import click_columns
from streams.decoding.records import Rejected, decode, refuse_future_requests
from streams.events import DEAD_LETTER_BYTES, decode_content, decode_request, decode_user

NOW = 1_764_000_000_000
DAY = 86_400_000
CODES = {"view": 0, "click": 1}
GOOD = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "action": "click", "timestamp_ms": NOW}


@dataclass
class Record:
    value: bytes | None
    offset: int = 0
    key: bytes | None = b"u1"
    timestamp: int = NOW
    topic: str = "clicks"
    partition: int = 0


def click(**changes: Any) -> bytes:
    return msgspec.json.encode({**GOOD, **changes})


BAD = {
    "malformed JSON": (b'{"event_id": ', "invalid", "truncated"),
    "not an object": (b"[1]", "invalid", "Expected `object`"),
    "a wrong type": (click(user_id=7), "invalid", r"Expected `str`, got `int` - at `\$.user_id`"),
    "a missing field": (b'{"event_id": "e"}', "invalid", "missing required field `user_id`"),
    "an empty id": (click(item_id=""), "invalid", "length >= 1"),
    "an id of 1 MB": (click(user_id="u" * 1_000_000), "invalid", "length <= 512"),
    "seconds for milliseconds": (click(timestamp_ms=NOW // 1000), "timestamp", "milliseconds"),
    "a far future": (click(timestamp_ms=NOW + 2 * DAY), "future", "ahead of the broker"),
    "an unknown action": (click(action="zap"), "unknown_action", "'zap'; `actions` defines view, click"),
    "a null value": (None, "null_value", "means nothing"),
    "invalid UTF-8": (b'{"event_id": "\xff"}', "invalid", "(?i)utf-8"),
    "a negative position": (click(position=-1), "invalid", "position"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_click_is_refused_with_its_reason_and_its_neighbours_are_kept(name: str) -> None:
    value, reason, error = BAD[name]
    records = [Record(click(event_id="a"), 1), Record(value, 2), Record(click(event_id="b"), 3)]
    columns = click_columns(records, CODES, DAY)
    assert columns.offsets.tolist() == [1, 3]
    (rejected,) = columns.rejected
    assert rejected.reason == reason
    assert rejected.record.offset == 2
    assert re.search(error, rejected.error)


def test_columns_hold_what_the_clicks_say() -> None:
    records = [Record(click(), 5), Record(click(action="view", item_id="é", user_id="u2"), 6, key=b"u2")]
    columns = click_columns(records, CODES, DAY)
    assert columns.users == ["u1", "u2"]
    assert columns.items == ["i1", "é"]
    assert columns.actions.tolist() == [1, 0]
    assert columns.times.tolist() == [NOW, NOW]
    assert columns.event_keys[0] == columns.event_keys[1]
    assert columns.event_keys.dtype == np.uint64
    assert columns.key_mismatches == 0


@pytest.mark.parametrize("key", [None, b"other", b""])
def test_a_key_that_is_not_the_user_is_accepted_and_counted(key: bytes | None) -> None:
    columns = click_columns([Record(click(), key=key)], CODES, DAY)
    assert columns.users == ["u1"]
    assert columns.key_mismatches == 1


@pytest.mark.parametrize("k", [0, -1, 201, 10_000])
def test_a_slate_size_out_of_range_is_refused(k: int) -> None:
    value = {"request_id": "r", "user_id": "u", "timestamp_ms": NOW, "k": k}
    decoded = decode([Record(msgspec.json.encode(value), topic="requests")], decode_request)
    assert [bad.reason for bad in decoded.rejected] == ["invalid"]
    assert "$.k" in decoded.rejected[0].error


def test_a_request_from_the_far_future_is_refused() -> None:
    value = {"request_id": "r", "user_id": "u", "timestamp_ms": NOW + 2 * DAY}
    decoded = decode([Record(msgspec.json.encode(value), topic="requests")], decode_request)
    accepted, rejected = refuse_future_requests(decoded, DAY)
    assert not accepted
    assert [bad.reason for bad in rejected] == ["future"]


def test_an_empty_batch_gives_empty_columns() -> None:
    columns = click_columns([], CODES, DAY)
    assert len(columns) == 0
    assert columns.offsets.dtype == np.int64


def test_a_dead_letter_carries_the_value_cut_to_its_limit() -> None:
    record = Record(b"x" * (DEAD_LETTER_BYTES + 1), offset=7)
    _, value = Rejected(record, "invalid", "why").dead_letter()
    letter = msgspec.json.decode(value)
    assert letter["truncated"] is True
    assert letter["offset"] == 7
    assert len(base64.b64decode(letter["value"])) == DEAD_LETTER_BYTES


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (b"\x00\x00\x00\x00\x07" + click(), "invalid", r"schema registry.*\(schema 7\)"),
        (b"\xef\xbb\xbf" + click(), "invalid", "byte order mark"),
        (gzip.compress(click(), mtime=0), "invalid", "is gzip"),
        (zlib.compress(click()), "invalid", "is zlib"),
        (click().decode().encode("utf-16"), "invalid", "UTF-16"),
        (b"null", "null_value", "a deletion is a record without one"),
        (click(timestamp_ms=None), "timestamp", "milliseconds"),
        (click().replace(b"timestamp_ms", b"timestamp"), "timestamp", "in timestamp_ms"),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_named_by_what_it_is(value: bytes, reason: str, words: str) -> None:
    (rejected,) = click_columns([Record(value)], CODES, DAY).rejected
    assert rejected.reason == reason
    assert re.search(words, rejected.error)


def test_the_attribute_that_breaks_a_rule_is_named() -> None:
    value = b'{"item_id": "i", "title": "t", "attributes": {"tag": ["a"], "genre": "Drama"}}'
    (rejected,) = decode([Record(value, topic="content")], decode_content).rejected
    assert rejected.error == "Expected `array`, got `str` - at `$.attributes['genre']`"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (click(value=1.5).replace(b"1.5", b"NaN"), "NaN is no number in JSON - at `$.value`"),
        (
            click(dwell_ms=1.5).replace(b"1.5", b" -Infinity"),
            "-Infinity is no number in JSON - at `$.dwell_ms`",
        ),
        (click(context={"a": [1.5]}).replace(b"1.5", b"1, NaN"), "NaN is no number in JSON - at `$.a`"),
        (click(action="N").replace(b'"N"', b"None"), "JSON is malformed"),
    ],
)
def test_a_field_that_holds_no_number_is_named(value: bytes, field: str) -> None:
    (rejected,) = click_columns([Record(value)], CODES, DAY).rejected
    assert (rejected.reason, rejected.error[: len(field)]) == ("invalid", field)


def test_a_null_in_a_field_that_may_be_left_out_is_as_no_such_field() -> None:
    value = b'{"item_id": "i", "title": "t", "attributes": null, "triples": null, "available": null}'
    (content,) = decode([Record(value, topic="content")], decode_content).values
    assert content == decode_content(b'{"item_id": "i", "title": "t"}')
    assert decode_user(b'{"user_id": "u", "preferences": null}').preferences == []
    assert decode_request(click(request_id="r", k=None, filters=None)).k == 10
    for broken, place in (
        (b'{"item_id": "i", "title": null, "text": null}', "`$.title`"),
        (
            b'{"item_id": "i", "title": "t", "attributes": {"tag": ["a"], "genre": ["a", null]}}',
            "`$.attributes['genre'][1]`",
        ),
    ):
        (rejected,) = decode([Record(broken, topic="content")], decode_content).rejected
        assert "got `null`" in rejected.error
        assert rejected.error.endswith(place)


@pytest.mark.parametrize("timestamp", [-1, 0])
def test_a_record_whose_time_says_nothing_is_held_against_the_clock(timestamp: int) -> None:
    columns = click_columns([Record(click(), timestamp=timestamp)], CODES, DAY)
    assert (len(columns), columns.rejected) == (1, [])
    later = time.time_ns() // 1_000_000 + 2 * DAY
    (rejected,) = click_columns([Record(click(timestamp_ms=later), timestamp=timestamp)], CODES, DAY).rejected
    assert rejected.reason == "future"
    value = {"request_id": "r", "user_id": "u", "timestamp_ms": NOW}
    asked = decode(
        [Record(msgspec.json.encode(value), topic="requests", timestamp=timestamp)], decode_request
    )
    assert refuse_future_requests(asked, DAY)[1] == []
