"""Damaged batches: fetched again, then passed and told; what lies around them is read."""

import gc
import sys
import threading
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from crc32c import crc32c

from streams.kafka import column_fetch, decompress
from streams.kafka.column_fetch import CHECKED, CRC, _Columns, _KeptRecords
from streams.kafka.damage import TRIES, Damage
from streams.kafka.fetch_codec import Fetched, ReadEnds

TP = TopicPartition("clicks", 1)
EACH = 4
LAST_OFFSET, COUNT = slice(23, 27), slice(57, 61)


def batches(codec: int, n: int = 3) -> list[bytearray]:
    """Batches of records that follow each other."""
    made = []
    for k in range(n):
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 20)
        for at in range(EACH):
            builder.append(at, 1_000 + at, b"k", b"value %d " % (EACH * k + at) * 5, [])
        batch = bytearray(builder.build())
        batch[:8] = (EACH * k).to_bytes(8, "big")
        made.append(batch)
    return made


def signed(batch: bytearray) -> None:
    """Make a batch's checksum right again."""
    batch[CRC:CHECKED] = crc32c(bytes(batch[CHECKED:])).to_bytes(4, "big")


def fetched(raw: bytes, damage: Damage | None, at: int, ends: ReadEnds, aborted: Any = ()) -> _Columns:
    kept = _KeptRecords(Fetched(raw, ends))
    return _Columns(PartitionRecords(TP, kept, list(aborted), at, None, None, True, 1), damage)


def read(log: list[bytearray], damage: Damage | None, *, aborted: Any = ()) -> list[int]:
    """Fetch until nothing more comes: each time from the batch on that has the next offset."""
    at, found, ends = 0, [], ReadEnds(0.0)
    ends["clicks", 1] = EACH * len(log)
    for _ in range(40):
        if at >= EACH * len(log):
            return found
        records = fetched(b"".join(log[at // EACH :]), damage, at, ends, aborted)
        for columns in records:
            found += columns.offsets.tolist()
        at = records.next_fetch_offset
    raise AssertionError(f"it is read up to {at} and no further")


@pytest.mark.parametrize("codec", [0, 1, 4], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("aborted", [(), [(7, 100)]], ids=["", "read by aiokafka"])
@pytest.mark.parametrize("which", [[0], [1], [2], [0, 1], [0, 2], [0, 1, 2]])
def test_what_lies_around_damaged_batches_is_read(codec: int, aborted: Any, which: list[int]) -> None:
    log, told = batches(codec), []
    for k in which:
        log[k][-3] ^= 0x55
    damage = Damage(lambda *lost: told.append(lost))
    whole = [EACH * k + at for k in range(3) if k not in which for at in range(EACH)]
    assert read(log, damage, aborted=aborted) == whole
    assert sorted(offset for _, _, first, after in told for offset in range(first, after)) == [
        EACH * k + at for k in which for at in range(EACH)
    ]


def test_a_batch_whose_records_do_not_fit_is_damaged_whatever_its_checksum() -> None:
    log, told = batches(0), []
    log[1][61] = 0x7E  # the length of its first record
    signed(log[1])
    assert read(log, Damage(lambda *lost: told.append(lost))) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert told == [("clicks", 1, 4, 8)]


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("aborted", [(), [(7, 100)]], ids=["", "read by aiokafka"])
def test_a_batch_that_stands_for_too_much_is_left_out(
    codec: int, aborted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, told = batches(codec), []
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1 << 28)
    for at in range(EACH):
        builder.append(at, 1_000 + at, b"k", bytes(40_000), [])
    log[1] = bytearray(builder.build())
    log[1][:8] = EACH.to_bytes(8, "big")
    assert len(log[1]) < 20_000
    monkeypatch.setattr(decompress, "MOST_BYTES", 100_000)
    monkeypatch.setattr(decompress, "_room", threading.local())
    assert read(log, Damage(lambda *lost: told.append(lost)), aborted=aborted) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert told == [("clicks", 1, 4, 8)]


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("aborted", [(), [(7, 100)]], ids=["", "read by aiokafka"])
def test_of_batches_that_stand_for_much_together_some_are_read_at_once(
    codec: int, aborted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = batches(codec, 8)
    monkeypatch.setattr(column_fetch, "MOST_BYTES", 1_000)
    first = next(iter(fetched(b"".join(log), None, 0, ReadEnds(0.0), aborted)))
    assert 0 < len(first) < EACH * len(log)
    assert read(log, None, aborted=aborted) == list(range(EACH * len(log)))


@pytest.mark.parametrize("aborted", [(), [(7, 100)]], ids=["", "read by aiokafka"])
def test_what_was_fetched_is_gone_with_its_records_without_the_collector(aborted: Any) -> None:
    raw = b"".join(batches(1))
    before = sys.getrefcount(raw)
    gc.disable()
    try:
        records = fetched(raw, None, 0, ReadEnds(0.0), aborted)
        assert [len(columns) for columns in records] == [3 * EACH]
        assert sys.getrefcount(raw) > before
        del records
        assert sys.getrefcount(raw) == before
    finally:
        gc.enable()


def test_a_batch_that_is_whole_when_it_is_fetched_again_is_read() -> None:
    log = batches(0)
    damage = Damage(lambda *lost: pytest.fail("it is not lost"))
    good = bytes(log[0])
    log[0][-3] ^= 0x55
    for _ in range(TRIES - 1):
        columns = fetched(b"".join(log), damage, 0, ReadEnds(0.0))
        assert list(columns) == []
        assert columns.next_fetch_offset == 0
    log[0][:] = good
    assert len(read(log, damage)) == 12


@pytest.mark.parametrize("part", [LAST_OFFSET, COUNT, slice(8, 12)], ids=["end", "count", "length"])
def test_where_a_damaged_batch_ends_nobody_knows_the_reader_ends(part: slice) -> None:
    log = batches(0, 1)
    log[0][part] = b"\x00\x00\x01\x00"
    with pytest.raises(CorruptRecordException):
        read(log, Damage())


def test_without_leave_a_damaged_batch_is_an_error() -> None:
    log = batches(0)
    log[1][-3] ^= 0x55
    with pytest.raises(CorruptRecordException, match="Invalid CRC"):
        read(log, None)
