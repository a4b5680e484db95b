"""Slates on their way to the log: together where they are ready together, each with its own offset."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest

from streams.errors import Fenced, OwnershipLost
from streams.events import Recommendation, SlateItem
from streams.kafka.topics import topic_name
from streams.serving import outbox as module
from streams.serving.outbox import Outbox
from streams.state.shard import Shard
from tests.streams.conftest import Memory


class Lease:
    """Whether the worker is sure of its partitions, as the test says."""

    owned = True


def record(number: int, dim: int, title: str = "because", release: str = "m") -> Recommendation:
    item = SlateItem(item_id=f"i{number}", position=0, score=0.5, propensity=1.0, reasons=[title])
    return Recommendation(
        request_id=f"r{number}", user_id=f"u{number}", slate=[item], policy="thompson", policy_version=0,
        propensity_kind="exact", model_version=release, features=b"", feature_dim=dim, timestamp_ms=1_000,
        latency_ms=1.0,
    )  # fmt: skip


class Post:
    """An outbox on a log in memory, and the shard that it publishes for."""

    def __init__(self, memory: Memory, worker: Any) -> None:
        self.memory, self.lease = memory, Lease()
        self.shard: Shard = next(iter(worker.parts.partitions.live()))
        self.dim = self.shard.statistics.serving.dim
        self.topic, self.lost = topic_name(memory.settings, "recommendations"), list[Shard]()
        self.identity = memory.log.identify(self.topic)
        self.publisher = memory.log.publisher(identity=lambda _: self.identity if self.lease.owned else None)
        self.box = Outbox(
            self.publisher,
            self.topic,
            lost=self.lost.append,
            inputs=self.lease,  # type: ignore[arg-type]
            metrics=worker.parts.metrics,
        )

    def send(self, number: int, **fields: Any) -> "asyncio.Future[None]":
        features = np.full((1, self.dim), number, np.float32)
        sent = record(number, self.dim, **fields)
        return asyncio.ensure_future(self.box.publish(self.shard, sent, features, received=time.time()))

    @property
    def written(self) -> list[tuple[int, str]]:
        records = [r for r in self.memory.log.records(self.topic) if r.partition == self.shard.partition]
        return [
            (r.offset, one.request_id)
            for r, one in zip(records, self.memory.events.recommendations(), strict=True)
        ]


async def test_what_is_ready_together_is_published_in_order_and_counted_by_its_own_offset(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOGETHER_BYTES", 2_000)
    async with memory.worker() as worker:
        post = Post(memory, worker)
        await post.publisher.start()
        first = [post.send(number) for number in range(10)]
        await asyncio.sleep(0)  # these come while some of the first are on their way
        await asyncio.gather(*first, *(post.send(number) for number in range(10, 20)))
        await post.send(20, title="long" * 2_000)
        await asyncio.gather(*(post.send(number) for number in range(21, 24)))

        assert [name for _, name in post.written] == [f"r{number}" for number in range(24)]
        post.shard.learning.count_published()
        assert list(post.shard.learning.published) == post.written
        assert post.shard.learning.recommended_offset == post.written[-1][0]
        body, _ = worker.parts.metrics.render()
        assert b'slatestream_events_total{outcome="published",topic="recommendations"} 24.0' in body
        await post.box.stop()


async def test_what_was_not_sent_for_want_of_ownership_is_sent_once_when_it_is_sure_again(
    memory: Memory,
) -> None:
    async with memory.worker() as worker:
        post = Post(memory, worker)
        await post.publisher.start()
        post.lease.owned = False
        sent = [post.send(number) for number in range(3)]
        _, waiting = await asyncio.wait(sent, timeout=5 * module.OWNED_POLL_S)
        assert len(waiting) == 3
        assert post.written == []
        post.lease.owned = True
        await asyncio.wait_for(asyncio.gather(*sent), 120)
        assert [name for _, name in post.written] == ["r0", "r1", "r2"]


async def test_slates_of_a_partition_that_another_worker_has_by_now_are_not_sent(memory: Memory) -> None:
    async with memory.worker() as worker:
        post = Post(memory, worker)
        await post.publisher.start()
        post.lease.owned, post.shard.dropped = False, True
        sent = [post.send(number) for number in range(2)]
        found = await asyncio.wait_for(asyncio.gather(*sent, return_exceptions=True), 120)
        assert all(isinstance(one, OwnershipLost) for one in found)
        assert post.written == []
        assert not post.shard.learning.published


async def test_a_partition_that_another_worker_has_fenced_is_lost(memory: Memory) -> None:
    async with memory.worker() as worker:
        post = Post(memory, worker)
        await post.publisher.start()
        await post.send(0)
        memory.log.fence(post.topic, post.shard.partition, memory.log.identify(post.topic))
        found = await asyncio.wait_for(
            asyncio.gather(post.send(1), post.send(2), return_exceptions=True), 120
        )
        assert all(isinstance(one, Fenced) for one in found)
        assert set(post.lost) == {post.shard}
        assert [name for _, name in post.written] == ["r0"]


async def test_who_waits_is_told_when_a_slate_that_is_out_cannot_be_counted(memory: Memory) -> None:
    async with memory.worker() as worker:
        post = Post(memory, worker)
        await post.publisher.start()
        wide = np.zeros((1, post.dim + 1), np.float32)
        of_ours = record(0, post.dim, release=post.shard.statistics.version)
        sent = post.box.publish(post.shard, of_ours, wide, received=time.time())
        with pytest.raises(ValueError, match=str(post.dim)):
            await asyncio.wait_for(sent, 120)
        await asyncio.wait_for(post.send(1), 120)  # and what comes after goes out
        assert [name for _, name in post.written] == ["r0", "r1"]
