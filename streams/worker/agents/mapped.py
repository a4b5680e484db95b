"""A topic of another shape: its records are made ours before an agent takes them."""

from collections.abc import Awaitable, Callable

from streams.decoding.dead_letters import DeadLetters
from streams.kafka.columns import RecordColumns
from streams.kafka.record_batch import RecordBatch
from streams.mapping.translate import Translator
from streams.metrics import Metrics


class MappedAgent:
    """Translates batches and hands them on; what the mapping refuses are dead letters of its records.

    Parameters
    ----------
    take : the agent of the input that the source feeds
    """

    def __init__(
        self,
        translator: Translator,
        take: Callable[[RecordBatch], Awaitable[None]],
        *,
        dead_letters: DeadLetters,
        metrics: Metrics,
    ) -> None:
        self._translator = translator
        self._take = take
        self._dead_letters = dead_letters
        self._metrics = metrics

    async def __call__(self, batch: RecordBatch) -> None:
        """Translate a batch and take what it became; its offsets are those of its records."""
        name = self._translator.source.feeds
        records = RecordColumns.of(batch.records)
        await self._translator.ready(records)
        made = self._translator.batch(records)
        if made.left_out:
            self._metrics.count_events(name, "left_out", made.left_out)
        await self._dead_letters.publish(name, made.rejected)
        await self._take(RecordBatch(batch.tp, made.records, batch.last_offset, batch.epoch))


class ReadyAgent:
    """Waits until the schemas of a batch's records are here, then hands it on.

    Parameters
    ----------
    ready : waits for what a registry says of some records
    take : the agent that decodes them
    """

    def __init__(
        self,
        ready: Callable[[RecordColumns], Awaitable[None]],
        take: Callable[[RecordBatch], Awaitable[None]],
    ) -> None:
        self._ready = ready
        self._take = take

    async def __call__(self, batch: RecordBatch) -> None:
        """Wait, and take a batch; its partition waits too, the others do not."""
        await self._ready(RecordColumns.of(batch.records))
        await self._take(batch)
