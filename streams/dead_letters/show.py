"""Dead letters as a table, as a page of one, and as JSON lines."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from streams.dead_letters.log import Held
from streams.events import UNDECODABLE

COLUMNS = ("number", "when, UTC", "record", "reason", "error", "bytes")


def show_letters(held: Iterable[Held], counts: Counter[tuple[str, str]], console: Console) -> None:
    """Print letters as a table, and how many there are of each topic and reason."""
    table = Table(title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in ("number", "bytes") else "left", overflow="fold")
    for one in held:
        letter = one.letter
        size = f"{len(letter.value):,}" + ("+" if letter.truncated else "")
        where = f"{letter.topic}/{letter.partition}/{letter.offset}"
        table.add_row(
            str(one.number), _when(letter.timestamp_ms), escape(where), letter.reason,
            escape(letter.error), size,
        )  # fmt: skip
    if table.row_count:
        console.print(table)
    for (topic, reason), n in counts.most_common():
        console.print(escape(f"{topic}, {reason}: {n:,}"), highlight=False, soft_wrap=True)
    n = counts.total()
    console.print(f"{n:,} dead letter{'s' if n != 1 else ''}", highlight=False)


def show_letter(held: Held, console: Console) -> None:
    """Print all that is known of one letter."""
    letter = held.letter
    for name, value in (
        ("number", str(held.number)),
        ("when", f"{_when(letter.timestamp_ms)} UTC"),
        ("record", f"{letter.topic}, partition {letter.partition}, offset {letter.offset}"),
        ("key", "none" if held.key is None else text_of(held.key)),
        ("reason", letter.reason),
        ("error", letter.error),
        ("value", f"{len(letter.value):,} bytes" + (", the beginning of more" if letter.truncated else "")),
    ):
        console.print(f"[bold]{name:8}[/]{escape(value)}", highlight=False, soft_wrap=True)
    console.print(escape(readable(letter.value)), highlight=False, soft_wrap=True)


def readable(value: bytes) -> str:
    r"""Return a value as a person reads it: JSON indented, other text with its control characters named.

    >>> readable(b'{"a":1}')
    '{\n  "a": 1\n}'
    >>> readable(b"\xff\x00")
    '\\xff\\x00'
    """
    try:
        return msgspec.json.format(value).decode()
    except UNDECODABLE:
        return text_of(value)


def text_of(raw: bytes) -> str:
    """Return bytes as text; what is no printable character is named."""
    text = raw.decode(errors="backslashreplace")
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def as_line(held: Held) -> str:
    """Return a letter as a line of JSON; its value is in base64, as on the topic."""
    fields: dict[str, Any] = {"number": held.number, "key": None if held.key is None else text_of(held.key)}
    return msgspec.json.encode(fields | msgspec.to_builtins(held.letter)).decode()


def _when(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # written by somebody else
        return f"{ms} ms"
