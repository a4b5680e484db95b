"""An attack on a real worker, through the topics of a cluster that is there for tests."""

import asyncio
from collections.abc import Sequence
from typing import Self

from streams.attack.site import Rows
from streams.client import SlateClient
from streams.errors import ConfigurationError
from streams.events import Click, Request, encode
from streams.kafka.publish_rows import publish_rows
from streams.kafka.publisher import Publisher
from streams.settings import Settings

PREFIX = "attack."
AT_ONCE = 64  # requests on their way
PATIENCE_S = 60.0


def check_test_cluster(settings: Settings, *, said: bool) -> None:
    """Refuse topics that may be anybody's.

    Raises
    ------
    ConfigurationError
        Unless somebody has said that the cluster is for tests, and the topics have a prefix of their own.
    """
    if not said:
        raise ConfigurationError(
            "an attack publishes false clicks: say --test-cluster if nobody is served from these topics"
        )
    if not settings.topic_prefix.startswith(PREFIX):
        raise ConfigurationError(
            f"topic_prefix must begin with {PREFIX!r} for an attack, got {settings.topic_prefix!r}: such "
            f"topics are nobody else's. Start a worker with SLATESTREAM_TOPIC_PREFIX={PREFIX}"
        )


class TopicSite:
    """A worker that runs with the same settings. Use it as an asynchronous context."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = SlateClient(settings)
        self._publisher = Publisher(settings)
        self._room = asyncio.Semaphore(AT_ONCE)

    async def __aenter__(self) -> Self:
        await self._publisher.start()
        await self._client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.stop()
        await self._publisher.stop()

    async def publish(self, name: str, rows: Rows) -> None:
        """Publish keyed rows."""
        await publish_rows(self._settings, self._publisher, name, iter(rows))

    async def click(self, clicks: Sequence[Click]) -> None:
        """Publish clicks; each user's are confirmed in order."""
        await self.publish("clicks", ((click.user_id, encode(click)) for click in clicks))

    async def ask(self, requests: Sequence[Request]) -> list[list[str]]:
        """Return the items of each slate; none of one that does not come in time."""
        return await asyncio.gather(*map(self._ask, requests))

    async def bounded(self) -> None:
        """Return None: the worker's own metrics say it, `slatestream_clicks_bounded_total`."""

    async def suspicion(self) -> dict[str, float]:
        """Return nothing: `slatestream quarantine list --suspects` shows it."""
        return {}

    async def _ask(self, request: Request) -> list[str]:
        async with self._room:
            try:
                answer = await self._client.ask(request, timeout_s=PATIENCE_S)
            except TimeoutError:
                return []
        return [item.item_id for item in answer.recommendation.slate]
