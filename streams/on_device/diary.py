"""What a device keeps in a folder: the history, vectors of its items, and what it has told others."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from streams.on_device.files import DeviceError
from streams.on_device.tower import Floats, History

EVENTS, TOLD, VECTORS = "events.jsonl", "told.json", "vectors.npz"


@dataclass(frozen=True, slots=True)
class Told:
    """What a device has told: the items named last, when which release served, and epsilon in all."""

    named: list[str] = field(default_factory=list)
    version: str = ""
    spent: float = 0.0


class Diary:
    """The files of a device. One process at a time.

    Attributes
    ----------
    told : what has been told so far; on the disk before anybody is told it
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._events = _read_events(folder / EVENTS)
        self.told = _read_told(folder / TOLD)
        self._version, self._vectors = _read_vectors(folder / VECTORS)

    def add(self, item_id: str, action: str, timestamp_ms: int) -> None:
        """Note an event; it is on the disk when this returns."""
        if not item_id or not action or timestamp_ms <= 0:
            raise ValueError(f"an event must have an item, an action and a time, got {item_id!r}, {action!r}")
        event = [item_id, action, int(timestamp_ms)]
        with (self._folder / EVENTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._events.append(event)

    def history(self, depth: int) -> History:
        """Return the last events, in the order of their times."""
        last = sorted(self._events, key=lambda event: event[2])[-depth:]
        times = np.array([event[2] for event in last], np.int64)
        return History([event[0] for event in last], [event[1] for event in last], times)

    @property
    def met(self) -> set[str]:
        """Items of all events."""
        return {event[0] for event in self._events}

    def tell(self, told: Told) -> None:
        """Note what is about to be told."""
        _replace(self._folder / TOLD, json.dumps(asdict(told)).encode())
        self.told = told

    def vectors(self, version: str) -> Mapping[str, Floats]:
        """Return the vectors that are kept, if they are of this release; else none."""
        return self._vectors if version == self._version else {}

    def keep(self, version: str, vectors: Mapping[str, Floats], also: Iterable[str]) -> None:
        """Keep vectors of a release: those of the items met, and of some others that may be met next."""
        known, wanted = {**self.vectors(version), **vectors}, self.met | set(also)
        self._version, self._vectors = version, {item: known[item] for item in known if item in wanted}
        partial = self._folder / f"{VECTORS}.partial"
        with partial.open("wb") as file:
            ids = np.array(list(self._vectors), np.str_)
            np.savez(
                file, version=version, ids=ids, vectors=np.array(list(self._vectors.values()), np.float32)
            )
        partial.replace(self._folder / VECTORS)


def _replace(path: Path, contents: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read_events(path: Path) -> list[list[Any]]:
    if not path.exists():
        return []
    whole, end, torn = path.read_bytes().rpartition(b"\n")
    if torn:  # the last event was not written to its end
        os.truncate(path, len(whole) + len(end))
    try:
        events = [json.loads(line) for line in whole.splitlines()]
        return [[str(item), str(action), int(time_ms)] for item, action, time_ms in events]
    except (ValueError, TypeError) as error:
        raise DeviceError(f"{str(path)!r} must be the events of a device: {error}") from None


def _read_told(path: Path) -> Told:
    if not path.exists():
        return Told()
    try:
        return Told(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DeviceError(f"{str(path)!r} must say what a device has told: {error}") from None


def _read_vectors(path: Path) -> tuple[str, dict[str, Floats]]:
    if not path.exists():
        return "", {}
    try:
        with np.load(path, allow_pickle=False) as kept:
            return str(kept["version"]), dict(zip(kept["ids"].tolist(), kept["vectors"], strict=True))
    except (OSError, KeyError, ValueError, BadZipFile):
        return "", {}  # they come again with the next lists
