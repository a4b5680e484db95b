"""Batches that a kernel writes are read as what they were made of, by aiokafka's reader and by a broker."""

import gc

import numpy as np
import pytest
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.packed_rows import PackedBatch, PackedRows
from streams.kafka.publisher import BATCH_BYTES, Publisher
from streams.kafka.reader import read_partition
from streams.kafka.topics import topic_name
from streams.settings import Settings

Rows = list[tuple[bytes, bytes]]


def packed(rows: Rows, **others: Rows) -> PackedRows:
    sizes = np.array([[len(key), len(value)] for key, value in rows], np.int64).reshape(-1)
    bounds = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    spans = np.stack((bounds[:-1:2], bounds[1::2], bounds[2::2]), axis=1)
    data = np.frombuffer(b"".join(key + value for key, value in rows), np.uint8)
    return PackedRows(len(rows), lambda: (data, spans), **others)


def read(batch: PackedBatch) -> tuple[bool, list[tuple[int, int, bytes | None, bytes | None]]]:
    """Whether the batch is part of a transaction, and offset, time, key and value of its records."""
    records = MemoryRecords(batch._build())
    found = records.next_batch()
    assert found is not None
    assert found.validate_crc()
    assert not records.has_next()
    return found.is_transactional, [(r.offset, r.timestamp, r.key, r.value) for r in found]


@pytest.mark.parametrize("transactional", [False, True])
@given(
    rows=st.lists(st.tuples(st.binary(max_size=70), st.binary(max_size=300)), min_size=1, max_size=200),
    most=st.sampled_from([100, 1000, 100_000]),
)
def test_rows_come_back_in_order_from_batches_within_the_limit(
    transactional: bool, rows: Rows, most: int
) -> None:
    found: Rows = []
    for batch in packed(rows).batches(most, 1_700_000_000_000, transactional=transactional):
        batch._set_producer_state(7, 3, 20)
        marked, records = read(batch)
        assert marked == transactional
        assert [(offset, at) for offset, at, _, _ in records] == [
            (k, 1_700_000_000_000) for k in range(len(records))
        ]
        assert batch.size() <= most or len(records) == 1
        found += [(key or b"", value or b"") for _, _, key, value in records]
    assert found == rows


async def test_a_broker_takes_packed_rows_with_those_around_them(
    kafka_settings: Settings,
) -> None:
    topic = topic_name(kafka_settings, "user-state")
    rows = [(b"k%d" % k, bytes([k % 256]) * 900) for k in range(3 * BATCH_BYTES // 1000)]
    around = {"before": [(b"first", b"1")], "after": [(b"last", b"2")]}
    publisher = Publisher(kafka_settings, transactional_id=f"{topic}-packed")
    await publisher.start()
    gc.disable()
    try:
        for _ in range(2):
            async with publisher.transaction():
                last = await publisher.publish(topic, 0, packed(rows, **around))
        # What a producer leaves behind refers to itself, and would keep them until Python looks for it.
        sent = [one for one in gc.get_objects() if isinstance(one, PackedBatch) and one._producer[0] >= 0]
        assert sent
        assert not any(batch.size() or batch._built for batch in sent)
    finally:
        gc.enable()
        await publisher.stop()
    found = [r async for batch in read_partition(kafka_settings, topic, 0) for r in batch]
    assert [(r.key, r.value) for r in found] == 2 * [*around["before"], *rows, *around["after"]]
    assert found[-1].offset == last
