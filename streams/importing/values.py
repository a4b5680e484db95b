"""From a file's values to ours: ids, times, numbers and lists, and what a column's values look like."""

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from streams.events import MAX_ID_LENGTH
from streams.importing.faults import RowFault

UNITS = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
UNIT_NAMES = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "day": "days as YYYYMMDD",
    "iso": "dates and times as in ISO 8601, in UTC where they say no zone",
}
MIN_MS, MAX_MS = 100_000_000_000, 9_999_999_999_999  # what a record's time may be
MAX_TEXT = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_NONE = ("(no genres listed)",)

Texts = Callable[[Any], list[str]]
ToMs = Callable[[Any], int]


def as_text(value: Any) -> str:
    """Return a value as a text: nothing as "", whole numbers without a point, a text as it is."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN is not itself
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def make_id(field: str, *, floats: bool) -> Callable[[Any], str]:
    """Return what makes an id of a value; `floats` takes the .0 off that whole numbers were given."""

    def make(value: Any) -> str:
        text = value if isinstance(value, str) else as_text(value)
        if floats and text.endswith(".0"):
            text = text[:-2]
        if not text:
            raise RowFault("no_id", f"{field} is empty")
        if len(text) > MAX_ID_LENGTH:
            raise RowFault("long_id", f"{field} has {len(text):,} characters; at most {MAX_ID_LENGTH}")
        if "\0" in text:
            raise RowFault("odd_id", f"{field} has a NUL character in it, {text!r}")
        return text

    return make


def are_float_ids(values: Sequence[Any]) -> bool:
    """Tell whether ids are whole numbers that somebody's tool has made floats: 42.0, every one of them."""
    texts = [value for value in values if value]
    return bool(texts) and all(isinstance(one, str) and re.fullmatch(r"-?\d+\.0", one) for one in texts)


def time_unit(values: Iterable[Any]) -> str | None:
    """Return in what a column's values are times: a key of `UNIT_NAMES`, None when they are no times."""
    found = [value for value in values if value not in (None, "")]
    if not found:
        return None
    if all(isinstance(value, date) for value in found):
        return "iso"
    texts = [as_text(value).strip() for value in found]
    if all(_DAY.fullmatch(text) for text in texts):
        return "day"
    numbers = [number for number in map(_number, texts) if number is not None]
    if len(numbers) >= 0.9 * len(texts):
        middle = sorted(numbers)[len(numbers) // 2]
        if middle < 1e8:  # before 1973
            return None
        return "s" if middle < 1e11 else "ms" if middle < 1e14 else "us" if middle < 1e17 else "ns"
    sound = sum(_iso(text) is not None for text in texts)
    return "iso" if sound >= 0.9 * len(texts) else None


def make_time(field: str, unit: str, time_format: str | None = None) -> ToMs:
    """Return what makes Unix milliseconds of a value in a unit; or in a format, as strptime has it."""
    per_ms = UNITS.get(unit, 1.0)
    wanted = f"times as {time_format}" if time_format else UNIT_NAMES[unit]

    def make(value: Any) -> int:
        if unit in UNITS and time_format is None:
            number = _number(value)
            ms = None if number is None or abs(number) > 1e19 else round(number / per_ms)
        else:
            moment = value if isinstance(value, date) else _moment(str(value).strip(), unit, time_format)
            ms = None if moment is None else _unix_ms(moment)
        if ms is None:
            raise RowFault("time", f"{field} must be {wanted}, got {as_text(value)[:40]!r}")
        if not MIN_MS <= ms <= MAX_MS:
            raise RowFault("time", f"{field} must lie between 1973 and 2286, got {as_text(value)[:40]!r}")
        return ms

    return make


def _moment(text: str, unit: str, time_format: str | None) -> date | None:
    if time_format is None:
        return _iso(text) if unit == "iso" else _iso(f"{text[:4]}-{text[4:6]}-{text[6:]}")
    try:
        return datetime.strptime(text, time_format)
    except (ValueError, re.error):
        return None


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC").replace("/", "-"))
    except ValueError:
        return None


def _unix_ms(moment: date) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def make_number(
    field: str, *, empty: bool = False, least: float = -math.inf
) -> Callable[[Any], float | None]:
    """Return what makes a finite number of a value, None of nothing where `empty` allows it."""

    def make(value: Any) -> float | None:
        if empty and value in (None, ""):
            return None
        number = _number(value)
        if number is None or number < least:
            rule = "a number" if least == -math.inf else f"a number from {least:g}"
            raise RowFault("number", f"{field} must be {rule}, got {as_text(value)[:40]!r}")
        return number

    return make


def numbers(values: Iterable[Any]) -> list[float]:
    """Return the values of a column as numbers; none at all when one that is there is no number."""
    found = [_number(value) for value in values if value not in (None, "")]
    return [] if None in found else [number for number in found if number is not None]


def list_separator(values: Iterable[Any], *, blanks: bool) -> str | None:
    """Return what stands between the parts of a column's values; None when each is one part.

    Parameters
    ----------
    blanks
        Whether blanks separate where nothing else does: RecBole's lists of tokens.
    """
    texts = [value for value in values if isinstance(value, str)]
    if any(text.startswith("[") for text in texts):
        blanks = False
    for separator in ("|", ";", ","):
        if any(separator in text for text in texts):
            return separator
    return " " if blanks else None


def make_list(separator: str | None) -> Texts:
    """Return what makes a list of texts of a value: a list, a list written as text, or parts.

    A value that has another separator in it than its column is parted there, if it has none of the column's.
    """

    def make(value: Any) -> list[str]:
        if isinstance(value, (list, tuple)):
            return _parts(map(as_text, value))
        text = as_text(value)
        if text.startswith("[") and text.endswith("]") and (listed := _literal(text)) is not None:
            return _parts(map(as_text, listed))
        if separator is None or separator in text:
            return _parts([text] if separator is None else text.split(separator))
        for other in ("|", ";", ","):
            if separator != " " and other in text:
                return _parts(text.split(other))
        return _parts([text])

    return make


def _parts(texts: Iterable[str]) -> list[str]:
    stripped = (text.strip()[:MAX_ID_LENGTH] for text in texts)
    return list(dict.fromkeys(text for text in stripped if text and text not in _NONE))


def _literal(text: str) -> list[Any] | None:
    if len(text) > MAX_TEXT:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return None
    return found if isinstance(found, list) else None
