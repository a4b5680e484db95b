"""Policies learn from so many slates of a user's hour, impressions and rewards together."""

from tests.streams.conftest import MakeMemory

HOUR = 3_600_000


async def test_slates_beyond_the_bound_are_served_and_teach_nothing_also_after_a_crash(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(partitions=1, policy="thompson-disjoint", learned_slates_per_hour=2)
    for n in range(6):
        memory.events.content(f"i{n}")
    async with memory.worker() as worker:
        await worker.deliver()
        for n in range(4):
            memory.events.request("greedy", request_id=f"r{n}", k=2)
        memory.events.request("other", request_id="other", k=2)
        await worker.deliver()
        slates = {one.request_id: one for one in memory.events.recommendations()}
        assert [len(slates[f"r{n}"].slate) for n in range(4)] == [2] * 4
        assert [bool(slates[name].features) for name in ("r0", "r1", "r2", "r3", "other")] == [
            True, True, False, False, True,
        ]  # fmt: skip
        for one in slates.values():
            memory.events.click(one.user_id, one.slate[0].item_id, "like", request_id=one.request_id)
        await worker.deliver()
        shard = await worker.parts.partitions.shard(0)
        shard.learning.count_published()
        assert (shard.statistics.serving.impressions, shard.statistics.serving.rewards) == (6, 3)
        assert "slatestream_slates_unlearned_total 2.0" in worker.parts.metrics.render()[0].decode()
    async with memory.worker() as again:
        await again.deliver()
        shard = await again.parts.partitions.shard(0)
        shard.learning.count_published()
        assert (shard.statistics.serving.impressions, shard.statistics.serving.rewards) == (6, 3)
        memory.clock.move(HOUR)
        memory.events.request("greedy", request_id="later", k=2)
        await again.deliver()
        assert memory.events.recommendations()[-1].features
