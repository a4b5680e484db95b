"""Dead letters: records that could not be used, published with their bytes and the reason."""

import logging
from collections.abc import Sequence

from aiokafka.errors import MessageSizeTooLargeError

from streams.decoding.records import Rejected
from streams.events import DEAD_LETTER_BYTES
from streams.kafka.log import RowPublisher
from streams.metrics import Metrics

log = logging.getLogger(__name__)


class DeadLetters:
    """Publishes refused records to `topic` and counts them."""

    def __init__(self, publisher: RowPublisher, topic: str, metrics: Metrics) -> None:
        self._publisher = publisher
        self._topic = topic
        self._metrics = metrics

    async def publish(self, name: str, rejected: Sequence[Rejected]) -> None:
        """Publish refused records of the topic `name`; returns once the broker has them.

        Raises
        ------
        aiokafka.errors.MessageSizeTooLargeError
            If the topic takes no letter, not even without the record's bytes.
        """
        if not rejected:
            return
        try:
            await self._publisher.publish(self._topic, 0, [bad.dead_letter() for bad in rejected])
        except MessageSizeTooLargeError:  # one of them is, or all together are
            for bad in rejected:
                await self._cut(bad)
        of_reason: dict[str, list[Rejected]] = {}
        for bad in rejected:
            self._metrics.count_dead_letters(name, bad.reason)
            of_reason.setdefault(bad.reason, []).append(bad)
        for reason, alike in of_reason.items():
            first = alike[0]
            log.warning(
                "%d record(s) of %s to dead-letters (%s); the first, partition %d offset %d: %s",
                len(alike), name, reason, first.record.partition, first.record.offset, first.error,
            )  # fmt: skip

    async def _cut(self, bad: Rejected) -> None:
        """Publish a letter with as much of its record as the topic takes."""
        most = DEAD_LETTER_BYTES
        while True:
            try:
                await self._publisher.publish(self._topic, 0, [bad.dead_letter(most)])
            except MessageSizeTooLargeError:
                if not most:
                    raise
                most //= 4
            else:
                return
