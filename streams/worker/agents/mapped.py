"""A topic of another shape: its records are made ours before an agent takes them."""

from collections.abc import Awaitable, Callable

from streams.kafka.columns import RecordColumns
from streams.kafka.dead_letters import DeadLetters
from streams.kafka.transport import RecordBatch
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
        made = self._translator.batch(RecordColumns.of(batch.records))
        if made.left_out:
            self._metrics.count_events(name, "left_out", made.left_out)
        await self._dead_letters.publish(name, made.rejected)
        await self._take(RecordBatch(batch.tp, made.records, batch.last_offset, batch.epoch))
