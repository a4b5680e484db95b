"""Times in files: in what a column's values are written, and Unix milliseconds of them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

from streams.importing.faults import RowFault
from streams.importing.values import as_number, as_text

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
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_WRITTEN = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(?:19|20)\d\d"  # day and month, in either order, and the year
    r"(?:(,? |T)\d{1,2}:\d\d(:\d\d)?( ?[AaPp][Mm])?)?"
)

ToMs = Callable[[Any], int]


def time_unit(values: Iterable[Any]) -> str | None:
    """Return in what a column's values are times; None when they are no times.

    Returns
    -------
    A key of `UNIT_NAMES`, or a format as strptime has it where a date is written with the year last. Of that
    the values themselves must tell the day from the month: see `day_or_month`.
    """
    found = [value for value in values if value not in (None, "")]
    if not found:
        return None
    if all(isinstance(value, date) for value in found):
        return "iso"
    texts = [as_text(value).strip() for value in found]
    if all(_DAY.fullmatch(text) for text in texts):
        return "day"
    numbers = [number for number in map(as_number, texts) if number is not None]
    if len(numbers) >= 0.9 * len(texts):
        middle = sorted(numbers)[len(numbers) // 2]
        if middle < 1e8:  # before 1973
            return None
        return "s" if middle < 1e11 else "ms" if middle < 1e14 else "us" if middle < 1e17 else "ns"
    sound = sum(_iso(text) is not None for text in texts)
    if sound >= 0.9 * len(texts):
        return "iso"
    written = _formats(texts)
    return written[0] if len(written) == 1 else None


def day_or_month(values: Iterable[Any]) -> tuple[str, ...]:
    """Return both formats of dates with the year last of which no value says where the day is, else none."""
    written = _formats([as_text(value).strip() for value in values if value not in (None, "")])
    return written if len(written) == 2 else ()


def _formats(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the formats that dates with the year last can be in: a point puts the day first."""
    matched = [found for text in texts if (found := _WRITTEN.fullmatch(text)) is not None]
    if not matched or len(matched) < 0.9 * len(texts):
        return ()
    between, gap, seconds, half = Counter(found.group(2, 4, 5, 6) for found in matched).most_common(1)[0][0]
    time = "" if gap is None else gap + ("%H:%M" if half is None else "%I:%M") + (":%S" if seconds else "")
    time += "" if half is None else "%p" if half[0] != " " else " %p"
    no_months = [sum(int(found[place]) > 12 for found in matched) for place in (3, 1)]
    least = min(no_months)
    if least > 0.1 * len(texts):
        return ()
    orders = [order for order, odd in zip(("%d %m", "%m %d"), no_months, strict=True) if odd == least]
    if between == ".":
        orders = orders[:1]
    return tuple(order.replace(" ", between) + between + "%Y" + time for order in orders)


def in_words(unit: str) -> str:
    """Say how times of a unit are read, as `time_unit` returns it."""
    return UNIT_NAMES.get(unit) or f"as {unit}, in UTC"


def make_time(field: str, unit: str, time_format: str | None = None) -> ToMs:
    """Return what makes Unix milliseconds of a value in a unit; or in a format, as strptime has it."""
    per_ms = UNITS.get(unit, 1.0)
    time_format = time_format or (unit if "%" in unit else None)
    wanted = f"times as {time_format}" if time_format else UNIT_NAMES[unit]

    def make(value: Any) -> int:
        if unit in UNITS and time_format is None:
            number = as_number(value)
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
