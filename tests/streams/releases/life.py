"""A store, a log in memory, and workers that follow what is promoted there."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from model_core.release.baseline import BaselineScorer
from streams.items.table import AnyScorer, load_scorer
from streams.releases.changes import ReleaseChange, decode_change, encode_change
from streams.releases.live import Live
from streams.releases.store import ReleaseStore
from streams.serving.lane import Lane
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import Memory
from tests.streams.releases.made import variant

DEADLINE_S = 60.0
ACTIONS = {"view": 0.2, "like": 2.0}


class Life:
    """A store, a log in memory, and workers that follow what is promoted there."""

    def __init__(self, tmp_path: Path, tiny: Path, **settings: Any) -> None:
        self.store = tmp_path / "store"
        self.tiny = tiny
        self.made = tmp_path / "made"
        self.memory = Memory.of(
            release_store=str(self.store), actions=ACTIONS, history_limit=1024, **settings
        )
        for n in range(20):
            self.memory.events.content(f"i{n}")
        self.at_ms = 0

    def put(self, **made: Any) -> str:
        """Put a release into the store; return its version."""
        number = len(list(self.made.iterdir())) if self.made.exists() else 0
        folder = variant(self.tiny, self.made / str(number), gain=1.0 + number / 10, **made)
        return ReleaseStore(str(self.store)).put(folder).version

    def say(self, change: str, version: str, **fields: Any) -> None:
        """Write a change as a command would."""
        self.at_ms = max(self.at_ms + 1, self.memory.clock.now_ms)
        said = ReleaseChange(change, version, "ann", self.at_ms, **fields)  # type: ignore[arg-type]
        self.memory.log.append("model-releases", 0, [encode_change(said)])

    def changes(self) -> list[ReleaseChange]:
        """All changes on the topic."""
        return [
            change
            for record in self.memory.log.records("model-releases")
            if (change := decode_change(record.value)) is not None
        ]

    @asynccontextmanager
    async def worker(self, version: str | None = None) -> AsyncIterator[MemoryWorker]:
        """A worker that begins with a release, or with none."""
        settings = self.memory.settings
        scorer: AnyScorer = BaselineScorer()
        if version is not None:
            settings = settings.model_copy(update={"release": self.store / version})
            scorer = load_scorer(settings)
        live = Live(settings, scorer, {}, 0)
        worker = MemoryWorker(settings, self.memory.log, self.memory.clock, scorer, live)
        async with worker:
            await worker.deliver()
            yield worker

    async def slate(self, worker: MemoryWorker, user: str = "u") -> Any:
        """The slate that a user is given now."""
        asked = self.memory.events.request(user, k=3)
        await worker.deliver()
        (found,) = [one for one in self.memory.events.recommendations() if one.request_id == asked]
        return found

    def take(self, slate: Any) -> None:
        """Let the user like the first item of a slate."""
        self.memory.events.click(slate.user_id, slate.slate[0].item_id, "like", request_id=slate.request_id)


async def until(worker: MemoryWorker, true: Callable[[], bool]) -> None:
    """Wait until something is so, for a minute at most."""
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            worker._check()
            await asyncio.sleep(0.001)


async def serves(worker: MemoryWorker, version: str) -> Lane:
    """Wait until a release serves; return its lane."""
    await until(worker, lambda: worker.parts.lanes.serving.version == version)
    return worker.parts.lanes.serving


def value(worker: MemoryWorker, name: str) -> float:
    return worker.parts.metrics.registry.get_sample_value(f"slatestream_{name}") or 0.0
