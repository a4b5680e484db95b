"""Good events and records, which inputs of a fuzz are made from."""

import json
from collections.abc import Sequence
from typing import Any

from streams.decoding.records import Rejected
from streams.events import encode
from streams.kafka.columns import Record, RecordColumns
from tests.fuzz.engine import short

NOW, DAY = 1_764_000_000_000, 86_400_000
CODES = {"view": 0, "click": 1, "like": 2}
CLICK = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "action": "click", "timestamp_ms": NOW}
CLICKS = (
    CLICK,
    {
        **CLICK,
        "request_id": "r",
        "position": 3,
        "dwell_ms": 2.5,
        "value": -1,
        "context": {"a": [1, {"b": None}]},
    },
    {**CLICK, "user_id": "é", "other": [1, -2.5, "x\n"], "context": None, "value": None},
)
CONTENT = (
    {"item_id": "i1", "title": "T", "text": "words", "attributes": {"genre": ["a", "b"]}, "available": False},
    {"item_id": "i1", "title": "T", "triples": [["by", "x"]], "image": {"embedding": [0.5, 1]},
     "audio": {"data": "AAAA"}, "published_ms": NOW, "expires_ms": None, "attributes": None},
)  # fmt: skip
USERS = ({"user_id": "u1", "attributes": {"age": "34"}, "preferences": ["jazz"], "blocked_items": ["i1"],
          "friends": ["u2"]},)  # fmt: skip
REQUESTS = (
    {
        "request_id": "r",
        "user_id": "u",
        "timestamp_ms": NOW,
        "k": 10,
        "context": {"a": 1},
        "candidates": ["i1"],
    },
    {
        "request_id": "r",
        "user_id": "u",
        "timestamp_ms": NOW,
        "exclude": ["i"],
        "filters": {"genre": ["a"]},
        "pinned": ["i2"],
        "boosts": {"i": -0.5},
        "preview": True,
    },
)
SLATE = [{"item_id": "i", "position": 0, "score": 0.5, "propensity": 1.0, "reasons": ["x"],
          "evidence": [{"signal": "ease", "item_id": "j", "share": 0.5}]}]  # fmt: skip
SERVED = {"request_id": "r", "user_id": "u", "slate": SLATE, "policy": "greedy", "policy_version": 1,
          "propensity_kind": "exact", "model_version": "m", "features": "AAAA", "feature_dim": 1,
          "timestamp_ms": NOW}  # fmt: skip
FEEDBACK = ({**SERVED, "rewards": [1.0], "actions": [["like"]], "closed_ms": NOW + 1, "correction": True},)
SLATES = ({**SERVED, "latency_ms": 1.5, "candidate_propensities": {"random": [0.5]}},)
LETTERS = (
    {
        "topic": "t",
        "partition": 0,
        "offset": 1,
        "error": "e",
        "reason": "r",
        "value": "AAAA",
        "timestamp_ms": NOW,
    },
)


def written(values: Sequence[Any]) -> list[bytes]:
    """Return values as JSON, in one line and in several."""
    return [text for value in values for text in (encode(value), json.dumps(value, indent=1).encode())]


def words_of(values: Sequence[dict[str, Any]]) -> list[bytes]:
    """Return the names of fields, as they stand in JSON."""
    return [json.dumps(name).encode() for name in {name: None for value in values for name in value}]


def batch_of(values: Sequence[bytes]) -> RecordColumns:
    """Return records of the topic `clicks`."""
    return RecordColumns.of([Record("clicks", 0, n, NOW, b"u1", value) for n, value in enumerate(values)])


def said(bad: Rejected) -> tuple[str, str]:
    """Return why a record is refused, in few words."""
    return bad.reason, short(bad.error)
