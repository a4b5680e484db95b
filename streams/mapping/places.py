"""Looks up paths in a record."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streams.kafka.columns import Record
from streams.settings.source_paths import EVERY, SCALARS, Path

Headers = Sequence[tuple[str, bytes | None]]


class Context:
    """The values that the paths of one event start from.

    Attributes
    ----------
    value, key : decoded; None of a null or, of the key, before somebody asks
    event : what an envelope says of its value
    element, index : of `each`
    """

    __slots__ = (
        "_headers",
        "_key",
        "_read_headers",
        "_read_key",
        "element",
        "event",
        "index",
        "record",
        "value",
    )

    def __init__(
        self, record: Record, read_key: Callable[[Record], Any], read_headers: Callable[[], Headers]
    ) -> None:
        self.record = record
        self.value: Any = None
        self.event: Any = None
        self._read_headers = read_headers
        self.element: Any = None
        self.index = 0
        self._read_key: Callable[[Record], Any] | None = read_key
        self._key: Any = None
        self._headers: dict[str, str] | None = None

    @property
    def key(self) -> Any:
        """The record's key, decoded when it is asked for."""
        if self._read_key is not None:
            self._key, self._read_key = self._read_key(self.record), None
        return self._key

    @property
    def headers(self) -> Mapping[str, str]:
        """The record's headers as texts; the last of a name counts."""
        if self._headers is None:
            self._headers = {
                name: value.decode(errors="replace")
                for name, value in self._read_headers()
                if value is not None
            }
        return self._headers


Getter = Callable[[Context], Any]


def getter(path: Path) -> Getter:
    """Return what looks a path up: None where nothing, or null, is there."""
    root, steps = path.root, path.steps
    if root in SCALARS:
        if root == "$index":
            return lambda context: context.index
        attribute = root[1:]
        return lambda context: getattr(context.record, attribute)
    if root == "$header":
        name = str(steps[0])
        return lambda context: context.headers.get(name)
    attribute = {"$": "value", "@": "element", "$key": "key", "$event": "event"}[root]
    if len(steps) == 1 and isinstance(steps[0], str):
        only = steps[0]

        def get_one(context: Context) -> Any:
            start = getattr(context, attribute)
            return start.get(only) if isinstance(start, dict) else None

        return get_one
    if path.collects:
        return lambda context: _collected(getattr(context, attribute), steps)
    return lambda context: _walked(getattr(context, attribute), steps)


def _walked(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(step, str):
            value = value.get(step) if isinstance(value, dict) else None
        elif isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
        if value is None:
            return None
    return value


def _collected(value: Any, steps: Sequence[str | int]) -> Any:
    """Elements at a path with `[]` in it, in one list; None where its first list is missing."""
    first = steps.index(EVERY)
    items = _walked(value, steps[:first])
    if not isinstance(items, list):
        return None
    rest = steps[first + 1 :]
    if EVERY in rest:
        nested = [_collected(item, rest) for item in items]
        return [one for found in nested if found is not None for one in found]
    return [found for item in items if (found := _walked(item, rest)) is not None]


def nearest(value: Any, path: Path) -> str:
    """Say how far a path leads that leads nowhere, and what is there instead."""
    gone = ""
    for step in path.steps:
        if step == EVERY or isinstance(step, int):
            if not isinstance(value, list):
                return f"{gone or 'the value'} is no list"
            inside = f"[{'' if step == EVERY else step}]"
            at = 0 if step == EVERY else step
            if not -len(value) <= at < len(value):
                return f"{gone or 'the value'} has {len(value)} elements"
            value, gone = value[at], gone + inside
            continue
        if not isinstance(value, dict):
            return f"{gone or 'the value'} is {_word(value)}"
        if step not in value:
            names = ", ".join(list(map(str, value))[:12]) or "nothing"
            return f"{gone or 'the value'} has {names}"
        value, gone = value[step], f"{gone}.{step}" if gone else str(step)
    return f"{gone} is null" if value is None else f"{gone} is {_word(value)}"


def _word(value: Any) -> str:
    words = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")


def as_text(value: Any) -> str | None:
    """Return the text that a value is written as; None of what has none.

    A float that is whole keeps its `.0`: `42.0` and `42` are two ids.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return None
