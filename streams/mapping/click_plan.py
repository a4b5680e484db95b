"""Turns a mapping of clicks into tables for `click_kernels`, where it is of the kind that they read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from streams.decoding.byte_steps import Data, Table, texts
from streams.decoding.click_kernels import NAMES
from streams.events import Click
from streams.mapping import click_kernels as k
from streams.mapping import json_kernels, time_kernels
from streams.settings.source_paths import Path, parse, parse_template
from streams.settings.sources import FieldSource, Source

_MAX_CHILDREN = 63
_IDS = ("user_id", "item_id", "event_id")
_OPTIONAL = {
    "request_id": k.REQUEST_ROW,
    "position": k.POSITION_ROW,
    "dwell_ms": k.DWELL_ROW,
    "value": k.AMOUNT_ROW,
    "context": k.CONTEXT_ROW,
}
_UNITS = {
    None: time_kernels.MS,
    "ms": time_kernels.MS,
    "s": time_kernels.SECONDS,
    "us": time_kernels.MICROS,
    "ns": time_kernels.NANOS,
    "iso": time_kernels.ISO,
}
_NUMBERS = {None: -1, "number": k.AS_NUMBER, "integer": k.AS_INTEGER}
_TURNED: Mapping[str, Mapping[str | None, int]] = {
    "request_id": {None: -1, "text": k.AS_TEXT},
    "position": _NUMBERS,
    "dwell_ms": _NUMBERS,
    "value": _NUMBERS,
    "context": {None: -1},
}
"""What optional fields may be turned to, by the mapping's word."""
_FORMATS = ("json", "avro")
_FIELDS = tuple(name.decode() for name in NAMES)
_INSIDE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "none": {"$": ()},
    "cloudevents": {"$": ("data",), "$event": ()},  # in structured mode; others are translated
    "debezium": {"$": ("after",), "$event": ()},
}
"""Where paths begin in a value, by its envelope and by their root."""


class KernelArguments(NamedTuple):
    """Arguments of `read_mapped` for a mapping, in its order; texts of offsets need the partition."""

    nodes: Table
    children: Table
    names: Data
    plan: Table
    tests: Table
    choices: Data
    choice_bounds: Table
    choice_kinds: Table
    actions: Data
    action_bounds: Table
    action_codes: Table


@dataclass(frozen=True, slots=True)
class ClickPlan:
    """The tables of a mapping, and what they leave to a batch.

    Attributes
    ----------
    templates : the parts of the ids that are made of the record's place, by their number in the plan
    by_headers : whether headers may say that a record is to be read in another way
    in_schemas : whether a value may be the payload beside its schema
    paths : into a value, by their slots
    """

    tables: KernelArguments
    templates: Sequence[tuple[str | Path, ...]]
    n_slots: int
    by_headers: bool = False
    in_schemas: bool = False
    paths: Sequence[tuple[str, ...]] = ()


class _Unfit(Exception):
    """A mapping is of another kind."""


class _Tree:
    """The paths into a value, and the slot of each.

    Parameters
    ----------
    inside : where the paths begin that an envelope's data has, by their root
    """

    def __init__(self, inside: Mapping[str, tuple[str, ...]]) -> None:
        self.slots: dict[tuple[str, ...], int] = {}
        self._inside = inside

    def slot(self, text: str) -> int:
        path = parse(text)
        begin = self._inside.get(path.root)
        if begin is None or not path.steps or not all(isinstance(step, str) for step in path.steps):
            raise _Unfit
        return self.slots.setdefault((*begin, *map(str, path.steps)), len(self.slots))

    def tables(self) -> tuple[Table, Table, Data]:
        inner = {()} | {steps[:depth] for steps in self.slots for depth in range(1, len(steps))}
        numbers = {
            steps: number for number, steps in enumerate(sorted(inner, key=lambda one: (len(one), one)))
        }
        names: list[bytes] = []
        nodes, children = [0], []
        for steps in numbers:
            below = {path[: len(steps) + 1] for path in (*inner, *self.slots)
                     if len(path) > len(steps) and path[: len(steps)] == steps}  # fmt: skip
            for path in sorted(below):
                begin = sum(map(len, names))
                names.append(path[-1].encode())
                children.append((begin, len(names[-1]), numbers.get(path, -1), self.slots.get(path, -1)))
            nodes.append(len(children))
        if len(children) > _MAX_CHILDREN:
            raise _Unfit
        table = np.array(children, np.int64).reshape(-1, 4)
        return np.array(nodes, np.int64), table, texts(tuple(names))[0]


def click_plan(source: Source, action_codes: Mapping[str, int]) -> ClickPlan | None:
    """Return the tables of a mapping; None where every record must be translated."""
    try:
        return _planned(source, action_codes)
    except _Unfit:
        return None


def _planned(source: Source, action_codes: Mapping[str, int]) -> ClickPlan:
    if source.format not in _FORMATS or source.envelope not in _INSIDE or source.each is not None:
        raise _Unfit
    if source.format != "json" and "context" in source.all_fields:
        raise _Unfit  # it may be made of what JSON has not
    tree, templates = _Tree(_INSIDE[source.envelope]), list[tuple[str | Path, ...]]()
    plan = np.full((len(_FIELDS), 3), -1, np.int64)
    specs: dict[str, FieldSource] = {}
    for name, spec in source.all_fields.items():
        if isinstance(spec, FieldSource):
            specs[name] = spec
        elif any(one.values or one.unit or one.as_ or one.split for one in spec.values()):
            raise _Unfit  # what is made of a part may be wrong
    for row, name in enumerate(_IDS):
        plan[row] = _id(source, specs[name], tree, templates)
    actions, codes, plan[k.ACTION_ROW, :2] = _action(specs["action"], tree, action_codes)
    plan[k.TIME_ROW, :2] = _time(specs["timestamp_ms"], tree)
    for name, row in _OPTIONAL.items():
        if name in specs:
            plan[row, :2] = _optional(name, specs[name], tree)
    tests, choices, kinds = _conditions(source, tree)
    nodes, children, names = tree.tables()
    tables = KernelArguments(
        nodes, children, names, plan, tests, *texts(tuple(choices)), np.array(kinds, np.int64),
        *texts(tuple(actions)), np.array(codes, np.int64),
    )  # fmt: skip
    return ClickPlan(
        tables, templates, len(tree.slots), by_headers=source.envelope == "cloudevents",
        in_schemas=source.envelope == "debezium" and source.format == "json", paths=tuple(tree.slots),
    )  # fmt: skip


def _bare(spec: FieldSource) -> None:
    if spec.default is not None or spec.split is not None or spec.as_ not in (None, "text"):
        raise _Unfit


def _id(
    source: Source, spec: FieldSource, tree: _Tree, templates: list[tuple[str | Path, ...]]
) -> tuple[int, int, int]:
    _bare(spec)
    if spec.values is not None or spec.unit is not None or spec.constant is not None:
        raise _Unfit
    if spec.template is not None:
        parts = parse_template(spec.template)
        roots = [part.root for part in parts if isinstance(part, Path)]
        if roots.count("$offset") != 1 or set(roots) - {"$topic", "$partition", "$offset"}:
            raise _Unfit
        templates.append(parts)
        return k.FROM_OFFSET, -1, 2 * (len(templates) - 1)
    assert spec.path is not None
    if spec.path == "$key" and source.key_format == "text" and not _reads_inside_keys(source):
        return k.FROM_KEY, -1, -1
    return (k.FROM_SCALAR if spec.as_ == "text" else k.FROM_TEXT), tree.slot(spec.path), -1


def _reads_inside_keys(source: Source) -> bool:
    return any(path.root == "$key" and path.steps for path in (parse(source.key), *source.paths()))


def _action(
    spec: FieldSource, tree: _Tree, codes: Mapping[str, int]
) -> tuple[list[bytes], list[int], tuple[int, int]]:
    if spec.constant is not None:
        return [], [codes.get(spec.constant, -1)], (0, -1)
    _bare(spec)
    if spec.path is None or spec.unit is not None or (spec.values is not None and spec.unlisted == "keep"):
        raise _Unfit
    listed = {name: name for name in codes} if spec.values is None else spec.values
    other = -2 if spec.unlisted == "leave_out" else -1
    numbers = [codes.get(action, -1) if isinstance(action, str) else -1 for action in listed.values()]
    scalar = int(spec.values is not None or spec.as_ == "text")
    return [name.encode() for name in listed], [*numbers, other], (scalar, tree.slot(spec.path))


def _time(spec: FieldSource, tree: _Tree) -> tuple[int, int]:
    if spec.default is not None or spec.values is not None or spec.as_ is not None or spec.split is not None:
        raise _Unfit
    if spec.path == "$timestamp" and spec.unit in (None, "ms"):
        return time_kernels.RECORD_TIME, -1
    if spec.path is None:
        raise _Unfit
    return _UNITS[spec.unit], tree.slot(spec.path)


def _optional(name: str, spec: FieldSource, tree: _Tree) -> tuple[int, int]:
    if spec.values is not None or spec.unit is not None or spec.split is not None:
        raise _Unfit
    if spec.as_ not in _TURNED[name]:
        raise _Unfit
    if spec.constant is not None and spec.as_ is None:
        good = {"event_id": "e", "user_id": "u", "item_id": "i", "action": "a", "timestamp_ms": 10**12}
        try:
            msgspec.convert({**good, name: spec.constant}, Click)
        except msgspec.ValidationError:
            raise _Unfit from None
        return -1, -1
    if spec.path is None or spec.default is not None:
        raise _Unfit
    return _TURNED[name][spec.as_], tree.slot(spec.path)


def _conditions(source: Source, tree: _Tree) -> tuple[Table, list[bytes], list[int]]:
    tests: list[tuple[int, int, int, int]] = []
    choices: list[bytes] = []
    kinds: list[int] = []
    if source.envelope == "cloudevents":
        tests.append((tree.slot("$event.specversion"), k.SURE_WITH, 0, 0))
        tests.append((tree.slot("$event.data_base64"), k.SURE_WITHOUT, 0, 0))
    if source.envelope == "debezium":  # what deletes or is about the stream makes no click
        choices += [b"c", b"u", b"r"]
        kinds += [json_kernels.TEXT] * len(choices)
        tests.append((tree.slot("$event.op"), k.SURE_WITH, 0, 0))
        tests.append((tree.slot("$event.op"), k.IS, 0, len(choices)))
        tests.append((tree.slot("$event.after"), k.SURE_WITH, 0, 0))
    for condition in source.where:
        slot = tree.slot(condition.path)
        for test, limit in ((k.AT_LEAST, condition.at_least), (k.AT_MOST, condition.at_most)):
            if limit is not None:
                tests.append((slot, test, int(np.float64(limit).view(np.int64)), 0))
        if condition.exists is not None:
            tests.append((slot, k.EXISTS if condition.exists else k.EXISTS_NOT, 0, 0))
        for test, values in ((k.IS, condition.is_), (k.IS_NOT, condition.is_not)):
            if values is None:
                continue
            first = len(choices)
            for value in values:
                kind, text = _choice(value)
                kinds.append(kind)
                choices.append(text)
            tests.append((slot, test, first, len(choices)))
    return np.array(tests, np.int64).reshape(-1, 4), choices, kinds


def _choice(value: object) -> tuple[int, bytes]:
    if isinstance(value, bool):
        return json_kernels.BOOLEAN, b"true" if value else b"false"
    if isinstance(value, int) and value >= 0:
        return json_kernels.INTEGER, str(value).encode()
    if isinstance(value, str):
        return json_kernels.TEXT, value.encode()
    raise _Unfit
