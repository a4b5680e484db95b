"""What a worker writes: the state, slates and items of its partitions as their owner, all else as anyone."""

import asyncio
from collections.abc import Mapping

from streams.kafka.inputs import Inputs
from streams.kafka.log import Log
from streams.kafka.producer_patches import Identity
from streams.kafka.state_writers import StateWriters
from streams.kafka.topics import topic_names
from streams.metrics import Metrics
from streams.settings import Settings


class Outputs:
    """The producers of a worker.

    Slates and items have one each, so that slates do not wait while a catalogue is described.

    Parameters
    ----------
    topics : full name on the broker by name

    Attributes
    ----------
    states : a fenced writer for each owned partition
    slates, items : publish under the identity of a partition's writer
    rows : publishes what anyone may write
    """

    def __init__(
        self, settings: Settings, log: Log, topics: Mapping[str, str], *, inputs: Inputs, metrics: Metrics
    ) -> None:
        names = {full: name for name, full in topic_names(settings).items()}

        def failed(full: str) -> None:
            metrics.count_produce_error(names[full])

        self._topics = topics
        self._inputs = inputs
        self.states = StateWriters(settings, log, topics, failed=failed)
        self.slates = log.publisher(identity=self._identity, failed=failed)
        self.items = log.publisher(identity=self._identity, failed=failed)
        self.rows = log.publisher(failed=failed)

    def _identity(self, partition: int) -> Identity | None:
        return self.states.identity(partition) if self._inputs.owned else None

    def owns(self, partition: int) -> bool:
        """Whether this worker is the writer of a partition, and surely still in the group."""
        return self._identity(partition) is not None

    async def start(self) -> None:
        """Connect what is not opened with a partition."""
        await asyncio.gather(*(one.start() for one in (self.rows, self.slates, self.items)))

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        await self.states.close_all()
        for one in (self.rows, self.slates, self.items):
            await one.stop()

    def take_back(self, partition: int) -> None:
        """Send nothing more of a partition that others may own from now on."""
        self.slates.take_back(self._topics["recommendations"], partition)
        self.items.take_back(self._topics["item-state"], partition)
