"""Makes the value of one field: finds it, and does to it what the mapping says."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from streams.decoding.records import INVALID, MAPPING, TIMESTAMP, UNKNOWN_ACTION
from streams.mapping.places import Context, Getter, as_text, getter, nearest
from streams.settings.source_paths import Path, parse, parse_template
from streams.settings.sources import FieldSource

PER_MS = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
Maker = Callable[[Context], Any]
Change = Callable[[Any], Any]


class Fault(Exception):
    """A record cannot be mapped."""

    def __init__(self, message: str, reason: str = MAPPING) -> None:
        super().__init__(message)
        self.reason = reason


class LeftOut(Exception):
    """A record is not to be read."""


def maker(name: str, spec: FieldSource, *, required: bool) -> Maker:
    """Return what makes a field's value of a record; None where there is none.

    Raises
    ------
    Fault
        From what is returned: the field is required and nothing is at its path, or its value breaks a rule.
    """
    get = _getter(spec)
    changes = [change for change in (_listed(name, spec), _split(name, spec), _typed(name, spec)) if change]
    default = spec.default

    def make(context: Context) -> Any:
        value = get(context)
        if value is None:
            if default is not None:
                return default
            if required:
                raise Fault(f"{name}: {_missing(spec, context)}")
            return None
        for change in changes:
            value = change(value)
        return value

    return make


def _getter(spec: FieldSource) -> Getter:
    if spec.path is not None:
        return getter(parse(spec.path))
    if spec.template is None:
        constant = spec.constant
        return lambda context: constant
    parts = [part if isinstance(part, str) else getter(part) for part in parse_template(spec.template)]

    def fill(context: Context) -> Any:
        texts = [part if isinstance(part, str) else as_text(part(context)) for part in parts]
        return None if None in texts else "".join(texts)  # type: ignore[arg-type]

    return fill


def _missing(spec: FieldSource, context: Context) -> str:
    paths = [parse(spec.path)] if spec.path is not None else []
    if spec.template is not None:
        paths = [part for part in parse_template(spec.template) if isinstance(part, Path)]
    for path in paths:
        if as_text(getter(path)(context)) is None:
            return f"nothing at `{path.text}`" + _instead(path, context)
    return "there is no value"


def _instead(path: Path, context: Context) -> str:
    starts = {"$": "value", "@": "element", "$event": "event", "$key": "key"}
    if path.root == "$header":
        return f": the headers are {', '.join(context.headers) or 'none'}"
    if path.root not in starts:
        return ""
    return ": " + nearest(getattr(context, starts[path.root]), path)


def _listed(name: str, spec: FieldSource) -> Change | None:
    values = spec.values
    if values is None:
        return None

    def look(value: Any) -> Any:
        text = as_text(value)
        if text is not None and text in values:
            return values[text]
        if spec.unlisted == "keep":
            return value
        if spec.unlisted == "leave_out":
            raise LeftOut
        reason = UNKNOWN_ACTION if name == "action" else MAPPING
        raise Fault(f"{name}: {value!r} is not among `values` ({', '.join(values)})", reason)

    return look


def _split(name: str, spec: FieldSource) -> Change | None:
    separator = spec.split
    if separator is None:
        return None

    def split(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return [part for one in value.split(separator) if (part := one.strip())]

    return split


def _typed(name: str, spec: FieldSource) -> Change | None:
    if spec.unit is not None:
        return (lambda value: _iso_ms(name, value)) if spec.unit == "iso" else _of_unit(name, spec.unit)
    return {
        None: None,
        "text": lambda value: value if (text := as_text(value)) is None else text,
        "texts": _texts,
        "number": lambda value: _number(name, value),
        "integer": lambda value: _integer(name, value),
    }[spec.as_]


def _texts(value: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    return [one if (text := as_text(one)) is None else text for one in values if one is not None]


def _number(name: str, value: Any) -> Any:
    if isinstance(value, str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise Fault(f"{name}: {value!r} is no number", INVALID) from None
        if not math.isfinite(number):
            raise Fault(f"{name}: {value!r} is no finite number", INVALID)
        return number
    return value


def _integer(name: str, value: Any) -> Any:
    number = _number(name, value)
    if isinstance(number, float):
        if not number.is_integer():
            raise Fault(f"{name}: {value!r} is no whole number", INVALID)
        return int(value) if isinstance(value, str) and value.strip().isdecimal() else int(number)
    return number


def _of_unit(name: str, unit: str) -> Change:
    per_ms = PER_MS[unit]

    def to_ms(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise Fault(f"{name}: {value!r} is no time in {unit}", TIMESTAMP)
        try:
            if isinstance(value, str):
                value = int(value) if value.strip().isdecimal() else float(value)
            if isinstance(value, int):
                return value * 1000 if unit == "s" else value // int(per_ms)
            return round(value / per_ms)
        except (ValueError, OverflowError):
            raise Fault(f"{name}: {value!r} is no time in {unit}", TIMESTAMP) from None

    return to_ms


def _iso_ms(name: str, value: Any) -> int:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise Fault(f"{name}: {value!r} is no time in ISO 8601", TIMESTAMP) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000
