"""Whether a worker would take a value: the rules of `streams.decoding` with a worker's settings."""

from collections.abc import Callable
from typing import Any

from streams.decoding.clicks import click_columns
from streams.decoding.records import Rejected, decode, refuse_future_requests
from streams.events import decode_content, decode_request, decode_user
from streams.kafka.columns import Record
from streams.settings import Settings

_DECODERS: dict[str, Callable[[Any], Any]] = {"content": decode_content, "users": decode_user}


def refused(settings: Settings, name: str, value: bytes, now_ms: int) -> str | None:
    """Say why a worker would refuse a value of an input at this time; None when it would take it.

    What only shows when a record is used (an image that cannot be decoded, a row too large) is not seen here.
    """
    rejected = _rejected(settings, name, Record(name, 0, 0, now_ms, None, value))
    return f"{rejected[0].reason}: {rejected[0].error}" if rejected else None


def _rejected(settings: Settings, name: str, record: Record) -> list[Rejected]:
    if name == "clicks":
        codes = {action: code for code, action in enumerate(settings.actions)}
        return click_columns([record], codes, settings.max_future_ms).rejected
    if name == "requests":
        return refuse_future_requests(decode([record], decode_request), settings.max_future_ms)[1]
    return decode([record], _DECODERS[name]).rejected
