"""From a file's values to ours: ids, numbers and lists, and what a column's values look like."""

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from streams.events import MAX_ID_LENGTH
from streams.field_names import verdict
from streams.importing.faults import RowFault

MAX_TEXT = 20_000
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d{1,2}")
"""Three digits after a comma would be thousands."""
FLAGS = dict.fromkeys(("true", "yes", "t", "y"), True) | dict.fromkeys(("false", "no", "f", "n"), False)
_NONE = ("(no genres listed)",)

Texts = Callable[[Any], list[str]]


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
        text = value.strip() if isinstance(value, str) else as_text(value)
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


def as_number(value: Any, *, comma: bool = False) -> float | None:
    """Return a finite number, None of what is none; `comma` reads 3,5 as three and a half."""
    if isinstance(value, bool) or value is None:
        return None
    if comma and isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value.strip()):
        value = value.replace(",", ".")
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
        number = as_number(value, comma=True)
        if number is None or number < least:
            rule = "a number" if least == -math.inf else f"a number from {least:g}"
            raise RowFault("number", f"{field} must be {rule}, got {as_text(value)[:40]!r}")
        return number

    return make


def numbers(values: Iterable[Any], *, comma: bool = False) -> list[float]:
    """Return the values of a column as numbers; none at all when one that is there is no number.

    `comma` is for columns that hold no lists, which look the same.
    """
    found = [as_number(value, comma=comma) for value in values if value not in (None, "")]
    return [] if None in found else [number for number in found if number is not None]


def as_flag(value: Any) -> bool | None:
    """Return whether a label is 1: also written true, yes, t and y; None of what is no label."""
    text = as_text(value).strip().lower()
    number = as_number(text, comma=True)
    return FLAGS.get(text) if number is None else number != 0


def as_verdict(value: Any) -> str | None:
    """Return the action that a thumb up or down is: words, or 1, -1 and 0; None of nothing and of others."""
    number = as_number(value)
    return verdict(as_text(value) if number is None else f"{number:g}")


def are_verdicts(values: Iterable[Any]) -> bool:
    """Tell whether a column says of each item thumb up or down, and both occur."""
    found = {as_verdict(value) for value in values if value not in (None, "")}
    return None not in found and {"like", "dislike"} <= found


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
