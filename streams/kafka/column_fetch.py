"""Makes an aiokafka consumer hand out `RecordColumns`: one for everything fetched of a partition.

aiokafka turns every record into a Python object. Here its fetcher keeps doing what it does about requests,
positions and errors; only the step from bytes to records is replaced. What was fetched with an aborted
transaction in it, or in an old format, still goes through aiokafka's own reading, for it needs its rules.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c
from numpy.typing import NDArray

from streams.kafka.columns import HEADER, RecordColumns, Table, batches, read_batches, read_records
from streams.kafka.damage import Damage
from streams.kafka.decompress import DECODERS, MOST_BYTES
from streams.kafka.fetch_codec import Fetched, QuickFetchRequest, ReadEnds

CODEC, CONTROL = 7, 32  # bits of a batch's attributes: compression; the end of a transaction, no records
OBJECT_BYTES = 500  # of a record that aiokafka has read, beside its key and its value
CRC, CHECKED = 17, 21  # where a batch has its checksum, and from where it is taken


class _KeptRecords:
    """aiokafka's `MemoryRecords` that also keeps what it was made of."""

    __slots__ = ("_records", "data", "ends")

    def __init__(self, fetched: Fetched | bytes) -> None:
        if isinstance(fetched, bytes):  # of a broker whose version of the format aiokafka reads itself
            fetched = Fetched(fetched, ReadEnds(-math.inf))
        self.data = fetched.data
        self.ends = fetched.ends
        self._records = MemoryRecords(fetched.data)

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        return self._records.next_batch()

    def size_in_bytes(self) -> int:
        return int(self._records.size_in_bytes())


# For every consumer of the process: they do what aiokafka's do.
fetcher.MemoryRecords = _KeptRecords
fetcher.FetchRequest = QuickFetchRequest


def fetch_columns(consumer: AIOKafkaConsumer, damage: Damage | None = None) -> None:
    """Let a started consumer return, per partition, a list of at most one `RecordColumns`.

    Parameters
    ----------
    damage : says which damaged batches are passed; without, they are an error
    """
    consumer._fetcher._records = _Results(consumer._fetcher._records, damage)


def read_last(consumer: AIOKafkaConsumer, topic: str) -> None:
    """Let brokers read a topic after all others of a fetch.

    What is written to it before something is written to another topic is then never missing beside that:
    `RecordColumns.ends` of the other topic's records lies behind it.
    """
    actions_per_node = consumer._fetcher._get_actions_per_node

    def in_order(assignment: Any) -> Any:
        actions = actions_per_node(assignment)
        for _, request in actions[0]:
            request.topics.sort(key=lambda of: of[0] == topic)
        return actions

    consumer._fetcher._get_actions_per_node = in_order


def wait_longer(consumer: AIOKafkaConsumer, wait_ms: int) -> None:
    """Let a fetch that asks for every partition stay open so long, where nothing comes.

    What lacks a partition, because its records are not taken yet, keeps to the consumer's own time: that
    partition waits for the answer.
    """
    fetching = consumer._fetcher
    actions_per_node, short_ms = fetching._get_actions_per_node, fetching._fetch_max_wait_ms

    def patiently(assignment: Any) -> Any:
        fetching._fetch_max_wait_ms = short_ms if fetching._records else wait_ms
        return actions_per_node(assignment)

    fetching._get_actions_per_node = patiently


def fetch_in_turn(consumer: AIOKafkaConsumer, turn: Callable[[Any], Awaitable[None]]) -> None:
    """Let each fetch wait for its turn.

    Parameters
    ----------
    turn : called with the broker's id
    """
    fetching = consumer._fetcher
    fetch = fetching._proc_fetch_request

    async def in_turn(assignment: Any, node_id: Any, request: Any) -> Any:
        try:
            await turn(node_id)
        except asyncio.CancelledError:
            return False  # as a fetch says that has been given up
        return await fetch(assignment, node_id, request)

    fetching._proc_fetch_request = in_turn


class _Results(dict[Any, Any]):
    """The fetcher's results by partition; takes the records of each apart as columns."""

    def __init__(self, results: dict[Any, Any], damage: Damage | None) -> None:
        super().__init__(results)
        self._damage = damage

    def __setitem__(self, tp: Any, result: Any) -> None:
        if isinstance(result, fetcher.FetchResult):
            result._partition_records = _Columns(result._partition_records, self._damage)
        super().__setitem__(tp, result)


class _Columns:
    """In the place of aiokafka's `PartitionRecords`: an iterator over at most one `RecordColumns`."""

    def __init__(self, records: Any, damage: Damage | None) -> None:
        self._records = records
        # It refers back to them: what was fetched would stay until the collector finds the circle.
        records._records_iterator = None
        self._damage = damage
        self.next_fetch_offset: int = records.next_fetch_offset

    def __iter__(self) -> Iterator[RecordColumns]:
        columns = self._read()
        if len(columns):
            yield columns

    def _read(self) -> RecordColumns:
        raw = self._records._records.data
        data = np.frombuffer(raw, np.uint8)
        found = np.empty((len(data) // HEADER + 1, 8), np.int64)
        found = found[: batches(data, found)]
        try:
            if len(data) and not len(found):
                raise CorruptRecordException(f"what was fetched of {self._records._tp} is no batch")
            return self._of(raw, data, found)
        except Exception as error:  # a codec has errors of its own
            if self._damage is None or not len(found):
                raise
            return self._whole(raw, found, error)

    def _of(self, raw: bytes, data: NDArray[np.uint8], found: Table) -> RecordColumns:
        records = self._records
        tp, ends = records._tp, records._records.ends
        attributes = int(np.bitwise_or.reduce(found[:, 2]))  # of any batch; negative if one of them is
        if records._check_crcs:
            _check(tp, raw, found[found[:, 2] >= 0])
        if records._aborted_transactions or attributes < 0:
            # What it has read when it meets a batch that it cannot read would be lost.
            if attributes >= 0 and not all(_is_sound(raw, row) for row in found):
                raise CorruptRecordException(f"a batch of {tp} cannot be read")
            columns = RecordColumns.of(list(_few(records._unpack_records())), ends=ends)
            self.next_fetch_offset = records.next_fetch_offset
            return columns
        after = int(found[-1, 7]) if len(found) else self.next_fetch_offset
        if attributes & CONTROL:
            found = found[found[:, 2] & CONTROL == 0]
        table = np.empty((int(found[:, 3].sum()), 6), np.int64)
        since = self.next_fetch_offset
        if attributes & CODEC:
            raw, n, taken = _decompressed(raw, found, since, table)
            if taken < len(found):  # the rest is fetched again
                after = int(found[taken, 4])
        else:
            n = read_batches(data, found, since, table)
        if n < 0:
            raise CorruptRecordException(f"the records of a batch of {tp} do not fit into it")
        self.next_fetch_offset = after
        return RecordColumns(tp.topic, tp.partition, raw, table[:n], ends, headed=True)

    def _whole(self, raw: bytes, found: Table, error: Exception) -> RecordColumns:
        """Return what is before a damaged batch; if it is the first one, pass it, or fetch it again."""
        tp, ends = self._records._tp, self._records._records.ends
        sound = [_is_sound(raw, row) for row in found]
        if all(sound):
            raise error
        if k := sound.index(False):
            self._records._records = _KeptRecords(Fetched(raw[: found[k, 0]], ends))
            return self._read()
        first, after = self.next_fetch_offset, int(found[0, 7])
        if True in sound:
            after = int(found[sound.index(True), 4])
        elif after - int(found[0, 4]) != int(found[0, 3]):
            raise error  # where it ends may be damaged, too
        if not first < after <= ends.get((tp.topic, tp.partition), after):
            raise error
        if self._damage is not None and self._damage.is_lost(tp, first, after):
            self.next_fetch_offset = after
        return RecordColumns.of([])


def _check(tp: Any, raw: bytes, found: Table) -> None:
    view = memoryview(raw)
    for begin, end in found[:, :2].tolist():
        expected = int.from_bytes(raw[begin + CRC : begin + CHECKED], "big")
        if crc32c(view[begin + CHECKED : end]) != expected:
            raise CorruptRecordException(f"Invalid CRC - {tp}")


def _is_sound(raw: bytes, row: NDArray[np.int64]) -> bool:
    """Whether a batch is as it was written, and has the records that it says."""
    alone = row[None, :]
    try:
        _check("it", raw, alone)
        table = np.empty((max(int(row[3]), 0), 6), np.int64)
        if row[2] & CONTROL:
            return True
        return _decompressed(raw, alone, -1, table)[1] >= 0
    except Exception:  # a codec has errors of its own
        return False


def _few(records: Iterator[Any]) -> Iterator[Any]:
    """Hand out records until they and their objects take `MOST_BYTES`; the rest is fetched again.

    aiokafka decompresses one batch after the other, and each may stand for as much.
    """
    size = 0
    for record in records:
        yield record
        size += len(record.key or b"") + len(record.value or b"") + OBJECT_BYTES
        if size >= MOST_BYTES:
            return


def _decompressed(raw: bytes, found: Table, since: int, table: Table) -> tuple[bytes, int, int]:
    """Read batches of which some are compressed, up to `MOST_BYTES` of them.

    Returns the bytes of all, how many records they have (-1 where they do not fit), and of how many batches.
    """
    pieces: list[bytes] = []
    n, begun = 0, 0
    for taken, row in enumerate(found):
        piece = raw[row[0] + HEADER : row[1]]
        if codec := int(row[2]) & CODEC:
            piece = DECODERS[codec](piece)
        if pieces and begun + len(piece) > MOST_BYTES:
            return b"".join(pieces), n, taken
        data = np.frombuffer(piece, np.uint8)
        upto = read_records(data, 0, len(data), row[3:7], since, table, n)
        if upto < 0:
            return b"", -1, 0
        table[n:upto, 2] += begun
        table[n:upto, 4] += begun
        pieces.append(piece)
        n, begun = upto, begun + len(piece)
    return b"".join(pieces), n, len(found)
