"""Looks at the topics while a worker runs: whether they are still those that it reads, and as wanted."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from aiokafka.errors import KafkaError

from streams.errors import OwnershipLost
from streams.kafka.inputs import Inputs
from streams.kafka.layout import Layout
from streams.kafka.log import Ends
from streams.kafka.topics import fault, layout_differences, our_topics, settings_differences
from streams.metrics import Metrics
from streams.settings import Settings
from streams.state.log_bases import LogBases

log = logging.getLogger(__name__)

LOOK_INTERVAL_S = 2.0
ASK_AGAIN_S = 0.2
SAY_EVERY_S = 60.0
SETTINGS_EVERY_S = 30.0
# Nothing but where to read on is of their offsets: `content` is read again where what was made of it is gone.
READ = ("content", "requests", "item-state")


class LogWatch:
    """Notices topics that were made anew, went missing, or got other partitions or settings.

    Parameters
    ----------
    topics : full name on the broker by name
    followed : full names of those that are followed without a group
    folded : returns which logs each owned partition was folded from
    start_over : called when they are others by now: what was folded must go
    follow_anew : called with a followed topic that is another one by now
    """

    def __init__(
        self,
        settings: Settings,
        topics: Mapping[str, str],
        *,
        ends: Ends,
        inputs: Inputs,
        metrics: Metrics,
        followed: Collection[str],
        folded: Callable[[], Iterable[LogBases]],
        start_over: Callable[[], None],
        follow_anew: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._ends = ends
        self._inputs = inputs
        self._metrics = metrics
        self._folded = folded
        self._start_over = start_over
        self._follow_anew = follow_anew
        self._all = set(topics.values()) | {source.topic for source in settings.sources}
        self._followed = dict.fromkeys(followed, "")  # ids as they were last seen
        self._say_after = 0.0
        self._settings_after = 0.0
        self._loses: list[str] = []
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
        if self.faults:
            self._say("not ready, for the topics are not as a worker needs them: %s", "; ".join(self.faults))
        self._look_at_followed(layout)
        ids = self._ids(layout)
        if others := {name for logs in self._folded() for name in logs.others(ids)}:
            log.error("deleted and made anew: %s; all partitions are restored", ", ".join(sorted(others)))
            self._start_over()
        else:
            self._look_at_read(ids)
        await self._look_at_settings()

    async def confirm(self, logs: LogBases) -> None:
        """Return when what was folded of these logs was folded of those that are still there.

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
                self._say("nothing is written: the topics cannot be looked at: %r", error)
                await asyncio.sleep(ASK_AGAIN_S)
        others = [] if layout is None else logs.others(self._ids(layout))
        if others:
            if any(one is logs for one in self._folded()):  # else it has begun to start over
                self._start_over()
            names = ", ".join(others)
            raise OwnershipLost(f"deleted and made anew: {names}; what is not written of it is dropped")

    async def _look_at_settings(self) -> None:
        """Say by which settings of topics something may be lost; again when there are others."""
        if time.monotonic() < self._settings_after:
            return
        self._settings_after = time.monotonic() + SETTINGS_EVERY_S
        try:
            told = await self._ends.settings(list(our_topics(self._settings)))
        except KafkaError as error:
            log.debug("the settings of topics cannot be looked at: %r", error)
            return
        differences = settings_differences(self._settings, told)
        loses = [f"{one.topic}: {fault(one)}" for one in differences if one.loses]
        if loses and loses != self._loses:
            log.error("records may be lost or refused by how topics are set: %s", "; ".join(loses))
        self._loses = loses

    def _look_at_followed(self, layout: Layout) -> None:
        for topic, known in self._followed.items():
            now = layout[topic].id if topic in layout else ""
            self._followed[topic] = now or known
            if known and now and now != known:
                log.error("deleted and made anew: %s; it is read from its beginning", topic)
                self._follow_anew(topic)

    def _look_at_read(self, ids: Mapping[str, str]) -> None:
        read = self._inputs.log_ids
        others = [name for name in READ if read.get(name) and ids.get(name, "") not in ("", read[name])]
        if others:
            log.error("deleted and made anew: %s; where to read on is looked up", ", ".join(others))
            self._inputs.start_over()

    def _ids(self, layout: Layout) -> dict[str, str]:
        return {name: layout[topic].id for name, topic in self._topics.items() if topic in layout}

    def _say(self, message: str, *values: object) -> None:
        """Log an error, and no other like it for a while."""
        if time.monotonic() >= self._say_after:
            self._say_after = time.monotonic() + SAY_EVERY_S
            log.error(message, *values)
