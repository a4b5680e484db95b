"""Topics of items that are deleted and made anew; on a log in memory."""

import asyncio

from tests.streams.conftest import Memory


async def test_items_made_anew_are_read_from_their_beginning(memory: Memory) -> None:
    for n in range(30):
        memory.events.content(f"i{n}", f"Film {n}")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.parts.watch.look()
        memory.log.recreate("item-state")
        memory.log.recreate("content")
        for n in range(30, 80):
            memory.events.content(f"i{n}", f"Film {n}")
        await worker.parts.watch.look()
        await worker.assign(range(2))
        await worker.deliver()
        known = worker.parts.shared.catalogue.windows.known
        assert int(known.sum()) == 80


async def test_while_items_are_read_anew_a_worker_is_not_ready(memory: Memory) -> None:
    memory.events.content("i")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.parts.watch.look()
        partitions = worker.parts.partitions
        memory.log.recreate("item-state")
        await worker.parts.watch.look()
        await asyncio.sleep(0)
        assert not partitions.readiness()["catalogue_caught_up"]
        assert partitions.incomplete()  # so nothing is reclaimed meanwhile
        await worker.assign(range(2))
        await worker.deliver()
        assert partitions.readiness()["catalogue_caught_up"]


async def test_content_made_anew_counts_for_all_items_once_item_state_is_made_anew_too(
    memory: Memory,
) -> None:
    for n in range(3):
        memory.events.content("late", f"first {n}")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()
        worker.commit()
    titles = []
    for lost in ("content", "item-state"):
        memory.log.recreate(lost)
        if lost == "content":
            memory.events.content("late", "second")  # at a lower offset than before
        else:
            memory.log.committed.clear()  # its offsets were committed for the rows that are gone
        async with memory.worker() as worker:
            await worker.deliver()
            shared = worker.parts.shared
            titles.append(shared.catalogue.title(shared.index.row_of("late")))
            await worker.flush()
            worker.commit()
    assert titles == ["first 2", "second"]
