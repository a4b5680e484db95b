"""Round trips: a click, then a slate that must have seen it, then over HTTP what is known of the user."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiokafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Counter, Histogram

from streams.canary.probe import NAME, probe_action, probe_click, probe_request, probe_users
from streams.client import SlateClient
from streams.commands.ask import ask
from streams.errors import SlatestreamError
from streams.metrics import Described
from streams.metrics.tables import ANSWER
from streams.settings import Settings

T = TypeVar("T")

STAGES = ("click", "slate", "unseen", "empty", "http", "unknown")
"""Where a trip fails: the click is not acknowledged, no slate comes, it has not seen the click, it is empty,
HTTP does not answer, the click is not known there."""

DESCRIBED = tuple(
    Described(f"slatestream_canary_{name}", kind, labels, text)
    for name, kind, labels, text in (
        (
            "round_trip_seconds",
            "histogram",
            (),
            "From a click to a slate asked for after it, both over Kafka.",
        ),
        ("trips_total", "counter", (), "Trips begun, one a partition and round."),
        ("failures_total", "counter", ("stage",), "Trips that failed, and where."),
    )
)
"""What `slatestream canary` tells Prometheus."""


class _Failure(Exception):
    def __init__(self, stage: str, why: str) -> None:
        super().__init__(f"{stage}: {why}")
        self.stage = stage


class Canary:
    """Makes trips and counts them.

    Parameters
    ----------
    url : of any worker, asked as well; None for Kafka alone
    timeout_s : a click and a slate may each take so long
    say : is told of each trip that failed
    """

    def __init__(
        self, settings: Settings, *, url: str | None, timeout_s: float, say: Callable[[str], None]
    ) -> None:
        self._action = probe_action(settings)
        self._users = probe_users(settings.partitions)
        self._k = settings.k_default
        self._url = url
        self._timeout_s = timeout_s
        self._say = say
        self.registry = CollectorRegistry()
        seconds, trips, failures = DESCRIBED
        self._seconds = Histogram(seconds.name, seconds.text, registry=self.registry, buckets=ANSWER)
        self._trips = Counter(trips.name, trips.text, registry=self.registry)
        self._failures = Counter(failures.name, failures.text, failures.labels, registry=self.registry)
        for stage in STAGES:
            self._failures.labels(stage)

    async def keep_going(self, client: SlateClient, *, every_s: float) -> None:
        """Make a round every so many seconds, for ever."""
        while True:
            began = time.monotonic()
            await self.round(client)
            await asyncio.sleep(max(0.0, every_s - (time.monotonic() - began)))

    async def round(self, client: SlateClient) -> int:
        """Make a trip on each partition at a time; return how many failed."""
        trips = (self._trip(client, partition, user) for partition, user in enumerate(self._users))
        return sum(not whole for whole in await asyncio.gather(*trips))

    async def _trip(self, client: SlateClient, partition: int, user_id: str) -> bool:
        self._trips.inc()
        try:
            await self._go(client, user_id)
        except _Failure as failure:
            self._failures.labels(failure.stage).inc()
            self._say(f"partition {partition}: {failure}")
            return False
        return True

    async def _go(self, client: SlateClient, user_id: str) -> None:
        began, now_ms = time.perf_counter(), int(time.time() * 1000)
        click = probe_click(user_id, self._action, timestamp_ms=now_ms)
        offset = await self._within("click", client.click(click))
        request = probe_request(user_id, timestamp_ms=now_ms, k=self._k)
        answer = await self._within("slate", client.ask(request, timeout_s=self._timeout_s))
        self._seconds.observe(time.perf_counter() - began)
        slate = answer.recommendation
        if slate.clicks_offset < offset:
            raise _Failure("unseen", f"the slate has seen clicks up to {slate.clicks_offset}, not {offset}")
        if not slate.slate:
            raise _Failure("empty", f"no item in the slate ({slate.fallback})")
        if self._url is not None:
            await self._look(self._url, user_id, now_ms)

    async def _within(self, stage: str, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await work
        except TimeoutError:
            raise _Failure(stage, f"nothing within {self._timeout_s:g} s") from None
        except KafkaError as error:
            raise _Failure(stage, str(error)) from None

    async def _look(self, url: str, user_id: str, clicked_ms: int) -> None:
        """Ask over HTTP what is known of a user: the slate had seen the click, so it must be there."""
        try:
            state = await asyncio.to_thread(
                lambda: ask(
                    "canary", url, lambda client: client.user(user_id), timeout_s=self._timeout_s, retries=0
                )
            )
        except SlatestreamError as error:
            raise _Failure("http", str(error)) from None
        if not any(met.item_id == NAME and met.timestamp_ms == clicked_ms for met in state.history):
            raise _Failure("unknown", f"{url} does not know of the click of {clicked_ms}")
