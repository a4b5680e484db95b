"""Partitions side by side: what comes of one is taken in order and together, and waits for no other."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from streams.kafka.columns import RecordColumns
from streams.kafka.progress import Progress, Waiter
from streams.kafka.record_batch import RecordBatch

# So long, at most, a batch that nobody waits for waits for others of its partition.
LATER_S = 0.1
# Records of a partition from which on there is nothing to be gained by waiting for more; what comes beyond
# waits where it is.
ENOUGH_RECORDS = 1024
# The same of a partition that is being restored, for which the others shall not wait.
MAX_RECORDS = 16_384

Take = Callable[[RecordBatch], Awaitable[None]]


class SideBySide:
    """Takes batches of several partitions at the same time, and those of one in order.

    To take a batch costs the event loop about the same for one record or for a hundred. So it waits for
    others of its partition, which are taken together with it, unless somebody waits for something in it or
    many records are there. Leaving it ends what is not done.

    Parameters
    ----------
    work : takes a batch; it must see to its own errors
    progress : of a batch, where those wait who wait for its partition; None if it is to be taken at once,
        as one is that was read before a rebalance
    ready : whether a batch can be taken by now: not while its partition is being restored
    in_turn : batches that can be taken are taken one after the other, whatever their partition
    """

    def __init__(
        self,
        work: Take,
        progress: Callable[[RecordBatch], Progress | None],
        *,
        ready: Callable[[RecordBatch], bool] = lambda batch: True,
        in_turn: bool = False,
    ) -> None:
        self._work = work
        self._progress = progress
        self._ready = ready
        self._in_turn = in_turn
        self._lanes: dict[Any, _Lane] = {}

    async def take(self, batch: RecordBatch) -> None:
        """Take a batch, now or later; return when there is room for more of its partition."""
        lane = self._lanes.get(batch.tp)
        if self._in_turn and (lane is None or lane.empty) and self._ready(batch):
            await self._work(batch)
            return
        if lane is None:
            lane = self._lanes[batch.tp] = _Lane(self._work, self._progress, self._ready)
        await lane.put(batch)

    async def __aenter__(self) -> Self:
        """Begin with nothing."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what is being done."""
        await asyncio.gather(*(lane.end() for lane in self._lanes.values()))


class _Lane:
    """Batches of one partition."""

    def __init__(
        self,
        work: Take,
        progress: Callable[[RecordBatch], Progress | None],
        ready: Callable[[RecordBatch], bool],
    ) -> None:
        self._work = work
        self._progress = progress
        self._ready = ready
        self._waiting: list[RecordBatch] = []
        self._taken: list[RecordBatch] = []
        self._newest: RecordBatch | None = None  # without its records
        self._later: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()

    async def put(self, batch: RecordBatch) -> None:
        self._newest = RecordBatch(batch.tp, (), batch.last_offset, batch.epoch)
        self._waiting.append(batch)
        self._look()
        while self._records() >= (ENOUGH_RECORDS if self._ready(batch) else MAX_RECORDS):
            self._room.clear()
            await self._room.wait()

    @property
    def empty(self) -> bool:
        """Whether nothing waits and nothing is being taken."""
        return self._task is None and not self._waiting

    async def end(self) -> None:
        self._waiting.clear()
        if self._later is not None:
            self._later.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _look(self) -> None:
        """See who waits in vain, and begin with what waits to be taken, if it is time, or later."""
        progress, read = self._reading()
        if progress is not None:
            progress.hurry = self._hurry
            progress.spare(read, self._holds)
        if self._task is not None or not self._waiting:
            return
        if progress is None or progress.awaited(read) or self._records() >= ENOUGH_RECORDS:
            self._begin()
        elif self._later is None:
            self._later = asyncio.get_running_loop().call_later(LATER_S, self._begin)

    def _hurry(self, waiter: Waiter) -> None:
        """See to one who begins to wait; for the others nothing has changed."""
        progress, read = self._reading()
        if progress is not None and waiter.in_vain(read, self._holds):
            waiter.future.set_result(None)
        elif waiter.hastens(read):
            self._begin()

    def _reading(self) -> tuple[Progress | None, int]:
        """Return where those wait who wait for what is read, and the next offset to be read.

        Nobody does while what has been read is to be read again: it is not folded, whatever becomes of it.
        """
        if self._newest is None:
            return None, 0
        return self._progress(self._newest), self._newest.last_offset + 1

    def _holds(self, key: bytes) -> bool:
        return any(RecordColumns.of(batch.records).has_key(key) for batch in (*self._taken, *self._waiting))

    def _begin(self) -> None:
        if self._task is None and self._waiting:
            if self._later is not None:
                self._later.cancel()
                self._later = None
            self._task = asyncio.ensure_future(self._take())

    def _records(self) -> int:
        return sum(map(len, self._waiting))

    async def _take(self) -> None:
        self._taken, self._waiting = self._waiting, []
        self._room.set()
        try:
            for batch in joined(self._taken):
                await self._work(batch)
        finally:
            self._task, self._taken = None, []
        self._look()


def joined(batches: Sequence[RecordBatch]) -> list[RecordBatch]:
    """Make one batch of those of a partition that follow each other and are alike."""
    runs: list[list[RecordBatch]] = []
    for batch in batches:
        if runs and _alike(runs[-1], batch):
            runs[-1].append(batch)
        else:
            runs.append([batch])
    return [run[0] if len(run) == 1 else _one(run) for run in runs]


def _alike(run: Sequence[RecordBatch], batch: RecordBatch) -> bool:
    if run[0].epoch != batch.epoch:
        return False
    kinds = {_kind(one.records) for one in (*run, batch) if len(one)}
    return None not in kinds and len(kinds) <= 1


def _kind(records: Sequence[Any]) -> bool | None:
    """Return whether headers follow the fetched values; None for anything else."""
    return records.headed if isinstance(records, RecordColumns) and records.source is None else None


def _one(run: Sequence[RecordBatch]) -> RecordBatch:
    columns = [RecordColumns.of(batch.records) for batch in run if len(batch)]
    records = RecordColumns.joined(columns) if columns else run[-1].records
    return RecordBatch(run[-1].tp, records, run[-1].last_offset, run[-1].epoch)
