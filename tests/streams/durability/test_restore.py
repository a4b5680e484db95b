"""A worker that dies at any moment is followed by one that knows what it knew."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from model_core.signals.config import SignalConfig
from streams.durability.digest import fold
from streams.kafka.partitioner import partition_of
from streams.testing.source import Aborted
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import Memory

USERS, ITEMS = ("u0", "u1", "u6"), tuple(f"i{n}" for n in range(7))
ACTIONS = ("view", "click", "dislike")

# To make a failing script smaller takes minutes: it is shown as it was drawn.
PHASES = (Phase.explicit, Phase.generate)

# Bursts are drawn by seed: drawn click by click, no user would ever have more than one chunk of events.
bursts = st.tuples(st.just("clicks"), st.integers(0, 2**32), st.integers(1, 40))
stated = st.tuples(st.just("state"), st.sampled_from(USERS), st.sampled_from(ITEMS))
erased = st.tuples(st.just("erase"), st.sampled_from(USERS))
gaps = st.tuples(st.just("gap"), st.sampled_from(("clicks", "users")), st.integers(1, 3))
deeds = st.one_of(
    st.tuples(st.just("flush"), st.booleans()),
    st.tuples(st.just("commit"), st.sampled_from(("clicks", "users", None))),
    st.tuples(st.just("die"), st.integers(0, 12)),
    st.tuples(st.just("abort"), st.sampled_from(("clicks", "users"))),
    st.tuples(st.just("compact")),
)


class Story:
    """Plays a script: events are written, delivered before each deed, and workers die."""

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    async def play(self, script: Sequence[tuple[Any, ...]]) -> str:
        """Return the digest of the state in the end, all having been delivered."""
        worker = await self._born()
        for step in script:
            if not self._write(*step):
                worker = await self._do(worker, *step)
        worker = await self._survive(worker, self._deliver)
        digest = worker.digest()
        await worker.__aexit__()
        return digest

    def _write(self, kind: str, *what: Any) -> bool:
        said, log = self.memory.events, self.memory.log
        match kind, what:
            case "clicks", (seed, n):
                draw = random.Random(seed)
                for _ in range(n):
                    said.click(draw.choice(USERS), draw.choice(ITEMS), draw.choice(ACTIONS))
            case "state", (user, item):
                said.user(user, preferences=[item], blocked_items=[item])
            case "erase", (user,):
                said.erase(user)
            case "gap", (name, offsets):
                for partition in range(self.memory.settings.partitions):
                    log.skip(name, partition, offsets)
            case _:
                return False
        return True

    async def _do(self, worker: MemoryWorker, kind: str, *what: Any) -> MemoryWorker:
        log = self.memory.log
        place = partition_of(USERS[0], self.memory.settings.partitions)
        if kind == "abort":
            log.abort(what[0], place)
        elif kind == "pass":
            log.skip(what[0], place)
        elif kind == "die":
            log.die_after(what[0])
        elif kind == "compact":
            for name in ("user-state", "policy-state"):
                log.compact(name)
        worker = await self._survive(worker, self._deliver)
        if kind == "commit":
            worker.commit(*([what[0]] if what[0] else []))
        elif kind == "flush" and not what[0]:
            worker = await self._survive(worker, lambda held: held.parts.flusher.flush_due())
        elif kind in ("flush", "die"):
            worker = await self._survive(worker, MemoryWorker.flush)
        log.revive()
        return worker

    @staticmethod
    async def _deliver(worker: MemoryWorker) -> None:
        # Always in this order: an erasure forgets what was folded before it.
        await worker.deliver("clicks", most=7)
        await worker.deliver("users", most=3)

    async def _survive(self, worker: MemoryWorker, deed: Any) -> MemoryWorker:
        """Do it; should the worker die of it, let another one follow and come to the same place."""
        try:
            await deed(worker)
            return worker
        except Aborted:
            self.memory.log.revive()
            await worker.__aexit__()
            return await self._survive(await self._born(), self._deliver)

    async def _born(self) -> MemoryWorker:
        worker = self.memory.worker()
        await worker.__aenter__()
        return worker


def folded(memory: Memory) -> str:
    """Digest of the log folded offline: clicks, and the last that each user states."""
    config = memory.settings
    state = fold(
        memory.events.clicks(),
        actions=tuple(config.actions),
        positive=config.positive_actions,
        history_limit=config.history_limit,
        neighbours=config.covisit_neighbours,
        pairing=SignalConfig().pairing,
    )
    for record, update in memory.events.stated():
        state.profiles[record.partition].set_stated(
            update.user_id,
            attributes=update.attributes,
            preferences=update.preferences,
            blocked=state.index.rows_of(update.blocked_items),
            offset=record.offset,
            timestamp_ms=record.timestamp,
        )
    return state.digest()


@settings(max_examples=40, phases=PHASES)
@given(st.lists(st.one_of(bursts, bursts, stated, gaps, deeds), min_size=8, max_size=16))
def test_after_a_death_at_any_record_and_any_batch_the_state_is_the_fold_of_the_log(
    script: list[tuple[Any, ...]],
) -> None:
    memory = Memory.of(batch_bytes=400, history_limit=32)
    assert asyncio.run(Story(memory).play(script)) == folded(memory)


@settings(max_examples=40, phases=PHASES)
@given(st.lists(st.one_of(bursts, stated, erased, deeds), min_size=8, max_size=16))
def test_after_a_death_erased_users_are_as_if_nobody_had_died(script: list[tuple[Any, ...]]) -> None:
    mortal, immortal = Memory.of(batch_bytes=400, history_limit=32), Memory.of(history_limit=32)
    harmless = [
        ("pass", step[1]) if step[0] == "abort" else ("flush", True) if step[0] == "die" else step
        for step in script
    ]

    async def both() -> tuple[str, str]:
        return await Story(mortal).play(script), await Story(immortal).play(harmless)

    died, lived = asyncio.run(both())
    assert died == lived
