"""What becomes of items: which version is served, since when they exist, and who writes them."""

import asyncio
from collections.abc import Iterable

import pytest
from aiokafka.errors import KafkaTimeoutError

from streams.errors import Fenced, OwnershipLost
from streams.events import Content, encode
from streams.kafka.lease import Lease
from streams.kafka.partitioner import partition_of
from streams.testing.worker import MemoryWorker
from streams.worker.agents import content
from tests.streams.conftest import MakeMemory, Memory
from tests.streams.worker.test_agents import PLACE, changed


async def test_a_version_that_cannot_be_used_leaves_the_one_before_it(memory: Memory) -> None:
    memory.events.content("a", title="good")
    memory.events.raw("content", "a", changed(Content(item_id="a", title="bad"), image={"embedding": []}))
    memory.events.content("a", title="x" * 3_000)
    memory.log.limits["item-state"] = 2_000
    async with memory.worker() as worker:
        await worker.deliver()
        catalogue, index = worker.parts.shared.catalogue, worker.parts.shared.index
        assert catalogue.title(index.row_of("a")) == "good"
        reasons = [letter.reason for letter in memory.events.dead_letters()]
        assert reasons == ["too_large", "media"]


async def test_items_of_a_former_owner_are_not_written(memory: Memory) -> None:
    memory.events.content("a", title="first")
    place = ("item-state", partition_of("a", 2))
    async with memory.worker() as worker:
        await worker.deliver("content")
        # Nobody knows who owns the partition, until it turns out that it is another worker's.
        lease, worker.consumer.lease = worker.consumer.lease, Lease(0.0)
        memory.events.content("a", title="late")
        late = asyncio.ensure_future(worker.deliver("content"))
        await asyncio.sleep(0.05)
        assert not late.done()
        worker.consumer.ledger.forget(list(worker.consumer.ledger))
        with pytest.raises(OwnershipLost):
            await late
        assert not worker.consumer.rejoining
        # Another one has taken over, and this worker has not heard of it.
        worker.consumer.lease = lease
        settings = worker.parts.settings
        name = f"{settings.topic_prefix}{settings.group_id}-state-{place[1]}"
        memory.log.fence(*place, memory.log.identify(name))
        memory.events.content("a", title="later")
        with pytest.raises(Fenced):
            await worker.deliver("content")
        assert worker.consumer.rejoining
        assert worker.parts.shared.catalogue.title(worker.parts.shared.index.row_of("a")) == "first"
        assert len([row async for rows in memory.log.read(*place) for row in rows]) == 1


async def test_an_item_deleted_and_described_again_is_as_last_said_whatever_the_batches(
    make_memory: MakeMemory,
) -> None:
    for most in (1, 2, 10):
        memory = make_memory()
        memory.events.content("a", title="first")
        memory.events.raw("content", "a", None)
        memory.events.content("a", title="second")
        memory.events.content("b", title="first")
        memory.events.raw("content", "b", None)
        async with memory.worker() as worker:
            await worker.deliver("content", most=most)
            catalogue, index = worker.parts.shared.catalogue, worker.parts.shared.index
            assert catalogue.title(index.row_of("a")) == "second"
            assert catalogue.n_live == 1


async def test_a_catalogue_that_is_sent_again_is_as_old_as_before_for_a_worker_that_starts(
    memory: Memory,
) -> None:
    def described_ms(worker: MemoryWorker) -> list[int | None]:
        return [worker.parts.shared.catalogue.described_ms(item) for item in "abcd"]

    begun_ms = int(memory.clock.time() * 1000)
    for item in "ab":
        memory.events.content(item, title="first")
    for _ in range(3):  # what says it the last time is written by who has not seen the first
        async with memory.worker() as worker:
            await worker.deliver("content")
            for item in "abc":
                memory.events.content(item, title="again")
            memory.clock.move(86_400_000)
            await worker.deliver("content")
            assert described_ms(worker) == [begun_ms, begun_ms, begun_ms + 86_400_000, None]
            worker.commit()
        memory.log.compact("item-state")
    memory.events.raw("content", "a", None)
    async with memory.worker() as worker:
        await worker.deliver("content")
        assert described_ms(worker)[0] is None
        memory.events.content("a")
        await worker.deliver("content")
        worker.commit()
    memory.log.compact("item-state")
    async with memory.worker() as worker:
        assert described_ms(worker) == [
            begun_ms + 3 * 86_400_000, begun_ms, begun_ms + 86_400_000, None,
        ]  # fmt: skip


async def test_an_item_that_was_described_just_now_is_known_to_its_deletion(memory: Memory) -> None:
    described = [(item.encode(), encode(Content(item_id=item, title=item))) for item in ("i1", "i2")]
    memory.log.append("content", PLACE, described)
    memory.log.append("content", PLACE, [(b"i1", None), (b"i2", None), (b'"i2"', None)])
    async with memory.worker() as worker:
        for _ in range(2):  # it has not read back what it has written
            assert await worker.deliver_one("content", most=2)
        await worker.deliver()
        body = worker.parts.metrics.render()[0].decode()
    assert 'events_total{outcome="tombstone",topic="content"} 2.0' in body
    assert 'events_total{outcome="unknown",topic="content"} 1.0' in body


async def test_what_was_described_just_now_stays_as_old_as_it_is(memory: Memory) -> None:
    begun_ms = int(memory.clock.time() * 1000)
    for title in ("first", "again"):
        memory.log.append("content", PLACE, [(b"i", encode(Content(item_id="i", title=title)))])
    async with memory.worker() as worker:
        for _ in range(2):  # it has not read back what it has written
            assert await worker.deliver_one("content", most=1)
            memory.clock.move(86_400_000)
        await worker.settle()
        worker.commit()
    memory.log.compact("item-state")
    async with memory.worker() as worker:
        assert worker.parts.shared.catalogue.described_ms("i") == begun_ms


@pytest.mark.parametrize("most", [1, 2, 10])
async def test_an_item_that_is_deleted_and_described_again_is_new_whatever_the_batches(
    memory: Memory, most: int
) -> None:
    memory.log.append("content", PLACE, [(b"i", encode(Content(item_id="i", title="first")))])
    async with memory.worker() as worker:
        await worker.deliver("content")
        memory.clock.move(86_400_000)
        begun_ms = int(memory.clock.time() * 1000)
        again = encode(Content(item_id="i", title="again"))
        memory.log.append("content", PLACE, [(b"i", None), (b"i", again)])
        while await worker.deliver_one("content", most=most):
            pass  # it has not read back what it has written
        await worker.settle()
        assert worker.parts.shared.catalogue.described_ms("i") == begun_ms
    for _ in range(2):  # the first one reads everything again: nothing was committed
        memory.log.compact("item-state")
        memory.clock.move(86_400_000)
        async with memory.worker() as worker:
            while await worker.deliver_one("content", most=most):
                pass
            await worker.settle()
            worker.commit()
            assert worker.parts.shared.catalogue.described_ms("i") == begun_ms


@pytest.mark.parametrize("hangs", [False, True])
async def test_content_goes_on_and_says_so_where_what_was_written_cannot_be_read_back(
    memory: Memory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    async def ends(asked: Iterable[int]) -> dict[int, int]:
        if not hangs:
            raise KafkaTimeoutError
        return dict.fromkeys(asked, 1_000)  # of which nothing comes

    monkeypatch.setattr(content, "READ_BACK_S", 0.05)
    memory.events.content("i")
    async with memory.worker() as worker:
        monkeypatch.setattr(worker.agents["content"], "_ends", ends)
        await worker.deliver("content")
        assert worker.parts.shared.catalogue.described_ms("i") is not None
    (said,) = [message for message in caplog.messages if "not to its end" in message]
    assert said.startswith("item-state [")
