"""What a worker has learned from slates and clicks survives its death, and no slate is told of twice."""

import asyncio
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from model_core.signals.weighing import Weigher
from streams.testing.source import Aborted
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import Memory

USERS = ("u0", "u1")
said = st.one_of(
    st.tuples(st.just("request"), st.sampled_from(USERS)),
    st.tuples(st.just("click"), st.sampled_from(USERS), st.integers(0, 2)),
)
deeds = st.one_of(
    st.tuples(st.just("flush")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("move"), st.sampled_from((1_000, 20_000, 70_000))),
    st.tuples(st.just("die"), st.integers(0, 4)),
)


class Story:
    """Plays a script; with `mortal` false, those who should die flush instead."""

    def __init__(self, *, mortal: bool) -> None:
        self.memory = Memory.of(partitions=1, policy="thompson", attribution_window_ms=60_000)
        self.mortal = mortal
        for n in range(8):
            self.memory.events.content(f"i{n}")

    async def play(self, script: list[tuple[Any, ...]]) -> tuple[Any, ...]:
        """Return what is known in the end: impressions, rewards, slates and their last feedback."""
        memory = self.memory
        worker = await self._do(await self._born(), _deliver)
        for step in script:
            match step:
                case ("request", user):
                    memory.events.request(user, k=3)
                case ("click", user, position):
                    self._click(user, position)
                case ("move", ms):
                    memory.clock.move(ms)
                case ("commit",):
                    worker.commit()
                case ("die", batches) if self.mortal:
                    memory.log.die_after(batches)
            worker = await self._do(worker, _deliver)
            if step[0] in ("flush", "die"):
                worker = await self._do(worker, MemoryWorker.flush)
                memory.log.revive()
        memory.clock.move(200_000)
        for user in USERS:
            memory.events.click(user, "i0", "view")
        worker = await self._do(worker, _deliver)
        await worker.flush()
        (shard,) = worker.parts.partitions.live()
        await worker.__aexit__()
        slates = {
            one.request_id: [item.item_id for item in one.slate] for one in memory.events.recommendations()
        }
        assert len(slates) == len(memory.events.recommendations())
        first = [one.request_id for one in memory.events.feedback() if not one.correction]
        assert len(first) == len(set(first))
        rewards = {one.request_id: one.rewards for one in memory.events.feedback()}
        return shard.statistics.serving.impressions, shard.statistics.serving.rewards, slates, rewards

    def _click(self, user: str, position: int) -> None:
        shown = [slate for slate in self.memory.events.recommendations() if slate.user_id == user]
        if shown and position < len(shown[-1].slate):
            newest = shown[-1]
            self.memory.events.click(user, newest.slate[position].item_id, request_id=newest.request_id)

    async def _do(self, worker: MemoryWorker, deed: Any) -> MemoryWorker:
        try:
            await deed(worker)
            return worker
        except Aborted:
            self.memory.log.revive()
            await worker.__aexit__()
            return await self._do(await self._born(), _deliver)

    async def _born(self) -> MemoryWorker:
        worker = self.memory.worker()
        await worker.__aenter__()
        return worker


async def _deliver(worker: MemoryWorker) -> None:
    await worker.deliver("content", "clicks", "requests", most=3)


@settings(max_examples=25, phases=(Phase.explicit, Phase.generate))
@given(st.lists(st.one_of(said, said, deeds), min_size=8, max_size=20))
def test_after_a_death_between_any_two_batches_as_much_is_learned_and_told_as_without(
    script: list[tuple[Any, ...]],
) -> None:
    async def both() -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return await Story(mortal=True).play(script), await Story(mortal=False).play(script)

    died, lived = asyncio.run(both())
    assert died == lived


RULES = {"diversity": 0.5, "group_relation": "genre", "group_cap": 2, "fresh_share": 0.2}
LEARNING = {
    "linucb-disjoint": {"click_model": "cascade"},
    "thompson-logistic": {},
    "diverse-softmax": {"position_bias": "learned"},
}


@pytest.mark.parametrize("policy", LEARNING)
async def test_a_policy_that_died_has_learned_from_each_slate_and_click_once(policy: str) -> None:
    memory = Memory.of(policy=policy, reward_half_life_ms=86_400_000, **RULES, **LEARNING[policy])
    for n in range(8):
        memory.events.content(f"i{n}", attributes={"genre": ["Odd" if n % 2 else "Even"]})
    worker = memory.worker()
    await worker.__aenter__()
    clicked = 0
    for n in range(12):
        memory.events.request(f"u{n}", request_id=f"r{n}", k=3)
        await worker.deliver()
        if n % 2:
            (slate,) = [one for one in memory.events.recommendations() if one.request_id == f"r{n}"]
            memory.events.click(f"u{n}", slate.slate[1].item_id, request_id=slate.request_id)
            clicked += 1
        # The first time all but the last click is saved before, the second time nothing.
        if n in (3, 7):
            if n == 3:
                await worker.flush()
                worker.commit()
            await worker.__aexit__()
            worker = memory.worker()
            await worker.__aenter__()
    await worker.deliver()
    await worker.flush()
    known = [shard.statistics.serving for shard in worker.parts.partitions.live()]
    await worker.__aexit__()
    shown = sum(len(one.slate) for one in memory.events.recommendations())
    assert (shown, clicked) == (36, 6)
    assert (sum(one.impressions for one in known), sum(one.rewards for one in known)) == (shown, clicked)


async def test_what_was_learned_of_the_signals_survives_a_restart():
    memory = Memory.of()
    for n in range(8):
        memory.events.content(f"i{n}")
    async with memory.worker() as first:
        for n in range(60):
            memory.clock.move(20_000)
            memory.events.click(f"u{n % 20}", f"i{n % 3}", "like")
            await first.deliver("content", "clicks")
        before = _weigher(first)
        assert before.weights.events > 40
        await first.flush()
        memory.events.click("u0", "i7", "like", timestamp_ms=memory.clock.now_ms + 60_000)
        await first.deliver("clicks")  # and dies before it is flushed
    async with memory.worker() as second:
        after = _weigher(second)
        assert after.weights.events == 60
        saved = [after.learned(partition) for partition in range(2)]
        assert sum(saved) == 60 - 2  # offsets of the last of 60 in two partitions
        await second.deliver("clicks")
        assert after.weights.events == before.weights.events == 61
        assert after.weights.values == pytest.approx(before.weights.values)
        assert after.weights.level == pytest.approx(before.weights.level)


def _weigher(worker: MemoryWorker) -> Weigher:
    (weigher,) = {shard.weigher for shard in worker.parts.partitions.live()}
    assert weigher is not None
    return weigher
