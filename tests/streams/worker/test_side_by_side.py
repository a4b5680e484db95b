import asyncio

import pytest
from faust.types import TP

from streams.kafka.columns import Record, RecordColumns
from streams.kafka.progress import Progress
from streams.kafka.record_batch import RecordBatch
from streams.worker.agents import side_by_side
from streams.worker.agents.side_by_side import ENOUGH_RECORDS, SideBySide, joined


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


def at_once(batch: RecordBatch) -> None:
    return None


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def records(partition: int, *offsets: int, key: bytes | None = b"u") -> RecordBatch:
    values = [Record("clicks", partition, offset, 0, key, b"%d" % offset) for offset in offsets]
    return RecordBatch(TP("clicks", partition), RecordColumns.of(values), offsets[-1], 0)


async def test_partitions_do_not_wait_for_each_other_and_batches_of_one_do() -> None:
    work = Work()
    async with SideBySide(work, at_once) as lanes:
        await lanes.take(batch(0, 1))
        await lanes.take(batch(1, 1))
        await turns()
        await lanes.take(batch(0, 2))
        await turns()
        assert work.begun == [(0, 1), (1, 1)]
        work.gates[0, 1].set()
        await turns()
        assert work.done == [(0, 1)]
        assert work.begun == [(0, 1), (1, 1), (0, 2)]


async def test_leaving_ends_what_is_not_done() -> None:
    work = Work()
    async with SideBySide(work, at_once) as lanes:
        await lanes.take(batch(0, 1))
        await turns()
    assert work.ended == [(0, 1)]


@pytest.fixture
def _much_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "LATER_S", 3600.0)


@pytest.mark.usefixtures("_much_later")
async def test_batches_of_a_partition_that_nobody_waits_for_become_one_when_somebody_does() -> None:
    taken: list[RecordBatch] = []

    async def work(batch: RecordBatch) -> None:
        taken.append(batch)
        progress.advance(batch.last_offset + 1)

    progress = Progress()
    async with SideBySide(work, lambda batch: progress) as lanes:
        await lanes.take(records(0, 0, 1))
        await lanes.take(records(0, 3))
        await turns()
        assert not taken
        assert await progress.reached(4, 60.0)
        (one,) = taken
        assert [(record.offset, record.value) for record in one.records] == [(0, b"0"), (1, b"1"), (3, b"3")]
        assert one.last_offset == 3
        waiting = asyncio.ensure_future(progress.reached(6, 60.0))
        await turns()
        await lanes.take(records(0, 4, 5))
        assert await waiting, "who waits already waits for no other batch"


@pytest.mark.usefixtures("_much_later")
async def test_who_waits_for_a_user_waits_only_for_batches_with_clicks_of_that_user() -> None:
    work, progress = Work(), Progress()
    async with SideBySide(work, lambda batch: progress) as lanes:
        await lanes.take(records(0, 0, 1, key=b"other"))
        assert await progress.reached(2, 60.0, key=b"mine"), "all before it is here, and of somebody else"
        early = asyncio.ensure_future(progress.reached(3, 60.0, key=b"mine"))
        await turns()
        assert not early.done(), "what lies before it has not been read"
        await lanes.take(records(0, 2, key=b"another"))
        assert await early
        assert not work.begun
        mine = asyncio.ensure_future(progress.reached(4, 60.0, key=b"mine"))
        await lanes.take(records(0, 3, key=b"mine"))
        await turns()
        assert not mine.done()
        assert work.begun == [(0, 3)]
        again = asyncio.ensure_future(progress.reached(4, 60.0, key=b"mine"))
        await turns()
        assert not again.done(), "it is being folded"
        progress.advance(4)
        assert await mine
        assert await again


@pytest.mark.usefixtures("_much_later")
async def test_what_was_read_before_a_rebalance_lets_nobody_go_on_before_it_is_read_again() -> None:
    dropped, epoch, progress = asyncio.Event(), 0, Progress()  # the partition stays, and its progress

    async def work(batch: RecordBatch) -> None:
        if batch.epoch == epoch:
            progress.advance(batch.last_offset + 1)
        else:
            dropped.set()

    async with SideBySide(work, lambda batch: progress if batch.epoch == epoch else None) as lanes:
        await lanes.take(records(0, 0, key=b"mine"))
        epoch = 1
        waiting = [asyncio.ensure_future(progress.reached(1, 60.0, key=key)) for key in (b"mine", b"other")]
        await dropped.wait()
        await turns()
        waiting.append(asyncio.ensure_future(progress.reached(1, 60.0, key=b"mine")))
        await turns()
        assert not any(one.done() for one in waiting)
        again = records(0, 0, key=b"mine")
        again.epoch = epoch
        await lanes.take(again)
        assert await asyncio.gather(*waiting) == [True] * 3
        assert progress.position == 1


@pytest.mark.usefixtures("_much_later")
async def test_who_begins_to_wait_is_looked_for_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    has_key = RecordColumns.has_key

    def noted(columns: RecordColumns, key: bytes) -> bool:
        asked.append(key)
        return has_key(columns, key)

    monkeypatch.setattr(RecordColumns, "has_key", noted)
    work, progress = Work(), Progress()
    async with SideBySide(work, lambda batch: progress) as lanes:
        await lanes.take(records(0, 0, 1, key=b"mine"))
        waiting = [asyncio.ensure_future(progress.reached(2, 60.0, key=b"mine")) for _ in range(9)]
        await turns()
        assert asked == [b"mine"] * 9
        progress.advance(2)
        assert all(await asyncio.gather(*waiting))


@pytest.mark.usefixtures("_much_later")
async def test_a_record_without_a_key_may_be_anybodys() -> None:
    work, progress = Work(), Progress()
    async with SideBySide(work, lambda batch: progress) as lanes:
        await lanes.take(records(0, 0, key=None))
        waiting = asyncio.ensure_future(progress.reached(1, 60.0, key=b"mine"))
        await turns()
        assert not waiting.done()
        assert work.begun == [(0, 0)]


@pytest.mark.usefixtures("_much_later")
async def test_many_records_are_taken_though_nobody_waits_and_more_of_them_find_no_room_meanwhile() -> None:
    work = Work()
    async with SideBySide(work, lambda batch: Progress()) as lanes:
        await lanes.take(records(0, *range(ENOUGH_RECORDS)))
        await turns()
        assert work.begun == [(0, ENOUGH_RECORDS - 1)]
        beyond = asyncio.ensure_future(lanes.take(records(0, *range(ENOUGH_RECORDS, 2 * ENOUGH_RECORDS))))
        await turns()
        assert not beyond.done()
        work.gates[0, ENOUGH_RECORDS - 1].set()
        await asyncio.wait_for(beyond, 60)


async def test_a_batch_that_nobody_waits_for_is_taken_a_little_later() -> None:
    taken = asyncio.Event()

    async def work(batch: RecordBatch) -> None:
        taken.set()

    async with SideBySide(work, lambda batch: Progress()) as lanes:
        await lanes.take(records(0, 0))
        await turns()
        assert not taken.is_set()
        await asyncio.wait_for(taken.wait(), 60)


async def test_a_partition_that_is_being_restored_holds_up_no_other_and_keeps_its_order() -> None:
    work, restored = Work(), {1}
    async with SideBySide(
        work, at_once, ready=lambda batch: batch.tp.partition in restored, in_turn=True
    ) as lanes:
        for offset in range(3):
            offsets = range(offset * ENOUGH_RECORDS, (offset + 1) * ENOUGH_RECORDS)
            await asyncio.wait_for(lanes.take(records(0, *offsets)), 60)
        other = asyncio.ensure_future(lanes.take(records(1, 0)))
        await turns()
        assert work.begun == [(0, ENOUGH_RECORDS - 1), (1, 0)]
        work.gates[1, 0].set()
        await asyncio.wait_for(other, 60)
        restored.add(0)
        late = asyncio.ensure_future(lanes.take(records(0, 3 * ENOUGH_RECORDS)))
        await turns()
        assert work.begun == [(0, ENOUGH_RECORDS - 1), (1, 0)], "what came before is taken first"
        work.gates[0, ENOUGH_RECORDS - 1].set()
        await asyncio.wait_for(late, 60)
        await turns()
        assert work.begun == [(0, ENOUGH_RECORDS - 1), (1, 0), (0, 3 * ENOUGH_RECORDS)]
        work.gates[0, 3 * ENOUGH_RECORDS].set()
        await turns()
        assert work.done == [(1, 0), (0, ENOUGH_RECORDS - 1), (0, 3 * ENOUGH_RECORDS)]
        inline = asyncio.ensure_future(lanes.take(records(0, 3 * ENOUGH_RECORDS + 1)))
        await turns()
        assert not inline.done(), "in turn again"
        work.gates[0, 3 * ENOUGH_RECORDS + 1].set()
        await asyncio.wait_for(inline, 60)


def test_only_batches_that_are_alike_become_one() -> None:
    first, second, other = records(0, 0), records(0, 1), records(0, 2)
    other.epoch = 1
    assert [one.last_offset for one in joined([first, second, other])] == [1, 2]
    nothing = RecordBatch(TP("clicks", 0), RecordColumns.of([]), 5, 0)
    (one,) = joined([first, nothing])
    assert (len(one), one.last_offset) == (1, 5)
    headed = records(0, 6)
    headed.records.headed = True
    assert [one.last_offset for one in joined([first, nothing, headed])] == [5, 6]
