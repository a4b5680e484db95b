"""The plan of a training and its outcome, as files that survive a kill."""

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from streams.releases.changes import Gate

T = TypeVar("T")

PLAN, VERDICT, PARENT, MADE = "plan.json", "verdict.json", "parent", "release"


class TrainingPlan(msgspec.Struct, frozen=True):
    """A training: on what, and from where.

    Attributes
    ----------
    starts, ends : by topic, offsets of its partitions: what is new since the last training, up to where
    parent : version that serves, None for none: what the new release is compared with, and goes on from
    made_ms : Unix time
    candidate : folder of a release that is judged in the place of a training
    why : what it was begun for, beside what is new
    """

    starts: dict[str, list[int]]
    ends: dict[str, list[int]]
    parent: str | None
    made_ms: int
    candidate: str | None = None
    why: str = ""

    @property
    def events(self) -> int:
        """Records that are new."""
        return waiting(self.starts, self.ends)


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of a plan: a release, and whether it may serve.

    Attributes
    ----------
    folder : of the release
    version : "" where its files cannot be read
    gates : checks, in order; the last is the one that did not let it through, if any
    """

    plan: TrainingPlan
    folder: str
    version: str
    gates: tuple[Gate, ...]
    seconds: dict[str, float] = {}

    @property
    def passed(self) -> bool:
        """True if it may serve."""
        return all(gate.passed for gate in self.gates)

    @property
    def reason(self) -> str:
        """Reason of the decision."""
        why = f"{self.plan.why}; " if self.plan.why else ""
        if not self.passed:
            return f"{why}{self.gates[-1].name}: {self.gates[-1].reason}"
        said = "; ".join(gate.reason for gate in self.gates if gate.reason)
        return f"{why}{self.plan.events:,} events; {said}"


def waiting(starts: dict[str, list[int]], ends: dict[str, list[int]]) -> int:
    """Count the records between offsets, of the topics that `starts` has."""
    return sum(max(0, e - s) for name, of in starts.items() for s, e in zip(of, ends[name], strict=True))


def write(path: Path, value: TrainingPlan | Verdict) -> None:
    """Write a file that is whole or not there."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(msgspec.json.encode(value))
    os.replace(partial, path)


def read_plan(folder: Path) -> TrainingPlan | None:
    """Return what a folder's training is to do; None without one that can be read."""
    return _read(folder / PLAN, TrainingPlan)


def read_verdict(folder: Path) -> Verdict | None:
    """Return what came of a folder's training; None as long as there is nothing."""
    return _read(folder / VERDICT, Verdict)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
