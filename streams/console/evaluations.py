"""Experiments and off-policy estimates, read from the topics in a thread when a page is opened."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from streams.experiments.log import read_experiments, read_log
from streams.experiments.report import Report as Experiment
from streams.experiments.report import make_report
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name, topic_partitions
from streams.ope.estimates import DEFAULT_ESTIMATORS, Sampling
from streams.ope.log import SlateLog
from streams.ope.report import Report as Evaluation
from streams.ope.report import count, evaluate_columns
from streams.settings import Settings

FRESH_S = 20.0
SLATES = 20_000  # the latest that are judged
SINCE_MS = 6 * 3_600_000  # and how far back they are looked for
WITHIN_S = 20.0  # and for how long
PATIENCE_S = 4.0
"""How long a browser waits for a result before it reloads, in seconds."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A result and the Unix time at which it was computed."""

    result: T
    at: float


class Kept(Generic[T]):
    """A cached result that takes seconds to compute; it is computed in a thread, once at a time.

    Parameters
    ----------
    work : computes the result; runs in a thread with its own event loop
    fresh_s : how long a result is kept, in seconds
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]], *, fresh_s: float = FRESH_S) -> None:
        self._work = work
        self._fresh_s = fresh_s
        self._turn = asyncio.Lock()
        self._found: Found[T] | None = None
        self._finding: asyncio.Task[Found[T]] | None = None

    async def get(self) -> Found[T]:
        """Return the result if it is younger than `fresh_s`, else compute it."""
        async with self._turn:
            if self._found is None or self.is_old(self._found):
                result = await aside(self._work)
                self._found = Found(result, time.time())
            return self._found

    async def soon(self, *, patience_s: float = PATIENCE_S) -> Found[T] | None:
        """Like `get`; after `patience_s`, return the previous result and keep computing."""
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self.get())
        done, _ = await asyncio.wait({self._finding}, timeout=patience_s)
        return self._finding.result() if done else self._found

    def is_old(self, found: Found[T]) -> bool:
        """Return whether a result is older than `fresh_s`."""
        return time.time() - found.at > self._fresh_s

    def forget(self) -> None:
        """Drop the result, because it has changed."""
        self._found = None


async def aside(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a thread with its own event loop, so that the worker's is not blocked."""
    return await asyncio.to_thread(lambda: asyncio.run(work()))


async def judge_experiments(settings: Settings) -> list[Experiment]:
    """Return a report on every experiment: running ones first, then by start time."""
    found = sorted(
        (await read_experiments(settings)).values(), key=lambda one: (not one.running, -one.started_ms)
    )
    now_ms = int(time.time() * 1000)
    return [make_report(one, await read_log(settings, one), now_ms) for one in found]


@dataclass(frozen=True, slots=True)
class Judged:
    """An off-policy evaluation, and whether all requested slates could be read in time."""

    report: Evaluation
    whole: bool


async def judge_policies(settings: Settings, *, slates: int = SLATES, within_s: float = WITHIN_S) -> Judged:
    """Evaluate the live policy and each candidate on about the latest `slates` slates."""
    log = SlateLog(frozenset(settings.positive_actions), capacity=slates)
    partitions = topic_partitions(settings, "feedback")
    each = -(-slates // partitions)
    whole = True
    try:
        async with asyncio.timeout(within_s):
            for partition in range(partitions):
                await _read(settings, partition, each, log)
    except TimeoutError:
        whole = False
    columns = log.columns()
    report = evaluate_columns(columns, count(log, columns), "responses", DEFAULT_ESTIMATORS, Sampling(), None)
    return Judged(report, whole)


async def _read(settings: Settings, partition: int, last: int, log: SlateLog) -> None:
    """Read the latest closed slates of a partition."""
    topic, since_ms = topic_name(settings, "feedback"), int(time.time() * 1000) - SINCE_MS
    found = read_partition(settings, topic, partition, since_ms=since_ms, last=last)
    async with aclosing(found) as batches:
        async for records in batches:
            for record in records:
                log.add(record.value)
