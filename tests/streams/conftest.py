"""A worker's parts on a log in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from model_core.release.baseline import BaselineScorer
from streams.items.table import AnyScorer
from streams.settings import Settings
from streams.testing.clock import HandClock
from streams.testing.events import MemoryEvents
from streams.testing.log import MemoryLog
from streams.testing.worker import MemoryWorker

QUIET = {"text_encoder": "none", "partitions": 2, "policy": "greedy", "history_limit": 64}


@dataclass(frozen=True)
class Memory:
    """A log, its clock, what is said on it, and workers one after another."""

    settings: Settings
    clock: HandClock
    log: MemoryLog
    events: MemoryEvents

    @classmethod
    def of(cls, *, batch_bytes: int = 512 * 1024, **overrides: Any) -> "Memory":
        settings = Settings(**{**QUIET, **overrides})
        clock = HandClock()
        log = MemoryLog.of(settings, clock, batch_bytes=batch_bytes)
        return cls(settings, clock, log, MemoryEvents(settings, log, clock))

    def worker(self, scorer: AnyScorer | None = None) -> MemoryWorker:
        """A new worker: what the one before held in memory is gone."""
        return MemoryWorker(self.settings, self.log, self.clock, scorer or BaselineScorer())


MakeMemory = Callable[..., Memory]


@pytest.fixture
def make_memory() -> MakeMemory:
    """Makes logs in memory, by settings."""
    return Memory.of


@pytest.fixture
def memory() -> Memory:
    """A log in memory of two partitions."""
    return Memory.of()
