"""Patches of aiokafka's idempotent producer, which has no hooks for them.

- A row that the broker refuses takes its sequence number with it: every later one would be out of order.
- Sequence numbers go on below zero after 2**31 rows, where a broker expects zero.
- What may not be sent any more must not be sent, nor sent again.
- All partitions are published to under one producer id, so that no other producer can take over just one.
- Nobody is told of what is tried again.
- A connection that breaks while it is asked who coordinates transactions ends it for good.
- When it has ended, asyncio logs errors of what nobody waits for: room in a batch, the end of a transaction.
- When it is closed, who waits meanwhile for a row or the end of a transaction waits for ever.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import CoordinatorNotAvailableError, KafkaConnectionError, ProducerClosed

from streams.errors import OwnershipLost

NOT_OURS = "the partition is another worker's, or the group has not answered in a session"
TAKEN_BACK = "the partition may be another worker's by now"
WAKE_S = 0.1  # how often it is looked whether what is held back may go
NUMBERS = 2**31

Failed: TypeAlias = Callable[[str], object]


class Identity(NamedTuple):
    """Identity of a producer, as brokers know it: an older epoch is refused once there is a newer one."""

    producer_id: int
    epoch: int


IdentityOf: TypeAlias = Callable[[int], Identity | None]
"""Who publishes to a partition now; None while nobody may."""


def unnoticed(topic: str) -> None:
    """Let an error of the broker's be known to nobody but the caller."""


def patch(producer: AIOKafkaProducer, *, identity: IdentityOf | None, failed: Failed) -> "Unconfirmed":
    """Patch a started producer; return what takes back rows that it has been given.

    Parameters
    ----------
    identity : asked right before rows go out; None: the producer's own, always
    failed : called with the topic of what is sent once more
    """
    _number(producer, identity)
    _tell(producer, failed)
    _look_at_errors(producer)
    _fail_what_waits(producer)
    if identity is not None:
        _guard(producer, identity)
    return Unconfirmed(producer)


def look_up_again(producer: AIOKafkaProducer) -> None:
    """Let a producer ask again who coordinates, where the broker that it asked is gone."""
    lookup = producer.client.coordinator_lookup

    async def again(kind: Any, key: str) -> Any:
        try:
            return await lookup(kind, key)
        except KafkaConnectionError as error:
            raise CoordinatorNotAvailableError(repr(error)) from error  # which aiokafka tries again

    producer.client.coordinator_lookup = again


def _number(producer: AIOKafkaProducer, identity: IdentityOf | None) -> None:
    """Give the numbers of refused rows to the next ones, and begin at 0 again after the last number.

    Of a partition one batch is on its way at a time, so nothing else has been numbered since. Each identity
    has numbers of its own.
    """
    manager, accumulator = producer._txn_manager, producer._message_accumulator
    pop = accumulator._pop_batch
    last: dict[Any, Identity] = {}

    def increment(tp: Any, rows: int) -> None:
        manager._sequence_numbers[tp] = (manager._sequence_numbers[tp] + rows) % NUMBERS

    def popped(tp: Any) -> Any:
        batch = accumulator._batches[tp][0]
        if batch.retry_count:  # it keeps the number that it has
            return pop(tp)
        who = identity(tp.partition) if identity is not None else None
        who = who or Identity(manager.producer_id, manager.producer_epoch)
        if last.setdefault(tp, who) != who:
            last[tp], manager._sequence_numbers[tp] = who, 0
        set_state, fail = batch.set_producer_state, batch.failure

        def set_producer_state(producer_id: int, producer_epoch: int, base_sequence: int) -> None:
            set_state(who.producer_id, who.epoch, base_sequence)

        def failure(exception: Any) -> None:
            if last[tp] == who:
                increment(tp, -batch.record_count)
            fail(exception)

        batch.set_producer_state, batch.failure = set_producer_state, failure
        return pop(tp)

    manager.increment_sequence_number = increment
    accumulator._pop_batch = popped


def _tell(producer: AIOKafkaProducer, failed: Failed) -> None:
    accumulator = producer._message_accumulator
    reenqueue = accumulator.reenqueue

    def told(batch: Any) -> None:
        failed(batch.tp.topic)
        reenqueue(batch)

    accumulator.reenqueue = told


class Unconfirmed:
    """Batches that a started idempotent producer was given and no broker has confirmed."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._accumulator = producer._message_accumulator
        self._taken_back: set[Any] = set()
        self._reenqueue = self._accumulator.reenqueue
        self._accumulator.reenqueue = self._again

    def take_back(self, topic: str, partition: int) -> None:
        """Send nothing more of a partition that was handed over until now: it fails with OwnershipLost.

        What is on its way is confirmed or not, as the broker says; it is not sent again. Its number is
        neither free nor used then: what is published to the partition later must have another identity.
        """
        tp, pending = TopicPartition(topic, partition), self._accumulator._pending_batches
        self._taken_back.update(batch for batch in pending if batch.tp == tp)
        for batch in self._accumulator._batches.pop(tp, ()):
            if batch.retry_count:
                pending.add(batch)  # from where it goes when it has failed
            _refuse(batch, TAKEN_BACK)

    def _again(self, batch: Any) -> None:
        if batch in self._taken_back:
            _refuse(batch, TAKEN_BACK)
        else:
            self._reenqueue(batch)
        self._taken_back &= self._accumulator._pending_batches


def _refuse(batch: Any, why: str) -> None:
    batch.failure(OwnershipLost(why))
    if batch._drain_waiter.done():
        batch._drain_waiter.exception()  # nobody may be waiting for its place


def _look_at_errors(producer: AIOKafkaProducer) -> None:
    manager, accumulator = producer._txn_manager, producer._message_accumulator
    fail_all, fatal_error = accumulator.fail_all, manager.fatal_error

    def failed(exception: Any) -> None:
        batches = [*chain.from_iterable(accumulator._batches.values()), *accumulator._pending_batches]
        fail_all(exception)
        for batch in batches:
            if batch._drain_waiter.done():
                batch._drain_waiter.exception()

    def ended(exception: Any) -> None:
        if manager.wait_for_transaction_end() is None:  # it would fail, too, where none has begun
            manager._transaction_waiter = asyncio.get_running_loop().create_future()
        fatal_error(exception)
        manager.wait_for_transaction_end().exception()

    accumulator.fail_all, manager.fatal_error = failed, ended


def _fail_what_waits(producer: AIOKafkaProducer) -> None:
    """Fail what still waits once nothing will be sent any more; aiokafka does so after an error alone."""
    manager, accumulator = producer._txn_manager, producer._message_accumulator

    def refused(*_: object) -> Any:
        raise ProducerClosed()

    def ended(sender: "asyncio.Task[None]") -> None:
        if not sender.cancelled() and sender.exception() is not None:
            return
        accumulator.fail_all(ProducerClosed())
        accumulator._append_batch = refused  # of who has waited for room
        if manager.transactional_id is not None:
            manager.fatal_error(ProducerClosed())

    producer._sender.sender_task.add_done_callback(ended)


def _guard(producer: AIOKafkaProducer, identity: IdentityOf) -> None:
    """Ask before the producer hands rows to its sockets: it may have slept with them.

    What was never sent can be taken out. What was sent and not confirmed may be with the broker: it stays, to
    be sent again under the same number once that is allowed, which a broker that has it takes as the same;
    unless it is taken back before.
    """
    accumulator = producer._message_accumulator
    drain = accumulator.drain_by_nodes

    def guarded(ignore_nodes: Any, muted_partitions: Any = frozenset()) -> Any:
        sent_before = set()
        for tp, waiting in list(accumulator._batches.items()):
            if identity(tp.partition) is not None:
                continue
            for batch in waiting:
                if not batch.retry_count:
                    _refuse(batch, NOT_OURS)
            kept = deque(batch for batch in waiting if batch.retry_count)
            if kept:
                accumulator._batches[tp] = kept
                sent_before.add(tp)
            else:
                del accumulator._batches[tp]
        drained = drain(ignore_nodes, muted_partitions | sent_before)
        if sent_before:
            woken = accumulator.waiter()
            asyncio.get_running_loop().call_later(WAKE_S, lambda: woken.done() or woken.set_result(None))
        return drained

    accumulator.drain_by_nodes = guarded
