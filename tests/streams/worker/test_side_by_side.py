import asyncio

from faust.types import TP

from streams.kafka.transport import RecordBatch
from streams.worker.agents.side_by_side import SideBySide


class Work:
    """Notes what begins and what is done; each batch is done when it is told to."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.done: list[tuple[int, int]] = []
        self.ended: list[tuple[int, int]] = []
        self.gates: dict[tuple[int, int], asyncio.Event] = {}

    async def __call__(self, batch: RecordBatch) -> None:
        which = batch.tp.partition, batch.last_offset
        self.begun.append(which)
        try:
            await self.gates.setdefault(which, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.ended.append(which)
            raise
        self.done.append(which)


def batch(partition: int, offset: int) -> RecordBatch:
    return RecordBatch(TP("clicks", partition), [], offset, 0)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_partitions_do_not_wait_for_each_other_and_batches_of_one_do() -> None:
    work = Work()
    async with SideBySide(work) as lanes:
        await lanes.take(batch(0, 1))
        await lanes.take(batch(1, 1))
        second = asyncio.ensure_future(lanes.take(batch(0, 2)))
        await turns()
        assert work.begun == [(0, 1), (1, 1)]
        assert not second.done()
        work.gates[0, 1].set()
        await second
        await turns()
        assert work.done == [(0, 1)]
        assert work.begun == [(0, 1), (1, 1), (0, 2)]


async def test_leaving_ends_what_is_not_done() -> None:
    work = Work()
    async with SideBySide(work) as lanes:
        await lanes.take(batch(0, 1))
        await turns()
    assert work.ended == [(0, 1)]
