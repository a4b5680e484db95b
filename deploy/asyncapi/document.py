"""The contract of the topics as an AsyncAPI 3 document and as JSON Schemas: `make contract` writes them.

`asyncapi.json` describes a worker: what it receives and what it sends. `schemas/` has one JSON Schema
(2020-12) for each topic that others produce, to check records with before they are published. All of it comes
from `streams/events.py` and the table of topics.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from streams import events
from streams.experiments.definition import Experiment, Variant
from streams.kafka.topics import TOPICS
from streams.releases.changes import ReleaseChange
from streams.settings import Settings

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER / "asyncapi.json"
SCHEMAS = FOLDER / "schemas"
REFERENCE = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class Message:
    """The message of a topic: its struct, the meaning of its key, and an example."""

    struct: type[msgspec.Struct]
    key: str
    example: msgspec.Struct
    tombstone: str | None = None  # what a null value means


_ITEM = events.SlateItem("i7", 0, 0.83, 0.41, ["because you liked Alien (1979)"])
_FEATURES = b"\x00\x00\x80?"

RECEIVED = {
    "clicks": Message(
        events.Click, "user_id", events.Click("e1", "u1", "i1", "click", 1_764_000_000_000, "r1", 0)
    ),
    "content": Message(
        events.Content,
        "item_id",
        events.Content("i1", "Alien (1979)", attributes={"genre": ["Horror", "Sci-Fi"]}),
        tombstone="deletes the item",
    ),
    "users": Message(
        events.UserUpdate,
        "user_id",
        events.UserUpdate("u1", {"country": "no"}, ["Sci-Fi"], ["i9"], ["u7"]),
        tombstone="erases the user",
    ),
    "requests": Message(
        events.Request,
        "user_id",
        events.Request("r1", "u1", 1_764_000_000_500, filters={"genre": ["Sci-Fi"]}),
    ),
    "experiments": Message(
        Experiment,
        "name",
        Experiment("cooler", "ab", [Variant("control"), Variant("b", "greedy")], 1_764_000_000_000),
    ),
    "model-releases": Message(
        ReleaseChange,
        "change",
        ReleaseChange(
            "promote", "3f9c81aa02d4", "ann@build", 1_764_000_000_000, "more hits on held-out days"
        ),
    ),
}

SENT = {
    "recommendations": Message(
        events.Recommendation,
        "user_id",
        events.Recommendation(
            "r1", "u1", [_ITEM], "thompson", 12, "estimated", "5b0c", _FEATURES, 1, 1_764_000_000_512, 9.5
        ),
    ),
    "feedback": Message(
        events.Feedback,
        "user_id",
        events.Feedback(
            "r1", "u1", [_ITEM], [1.0], [["click"]], "thompson", 12, "estimated", "5b0c", _FEATURES, 1,
            1_764_000_000_512, 1_764_001_800_512,
        ),
    ),
    "dead-letters": Message(
        events.DeadLetter,
        "the source record's",
        events.DeadLetter(
            "clicks", 3, 1041, "Object missing required field `item_id`", "invalid", b'{"user_id":"u1"}',
            1_764_000_000_600,
        ),
    ),
}  # fmt: skip

PRODUCED_BY_OTHERS = ("clicks", "content", "users", "requests")


def document() -> dict[str, Any]:
    """Return the AsyncAPI document."""
    messages = RECEIVED | SENT
    _, schemas = msgspec.json.schema_components(
        [one.struct for one in messages.values()], ref_template=REFERENCE
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "slatestream",
            "version": version("slatestream"),
            "description": events.__doc__,
            "license": {"name": "Apache 2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(name) for name in messages},
        "operations": {
            **{f"receive-{name}": _operation("receive", name) for name in RECEIVED},
            **{f"send-{name}": _operation("send", name) for name in SENT},
        },
        "components": {
            "messages": {name: _message(name, one) for name, one in messages.items()},
            "schemas": {name: _draft_7(schema) for name, schema in schemas.items()},
        },
    }


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each topic that others produce, by the topic's name."""
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        | msgspec.json.schema(RECEIVED[name].struct)
        for name in PRODUCED_BY_OTHERS
    }


def files() -> Iterator[tuple[Path, str]]:
    """Yield each file and what belongs in it."""
    yield DOCUMENT, _text(document())
    for name, schema in schemas().items():
        yield SCHEMAS / f"{name}.json", _text(schema)


def _channel(name: str) -> dict[str, Any]:
    spec, settings = TOPICS[name], Settings.model_construct()
    return {
        "address": name,
        "description": "With `topic_prefix` before it, where one is set.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "kafka": {
                "topic": name,
                "partitions": spec.partitions or settings.partitions,
                "topicConfiguration": {
                    "cleanup.policy": [spec.cleanup],
                    "max.message.bytes": spec.max_message_bytes,
                    **({} if spec.retention_ms is None else {"retention.ms": spec.retention_ms}),
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operation(action: str, name: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
    }


def _message(name: str, one: Message) -> dict[str, Any]:
    description = str(one.struct.__doc__)
    if one.tombstone is not None:
        description += f"\n\nA record with a null value {one.tombstone} that its key names."
    return {
        "name": one.struct.__name__,
        "summary": description.splitlines()[0],
        "description": description,
        "payload": {"$ref": REFERENCE.format(name=one.struct.__name__)},
        "examples": [{"payload": msgspec.to_builtins(one.example)}],
        "bindings": {"kafka": {"key": {"type": "string", "description": one.key}, "bindingVersion": "0.5.0"}},
    }


def _draft_7(schema: Any) -> Any:
    """Say a tuple as draft 7 does, which is what AsyncAPI's own schemas are."""
    if isinstance(schema, list):
        return [_draft_7(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    said = {key: _draft_7(value) for key, value in schema.items()}
    if "prefixItems" in said:
        said["items"] = said.pop("prefixItems")
        said["additionalItems"] = False
    return said


def _text(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMAS.mkdir(exist_ok=True)
    for path, text in files():
        path.write_text(text, encoding="utf-8")
