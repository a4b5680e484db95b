"""Reads times in JSON: whole and decimal numbers of a unit, and ISO 8601 text of the usual form."""

from typing import Any

import numpy as np

from model_core.kernels import inner
from streams.decoding.byte_steps import Data, Table, skip_digits
from streams.mapping.json_kernels import BEGIN, DECIMAL, INTEGER, KIND, NUMBER, SIZE, TEXT

# Where a time comes from.
MS, SECONDS, MICROS, NANOS, ISO, RECORD_TIME = range(6)
_DAYS = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365], np.int64)


@inner
def _two(data: Data, at: int) -> int:
    """Two digits, a number above 99 if they are none."""
    tens, ones = np.int64(data[np.uint64(at)]) - 48, np.int64(data[np.uint64(at + 1)]) - 48
    return int(tens * 10 + ones) if 0 <= tens <= 9 and 0 <= ones <= 9 else 1000


@inner
def iso_ms(data: Data, at: int, size: int) -> int:
    """Milliseconds of `2025-11-24T10:00:00[.000[000]][Z|+00:00]`, -1 of anything else."""
    end = at + size
    if size < 19:
        return -1
    marks = data[np.uint64(at + 4)] == 45 and data[np.uint64(at + 7)] == 45
    marks &= data[np.uint64(at + 13)] == 58 and data[np.uint64(at + 16)] == 58
    between = data[np.uint64(at + 10)]
    century, years, month, day = _two(data, at), _two(data, at + 2), _two(data, at + 5), _two(data, at + 8)
    hour, minute, second = _two(data, at + 11), _two(data, at + 14), _two(data, at + 17)
    if not marks or not (between == 84 or between == 32) or not 19 <= century <= 99 or years > 99:
        return -1
    if not 1 <= month <= 12 or day < 1 or hour > 23 or minute > 59 or second > 59:
        return -1
    year = century * 100 + years
    leap = year & 3 == 0 and (years != 0 or century & 3 == 0)
    if day > _DAYS[month] - _DAYS[month - 1] + (1 if month == 2 and leap else 0):
        return -1
    before = year - 1
    # From the year 1 on: 719,162 days to 1970.
    days = before * 365 + (before >> 2) - century + (1 if years == 0 else 0) - 719_162
    days += (century - (1 if years == 0 else 0)) >> 2
    days += _DAYS[month - 1] + (1 if month > 2 and leap else 0) + day - 1
    ms: Any = np.int64(0)
    at += 19
    if at < end and data[at] == 46:
        stop = skip_digits(data, at + 1, end)
        if stop - at != 4 and stop - at != 7:
            return -1
        ms = _two(data, at + 1) * 10 + np.int64(data[at + 3]) - 48
        at = stop
    shift: Any = np.int64(0)
    if at < end and data[at] == 90:
        at += 1
    elif at < end and (data[at] == 43 or data[at] == 45):
        if end - at != 6 or data[at + 3] != 58:
            return -1
        hours, minutes = _two(data, at + 1), _two(data, at + 4)
        if hours > 23 or minutes > 59:
            return -1
        shift = (hours * 60 + minutes) * (60_000 if data[at] == 43 else -60_000)
        at = end
    if at != end:
        return -1
    return int(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + ms - shift)


@inner
def _decimal_seconds(data: Data, begin: int, size: int, whole: int) -> int:
    """Milliseconds of a plain decimal of seconds, -1 where rounding might go either way."""
    end = begin + size
    point = skip_digits(data, begin, end)
    ms: Any = np.int64(0)
    rest, scale = 0.0, 1.0
    for k in range(3):
        at = point + 1 + k
        ms = ms * 10 + (np.int64(data[at]) - 48 if at < end else 0)
    for at in range(point + 4, min(end, point + 10)):
        scale /= 10.0
        rest += scale * (data[at] - 48)
    if 0.499 < rest < 0.501:
        return -1
    return int(whole * 1000 + ms + (1 if rest > 0.5 else 0))


@inner
def time_ms(data: Data, slots: Table, slot: int, unit: int) -> int:
    """Milliseconds of a time, -1 where this reader is not sure."""
    kind, begin, size, number = slots[slot, KIND], slots[slot, BEGIN], slots[slot, SIZE], slots[slot, NUMBER]
    if unit == ISO:
        return iso_ms(data, begin, size) if kind == TEXT else -1
    if kind == DECIMAL and unit == SECONDS:
        return int(_decimal_seconds(data, begin, size, number))
    if kind != INTEGER:
        return -1
    if unit == SECONDS:
        return int(number * 1000) if number < 100_000_000_000 else -1
    if unit == MICROS:
        return int(number // 1000)
    return int(number // 1_000_000) if unit == NANOS else int(number)
