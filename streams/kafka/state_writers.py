"""Writing the state of partitions: one transaction a flush, by the latest owner only.

Each partition has a transactional id of its own. Whoever opens it last is the only one who can write under
it (Kafka's producer fencing, KIP-98): a worker that lost the partition without noticing is refused by the
broker, and what it had begun is taken back. So a flush is there as a whole or not at all, and never comes
from a former owner. Slates and items are published one by one and not in transactions, but as from the same
writer: brokers refuse those of an older epoch once they have one of a newer. Its epoch fences the topic of
slates at once, before a new owner looks what has been answered; an old item does no harm before a newer one.
"""

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Mapping

from aiokafka.errors import (
    KafkaConnectionError,
    ProducerFenced,
    TransactionalIdAuthorizationFailed,
    UnknownError,
)

from streams.errors import BrokerError, ClusterError, Fenced, OwnershipLost, TopicError
from streams.kafka.broker_check import check_brokers
from streams.kafka.closing import END_TIMEOUT_S, closed
from streams.kafka.log import Log, RowPublisher
from streams.kafka.producer_patches import Failed, Identity, unnoticed
from streams.kafka.publisher import Row
from streams.kafka.rights import no_right_to_write, writer_id
from streams.settings import Settings

ASK_AGAIN_S = 0.2
# A transaction that was cut off is taken back at once; only brokers that cannot keep us waiting.
OPEN_TIMEOUT_S = 30.0

log = logging.getLogger(__name__)


class StateWriters:
    """One fenced writer for each owned partition.

    Parameters
    ----------
    topics : full name on the broker by name
    failed : called with the full name of a topic each time that the broker does not take rows of it
    check_brokers : raises ClusterError while no broker answers
    timeout_s : how long brokers that do answer are given, twice
    """

    def __init__(
        self,
        settings: Settings,
        log: Log,
        topics: Mapping[str, str],
        *,
        failed: Failed = unnoticed,
        check_brokers: Callable[[Settings], Awaitable[None]] = check_brokers,
        timeout_s: float = OPEN_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._log = log
        self._topics = topics
        self._failed = failed
        self._check_brokers = check_brokers
        self._timeout_s = timeout_s
        self._writers: dict[int, RowPublisher] = {}

    async def open(self, partition: int) -> None:
        """Become the writer of a partition: whoever was before can write nothing more.

        Brokers that do not answer are waited for.

        Raises
        ------
        BrokerError
            If they answer, and do not let this worker write.
        TopicError
            If its user has not the right to.
        """
        await self.close(partition)
        name = writer_id(self._settings, partition)
        refused = 0
        while refused < 2:  # a broker that has woken just now is given its time
            try:
                async with asyncio.timeout(self._timeout_s):
                    self._writers[partition] = await self._started(name, partition)
                    return
            except TimeoutError:
                refused = refused + 1 if await self._answers(partition) else 0
        raise BrokerError(
            f"the broker has not let this worker write for partition {partition} within "
            f"{2 * self._timeout_s:.0f} s: it has not ended the transaction of {name!r} that came before "
            "(`kafka-transactions.sh describe --transactional-id` says why)"
        )

    async def _answers(self, partition: int) -> bool:
        try:
            await self._check_brokers(self._settings)
        except ClusterError as error:
            log.warning("partition %d waits to be restored: %s", partition, error)
            return False
        return True

    async def _started(self, name: str, partition: int) -> RowPublisher:
        while True:
            writer = self._log.publisher(transactional_id=name, failed=self._failed)
            try:
                await writer.start()
            # Brokers are gone. The assertion is aiokafka's, where a cluster that has just woken names none.
            except (AssertionError, KafkaConnectionError):
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            except TransactionalIdAuthorizationFailed:
                raise TopicError(no_right_to_write(name)) from None
            try:
                await writer.fence(self._topics["recommendations"], partition)
            except ProducerFenced:  # whoever is the writer by now has fenced it: the first write here says so
                pass
            except BaseException:
                # It waits for brokers before it closes; whoever opens next fences it.
                await closed(writer.stop(), timeout_s=END_TIMEOUT_S)
                raise
            return writer

    def identity(self, partition: int) -> Identity | None:
        """Identity of a partition's producer; None while another worker writes for it."""
        writer = self._writers.get(partition)
        return None if writer is None else writer.identity

    async def close(self, partition: int) -> None:
        """Stop to write for a partition."""
        writer = self._writers.pop(partition, None)
        if writer is not None:
            await writer.stop()

    async def close_all(self) -> None:
        """Stop to write."""
        await asyncio.gather(*(self.close(partition) for partition in list(self._writers)))

    async def write(self, partition: int, groups: AsyncIterable[tuple[str, Collection[Row]]]) -> None:
        """Write rows to topics, by name, all of them or none; each group is confirmed before the next.

        Raises
        ------
        Fenced
            If another worker writes for this partition now.
        OwnershipLost
            If this worker does not, or it is not known what is written.
        aiokafka.errors.KafkaError
            If the broker refuses a row: nothing has been written then.
        """
        writer = self._writers.get(partition)
        if writer is None:
            raise OwnershipLost(f"partition {partition} is not written by this worker")
        try:
            async with writer.transaction():
                async for name, rows in groups:
                    await writer.publish(self._topics[name], partition, rows)
        except ProducerFenced as error:
            raise Fenced(f"partition {partition} is written by another worker now") from error
        except Exception as error:
            if self._writers.get(partition) is not writer:
                raise OwnershipLost(f"partition {partition} is restored anew") from error
            # All that a broker says which another writer asks at the same time to end this transaction.
            if UnknownError in (type(error), type(error.__cause__)):
                raise OwnershipLost(f"partition {partition} is restored: a fault of the broker") from error
            raise
