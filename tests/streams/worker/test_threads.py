"""Clicks are counted in other threads: what else happens meanwhile changes nothing of what comes out."""

import asyncio

import numpy as np

from streams.kafka.partitioner import partition_of
from streams.state.people import gather
from streams.state.shard import users_of
from streams.worker.agents.clicks import FEW_CLICKS
from tests.streams.conftest import MakeMemory, Memory

PARTITIONS = 4
CLICKS = 8_000


def clicked(memory: Memory) -> None:
    rng = np.random.default_rng(7)
    users, items = rng.integers(300, size=CLICKS).tolist(), (rng.random(CLICKS) ** 2 * 900).astype(int)
    for user, item in zip(users, items.tolist(), strict=True):
        memory.events.click(f"u{user}", f"i{item}")


async def digest_of(memory: Memory, most: int) -> str:
    async with memory.worker() as worker:
        await worker.deliver("clicks", most=most)
        return worker.digest()


async def test_folded_side_by_side_while_rows_are_flushed_and_users_read_it_is_the_same(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(partitions=PARTITIONS)
    clicked(memory)
    expected = await digest_of(memory, FEW_CLICKS)
    async with memory.worker() as worker:
        topic, agent = worker.parts.topics["clicks"], worker.agents["clicks"]
        shards = worker.parts.partitions.live()
        actions = np.ones(len(memory.settings.actions), np.bool_)
        asked = [(shard, f"u{n}") for shard in shards for n in range(9)]
        finished = asyncio.Event()

        async def read() -> None:
            while not finished.is_set():
                with users_of(shards):
                    people = gather(
                        [(shard.profiles, shard.profiles.row_of(user)) for shard, user in asked],
                        depth=64, counts_as_seen=actions, positive=actions,
                    )  # fmt: skip
                assert (np.diff(people.pasts.bounds) == np.minimum(people.events, 64)).all()
                await asyncio.sleep(0)

        async def flush() -> None:
            while not finished.is_set():
                await worker.flush()

        others = asyncio.gather(read(), flush())
        batches = []
        while (batch := worker.consumer.poll(topic, CLICKS)) is not None:
            batches.append(agent(batch))
        assert len(batches) == PARTITIONS
        await asyncio.gather(*batches)
        finished.set()
        await others
        assert worker.digest() == expected
        await worker.flush()
        worker.commit()
    async with memory.worker() as again:
        assert again.digest() == expected


async def test_an_item_of_clicks_that_are_being_counted_is_needed(memory: Memory) -> None:
    place = partition_of("u", 2)
    for n in range(FEW_CLICKS + 1):
        memory.events.click("u", f"i{n}")
    async with memory.worker() as worker:
        batch = worker.consumer.poll(worker.parts.topics["clicks"])
        assert batch is not None
        folding = asyncio.ensure_future(worker.agents["clicks"](batch))
        shard = next(shard for shard in worker.parts.partitions.live() if shard.partition == place)
        while not len(shard.counting) and not folding.done():
            await asyncio.sleep(0)
        needed = np.zeros(FEW_CLICKS + 1, np.bool_)
        shard.mark_items(needed)
        assert needed.all()
        await folding
        assert not len(shard.counting)
