"""Mappings and records to map."""

from collections.abc import Sequence

from streams.kafka.columns import Record
from streams.mapping.translate import Translator
from streams.settings.sources import Source, parse_sources

NOW = 1_764_000_000_000


def source_of(fields: str, *, feeds: str = "clicks", more: str = "") -> Source:
    """The one source of a mapping with these fields."""
    text = f'[[source]]\ntopic = "shop"\nfeeds = "{feeds}"\n{more}\n[source.fields]\n{fields}'
    return parse_sources(text, "m.toml")[0]


def translator_of(fields: str, *, feeds: str = "clicks", more: str = "") -> Translator:
    return Translator(source_of(fields, feeds=feeds, more=more))


def identity(feeds: str) -> Translator:
    """A mapping that takes every field from where our own topics have it."""
    names: dict[str, Sequence[str]] = {
        "clicks": ("event_id", "user_id", "item_id", "action", "timestamp_ms", "request_id", "position",
                   "dwell_ms", "value", "context"),
        "content": ("item_id", "title", "text", "attributes", "triples", "image", "available",
                    "published_ms"),
        "users": ("user_id", "attributes", "preferences", "blocked_items", "friends"),
        "requests": ("request_id", "user_id", "timestamp_ms", "k", "context", "filters"),
    }  # fmt: skip
    return translator_of("\n".join(f'{name} = "{name}"' for name in names[feeds]), feeds=feeds)


def record(
    value: bytes | None, *, offset: int = 0, key: bytes | None = b"u1", timestamp: int = NOW
) -> Record:
    return Record("shop", 3, offset, timestamp, key, value)
