"""Looks at the topics while a worker runs: whether they are still those that it reads, and as wanted."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping

from aiokafka.errors import KafkaError

from streams.errors import OwnershipLost
from streams.kafka.inputs import Inputs
from streams.kafka.layout import Layout
from streams.kafka.log import Ends
from streams.kafka.topics import fault, layout_differences
from streams.metrics import Metrics
from streams.settings import Settings

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 2.0
ASK_AGAIN_S = 0.2
SAY_EVERY_S = 60.0
WRITTEN_ONLY = ("feedback", "dead-letters", "model-releases")  # nothing that is held is of their offsets


class LogWatch:
    """Notices topics that were made anew, went missing, or got other partitions.

    Parameters
    ----------
    topics : full name on the broker by name
    replaced : called with the full names of topics that are others by now: what is held of them must go
    """

    def __init__(
        self,
        settings: Settings,
        topics: Mapping[str, str],
        *,
        ends: Ends,
        inputs: Inputs,
        metrics: Metrics,
        replaced: Callable[[Collection[str]], None],
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._ends = ends
        self._inputs = inputs
        self._metrics = metrics
        self._replaced = replaced
        self._all = set(topics.values()) | {source.topic for source in settings.sources}
        # Ids as they were first seen. A rebalance tells the consumer the present ones, and what was folded
        # before it is of the former.
        self._known: dict[str, str] = {}
        self._say_after = 0.0
        self.faults: list[str] = []
        """What is wrong with the topics: while there is something, the worker is not ready."""

    async def look(self) -> None:
        """Look once; called again and again. Without a broker, what was seen last remains."""
        try:
            layout = await self._ends.layout(sorted(self._all))
        except KafkaError as error:
            log.debug("the topics cannot be looked at: %r", error)
            return
        if layout is None:
            return
        found = {name: topic.partitions for name, topic in layout.items()}
        self.faults = [f"{d.topic}: {fault(d)}" for d in layout_differences(self._settings, found)]
        self._metrics.topic_faults.set(len(self.faults))
        if self.faults and time.monotonic() >= self._say_after:
            self._say_after = time.monotonic() + SAY_EVERY_S
            log.error("not ready, for the topics are not as a worker needs them: %s", "; ".join(self.faults))
        self._compare(layout)

    async def confirm(self) -> None:
        """Return when everything read before now was of the logs that are still there.

        Raises
        ------
        OwnershipLost
            If one of them is another by now: nothing that was folded may be written.
        """
        while True:
            try:
                layout = await self._ends.layout(list(self._topics.values()))
                break
            except KafkaError as error:  # as with what is published: a broker that is silent is waited for
                if not error.retriable:
                    raise
                log.debug("the topics cannot be looked at: %r", error)
                await asyncio.sleep(ASK_AGAIN_S)
        if layout is not None and self._compare(layout):
            raise OwnershipLost("a topic was deleted and made anew: what is not written of it is dropped")

    def _compare(self, layout: Layout) -> bool:
        """Whether a log is another than the one that is read; one that is missing is not, yet."""
        for name, known_id in self._inputs.log_ids.items():
            if known_id and name not in WRITTEN_ONLY:
                self._known.setdefault(name, known_id)
        changed = [
            self._topics[name]
            for name, known_id in self._known.items()
            if (now := layout.get(self._topics[name])) is not None and now.id != known_id
        ]
        if not changed:
            return False
        self._known.clear()
        log.error("deleted and made anew: %s; all partitions are restored", ", ".join(changed))
        self._replaced(changed)
        return True
