"""Batches and the ledger on logs with gaps: what is committed is what was done, and nothing is stuck."""

import asyncio
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import BrokerError
from streams.kafka import transport
from streams.kafka.columns import RecordColumns
from streams.kafka.group_offsets import GroupOffsets
from streams.kafka.ledger import CommitLedger
from streams.testing.clock import HandClock
from streams.testing.consumer import MemoryConsumer
from streams.testing.log import MemoryLog

PLACE = TP("t", 0)

# Records and gaps, how many records a batch may have, and the order in which batches are done.
logs = st.lists(st.tuples(st.booleans(), st.integers(1, 5)), max_size=12)


def made(pieces: list[tuple[bool, int]]) -> MemoryLog:
    log = MemoryLog({"t": 1}, HandClock())
    for records, n in pieces:
        if records:
            log.append("t", 0, [(b"k", b"v")] * n)
        else:
            log.skip("t", 0, n)
    return log


def consumer_of(log: MemoryLog) -> MemoryConsumer:
    consumer = MemoryConsumer(log)
    consumer.assign([PLACE])
    return consumer


@given(logs, st.integers(1, 4), st.randoms(use_true_random=False))
def test_batches_done_in_any_order_commit_the_longest_done_prefix_and_in_the_end_all(
    pieces, most, draw
) -> None:
    log = made(pieces)
    consumer = consumer_of(log)
    batches = []
    while (batch := consumer.poll("t", most)) is not None:
        batches.append(batch)
    assert [r.offset for batch in batches for r in batch.records] == [r.offset for r in log.records("t")]
    waiting = list(batches)
    draw.shuffle(waiting)
    while waiting:
        done = waiting.pop()
        consumer.ledger.complete(PLACE, done.last_offset, done.epoch)
        consumer.commit(["t"])
        undone = [batch for batch in batches if batch in waiting]
        begin = batches[batches.index(undone[0]) - 1].last_offset + 1 if undone else log.end_offset("t", 0)
        if undone and undone[0] is batches[0]:
            begin = 0
        assert log.committed.get(PLACE, 0) == begin
    assert log.committed.get(PLACE, 0) == log.end_offset("t", 0)


@given(logs, st.integers(1, 4), st.integers(0, 6))
def test_a_consumer_that_follows_another_reads_exactly_what_was_not_committed(pieces, most, done) -> None:
    log = made(pieces)
    first, read = consumer_of(log), []
    for _ in range(done):
        if (batch := first.poll("t", most)) is not None:
            first.ledger.complete(PLACE, batch.last_offset, batch.epoch)
            read += [record.offset for record in batch.records]
    first.commit(["t"])
    second = consumer_of(log)
    while (batch := second.poll("t", most)) is not None:
        read += [record.offset for record in batch.records]
    assert read == [record.offset for record in log.records("t")]


def test_work_from_before_an_assignment_completes_nothing_after_it() -> None:
    log = made([(True, 3)])
    consumer = consumer_of(log)
    stale = consumer.poll("t")
    assert stale is not None
    consumer.assign([PLACE])
    fresh = consumer.poll("t")
    assert fresh is not None
    consumer.ledger.complete(PLACE, stale.last_offset, stale.epoch)
    assert consumer.commit(["t"]) == {}
    consumer.ledger.complete(PLACE, fresh.last_offset, fresh.epoch)
    assert consumer.commit(["t"]) == {PLACE: 3}


async def test_brokers_that_do_not_say_where_partitions_stand_end_the_worker_and_absent_ones_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a bound Faust gives up by itself, and the worker stays: never ready, and silent."""
    crashed: list[BaseException] = []
    answering = [False, False, True, False, False, True]
    asked = 0

    async def group_offsets(*_: Any) -> GroupOffsets:
        nonlocal asked
        asked += 1
        if answering:
            await asyncio.Event().wait()
        return GroupOffsets({}, {}, {}, {}, {})

    async def brokers_answer() -> bool:
        return answering.pop(0)

    async def crash(error: BaseException) -> None:
        crashed.append(error)

    async def seek_to(starts: object) -> None:
        pass

    monkeypatch.setattr(transport, "OFFSETS_TIMEOUT_S", 0.01)
    consumer: Any = SimpleNamespace(
        _thread=SimpleNamespace(group_offsets=group_offsets, seek_to=seek_to),
        _topics=SimpleNamespace(depends={}, located=[], trimmed=None, brokers_answer=brokers_answer),
        app=SimpleNamespace(crash=crash),
        ledger=CommitLedger(),
        start_offsets={},
        positioned=asyncio.Event(),
        _rebalances=1,
    )
    consumer._group_offsets = partial(transport.Consumer._group_offsets, consumer)

    await transport.Consumer.perform_seek(consumer)
    assert (consumer.positioned.is_set(), asked, crashed) == (True, 7, [])
    answering += [False, True, True]
    with pytest.raises(BrokerError, match="where this worker's partitions begin and end"):
        await transport.Consumer.perform_seek(consumer)
    assert [type(error) for error in crashed] == [BrokerError]


async def test_offsets_of_a_former_assignment_position_nobody() -> None:
    asked, told = asyncio.Event(), asyncio.Event()

    async def group_offsets() -> GroupOffsets:
        asked.set()
        await told.wait()
        return GroupOffsets({"t": "id"}, {}, {PLACE: 0}, {PLACE: 9}, {PLACE: (7, "")})

    async def seek_to(starts: object) -> None:
        pass

    ledger = CommitLedger()
    consumer: Any = SimpleNamespace(
        _group_offsets=group_offsets,
        _thread=SimpleNamespace(seek_to=seek_to, rejoin=lambda: None),
        _topics=SimpleNamespace(trimmed=None),
        ledger=ledger,
        start_offsets={},
        log_ids={},
        positioned=asyncio.Event(),
        _rebalances=0,
    )
    consumer._forget_positions = partial(transport.Consumer._forget_positions, consumer)
    seeking = asyncio.ensure_future(transport.Consumer.perform_seek(consumer))
    await asked.wait()
    transport.Consumer.rejoin(consumer)
    told.set()
    with pytest.raises(IllegalStateError, match="another rebalance has begun"):
        await seeking
    assert (consumer.positioned.is_set(), consumer.start_offsets, consumer.log_ids) == (False, {}, {})


@pytest.mark.parametrize(("end", "told"), [(5, [("t", 0)]), (20, [])])
async def test_a_log_that_ends_before_where_it_was_read_to_is_told(
    end: int, told: list[tuple[str, int]]
) -> None:
    """Its records are not those that were read, and past the former end nothing would be read for long."""
    cut: list[tuple[str, int]] = []
    positioned = asyncio.Event()
    positioned.set()
    fetched = RecordColumns.of_rows([(b"k", b"v")] * 5)
    consumer: Any = SimpleNamespace(
        app=SimpleNamespace(consumer_generation_id=1),
        flow_active=True,
        positioned=positioned,
        highwater=lambda _: end,
        ledger=CommitLedger(),
        _buffered_partitions=set(),
        _read_offset={PLACE: 12},
        _thread=SimpleNamespace(positions={}),
        _topics=SimpleNamespace(cut=lambda *place: cut.append(place)),
        told_ends=lambda ends: None,
    )
    await transport.Consumer._deliver(consumer, {PLACE: [fetched]}, None, 1)
    assert cut == told
    assert consumer._read_offset == {PLACE: 12}
