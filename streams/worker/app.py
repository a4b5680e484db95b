"""The Faust application: four agents on the input topics, around the parts of a worker."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import faust
from faust.auth import OAuthCredentials
from faust.tables.manager import TableManager
from faust.types.auth import AuthProtocol

from streams.errors import ClusterError, OwnershipLost
from streams.items.table import load_scorer
from streams.kafka.broker_check import check_brokers
from streams.kafka.consumer_thread import SERVICES
from streams.kafka.log import KafkaLog
from streams.kafka.options import FileToken, ssl_context
from streams.kafka.progress import Progress
from streams.kafka.record_batch import BatchSchema, RecordBatch
from streams.releases.live import Live
from streams.settings import Settings
from streams.worker.agents.by_topic import Agent, make_agents
from streams.worker.agents.side_by_side import SideBySide
from streams.worker.assembly import Parts, assemble
from streams.worker.http import Listening, start_http
from streams.worker.http_service import Service
from streams.worker.lifecycle import Lifecycle

log = logging.getLogger(__name__)

Stop = Callable[[], Awaitable[None]]
Beside = Callable[[Parts], Awaitable[Stop]]
"""Starts what looks into a worker's parts and serves by itself; returns what ends it."""


class NoTables(TableManager):
    """Begins at once: Faust's own waits a second for tables to be declared, and we have none."""

    logger = SERVICES

    async def on_start(self) -> None:
        """Say that all tables are known, so that the consumer may subscribe."""
        await self._update_channels()
        await self.recovery.start()


class App(faust.App):
    """A Faust application around a worker's parts, which start before the consumer does.

    Attributes
    ----------
    read_last : topic that a broker reads after all others of a fetch
    depends, located : see `streams.kafka.transport.Topics`
    beside : started with the worker
    """

    logger = SERVICES
    parts: Parts
    lifecycle: Lifecycle
    read_last: str
    depends: Mapping[str, Sequence[str]]
    located: Sequence[str]
    beside: Beside | None = None
    _http: Listening | None = None
    _stop_beside: Stop | None = None

    def on_init_dependencies(self) -> Iterable[Any]:
        """Start what Faust needs; its monitor, which nobody reads, is told nothing."""
        services = super().on_init_dependencies()
        self.sensors.remove(self.monitor)
        return services

    async def on_first_start(self) -> None:
        """Do nothing: Faust makes folders for its tables here, and we have none."""

    def on_rebalance_return(self) -> None:
        """Do nothing: Faust tells its sensors here, and warns where there are none."""

    def on_rebalance_end(self) -> None:
        """Note that a rebalance is over; Faust tells its sensors, too."""
        self.rebalancing = False

    def trimmed(self, topic: str, partition: int, records: int) -> None:
        """Tell that records were gone before they were read."""
        log.error(
            "%s [%d]: %d records were deleted before this worker had read them: it was behind for longer "
            "than the topic keeps them; their effect is lost", topic, partition, records,
        )  # fmt: skip
        self._count_lost(topic, records)

    def damaged(self, topic: str, partition: int, first: int, after: int) -> None:
        """Count records that cannot be read."""
        self._count_lost(topic, after - first)

    def _count_lost(self, topic: str, records: int) -> None:
        name = next(name for name, full in self.parts.topics.items() if full == topic)
        self.parts.metrics.count_trimmed(name, records)

    def cut(self, topic: str, partition: int) -> None:
        """Restore everything, and find out where to read on: a log has lost its end."""
        log.error("%s [%d] has lost its end; all partitions are restored", topic, partition)
        self.parts.partitions.start_over()

    async def brokers_answer(self) -> bool:
        """Tell whether a broker answers at all; if none does, the log says why."""
        try:
            await check_brokers(self.parts.settings)
        except ClusterError as error:
            log.warning("this worker's partitions wait to be assigned: %s", error)
            return False
        return True

    async def on_start(self) -> None:
        """Start to answer HTTP, then the parts, then everything that feeds them."""
        parts = self.parts
        service = Service(
            settings=parts.settings,
            partitions=parts.partitions,
            server=parts.server,
            explainer=lambda user_id: parts.lanes.of(user_id).explainer,
            inspector=parts.inspector,
            lanes=parts.lanes,
            lists=parts.lists,
            ranking=parts.ranking,
            metrics=parts.metrics,
            title=parts.shared.title,
            owner_url=parts.shared_topics.owner_url,
            digest=self.lifecycle.digest,
            state=self.lifecycle.state,
            quarantines=parts.quarantines,
            suspects=parts.suspects,
            render=self.lifecycle.render_metrics,
        )
        self._http = await start_http(service)
        parts.shared_topics.url = self._http.url
        log.info("listening on %s, for metrics on %s", self._http.url, self._http.admin_url)
        if self.beside is not None:
            self._stop_beside = await self.beside(parts)
        await self.lifecycle.start()
        await super().on_start()

    async def on_shutdown(self) -> None:
        """Answer HTTP until everything else has ended."""
        await super().on_shutdown()
        await self.stop_http()

    async def stop_http(self) -> None:
        """Stop to answer HTTP, and what is beside the worker, if that is still to be done."""
        stop, self._stop_beside = self._stop_beside, None
        if stop is not None:
            await stop()
        listening, self._http = self._http, None
        if listening is not None:
            await listening.stop()


def create_app(settings: Settings, live: Live | None = None) -> App:
    """Return the application. Nothing connects before it is started.

    Parameters
    ----------
    live : what it begins with when it is to follow `model-releases`; without, it serves the settings' release
    """
    if live is not None:
        settings = live.settings
    app = App(
        settings.group_id,
        broker=[f"kafka-batch://{server.strip()}" for server in settings.bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings),
        consumer_group_instance_id=settings.instance_id,
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=min(HEARTBEAT_S, settings.session_timeout_ms / 1000 / 4),
        broker_request_timeout=FOREVER_S,  # for which Faust waits for `Consumer.perform_seek`
        broker_commit_interval=0.5,
        consumer_max_fetch_size=1024 * 1024,
        consumer_metadata_max_age_ms=METADATA_AGE_MS,
        # Counts batches. Small, so that a partition is paused before much memory is taken.
        stream_buffer_maxsize=8,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        TableManager=NoTables,
        web_enabled=False,
        web_tables_enabled=False,
    )
    scorer = load_scorer(settings) if live is None else live.scorer
    app.parts = parts = assemble(settings, KafkaLog(settings), scorer, live=live)
    app.read_last = parts.topics["clicks"]  # a click from before a request is then never missed beside it
    app.depends = {
        parts.topics[name]: tuple(parts.topics[one] for one in (name, *others))
        for name, others in CHANGELOGS.items()
    }
    app.located = list(parts.topics.values())
    app.lifecycle = Lifecycle(parts, crash=lambda error: _crash(app, error))
    for name, agent in make_agents(parts).items():
        _add_agent(app, name, agent)
    _connect_lifecycle(app)
    return app


def _crash(app: faust.App, error: BaseException) -> None:
    if not app.should_stop:
        log.critical("stopping without committing: %s", error, exc_info=error)
        asyncio.ensure_future(app.crash(error))


# That the group is being shared out anew is heard with the answer to a heartbeat: all others wait for it.
HEARTBEAT_S = 0.3

FOREVER_S = 10 * 365 * 86_400.0

# A topic that was gone for a moment, and came back, is seen after this.
METADATA_AGE_MS = 5_000

# What of an input is kept where: where that is gone, the input is read again from its beginning.
CHANGELOGS = {
    "clicks": ("user-state", "policy-state"),
    "users": ("user-state",),
    "content": ("item-state",),
    "requests": (),
}

# Topics of which a partition is folded into the shard of its number, and waits until that is restored.
BY_USER = ("clicks", "users", "requests")
# Those whose work is done in several threads.
SIDE_BY_SIDE = ("clicks",)


def _add_agent(app: App, name: str, take: Agent) -> None:
    """Add an agent of ours to those that Faust runs.

    `app.agent` also looks among all modules for the one that an agent is written in, for whoever searches
    packages for agents: a twentieth of a worker's start.
    """
    topic = app.topic(app.parts.topics[name], schema=BatchSchema(), maxsize=8)
    made: Any = app.conf.Agent  # a class; its type is that of a setting
    agent = made(_guarded(app, name, take), name=name, app=app, channel=topic, on_error=app._on_agent_error)
    app.agents[agent.name] = agent


def _guarded(app: App, name: str, take: Agent) -> Callable[[Any], Awaitable[None]]:
    """Make a Faust agent of one of ours: what it cannot deal with stops the worker.

    Faust would restart the agent past the batch that broke it, and the batch would be lost.
    """

    async def take_one(batch: RecordBatch) -> None:
        if not app.parts.inputs.ledger.is_current(batch.tp, batch.epoch):
            return  # read before a rebalance; whoever owns the partition reads it again
        if batch.tp.partition >= app.parts.settings.partitions:
            return  # added since: it is left unread, and the worker is not ready (`LogWatch.faults`)
        try:
            await take(batch)
        except asyncio.CancelledError:
            raise
        except OwnershipLost as lost:
            log.warning("%s of %s: left to the partition's owner: %s", batch.tp, name, lost)
        except Exception as error:
            _crash(app, error)
            await asyncio.Event().wait()  # nothing after it may be taken; the worker ends

    def progress(batch: RecordBatch) -> Progress | None:
        if app.parts.settings.recommend_on:
            return None  # a click may ask for a slate, and nobody knows before it is taken
        if not app.parts.inputs.ledger.is_current(batch.tp, batch.epoch):
            return None
        shard = app.parts.partitions.restored(batch.tp.partition)
        return None if shard is None or name != "clicks" else shard.clicks

    def ready(batch: RecordBatch) -> bool:
        return name not in BY_USER or app.parts.partitions.restored(batch.tp.partition) is not None

    async def agent(stream: AsyncIterator[RecordBatch]) -> None:
        async with SideBySide(take_one, progress, ready=ready, in_turn=name not in SIDE_BY_SIDE) as lanes:
            async for batch in stream.noack():  # type: ignore[attr-defined]
                await lanes.take(batch)

    agent.__name__ = name
    return agent


def _connect_lifecycle(app: App) -> None:
    parts, lifecycle = app.parts, app.lifecycle

    async def assigned(app: Any, *arguments: Any, **_: Any) -> None:
        (partitions,) = arguments
        parts.inputs.attach(app.consumer)
        clicks, n = parts.topics["clicks"], parts.settings.partitions
        owned = {tp.partition for tp in partitions if tp.topic == clicks and tp.partition < n}
        await parts.partitions.assign(owned, membership=app.consumer.membership)

    async def revoked(app: Any, *_: Any, **__: Any) -> None:
        if app.consumer.membership.generation < 0:
            # The group has gone on without us: others own the partitions, perhaps for a while already.
            if parts.partitions.live():
                log.warning("the group has forgotten this worker: its partitions are restored anew")
            parts.partitions.lose_all()
            return
        await parts.flusher.flush_all()
        await app.consumer.commit()

    async def stopping(app: Any, *_: Any, **__: Any) -> None:
        if app.crash_reason is None:
            await lifecycle.drain()
            if app._consumer is not None:
                await app.consumer.commit()
        await lifecycle.stop()

    signals: Any = app  # their types know handlers without arguments only
    signals.on_partitions_assigned.connect(assigned)
    signals.on_partitions_revoked.connect(revoked)
    signals.on_before_shutdown.connect(stopping)


def _credentials(settings: Settings) -> Any:
    if settings.security_protocol == "PLAINTEXT":
        return None
    context = ssl_context(settings)
    if settings.security_protocol == "SSL":
        return faust.SSLCredentials(context=context)
    credentials: Any
    if settings.sasl_mechanism == "OAUTHBEARER":
        assert settings.sasl_token_file is not None
        credentials = OAuthCredentials(oauth_cb=FileToken(settings.sasl_token_file), ssl_context=context)
    else:
        assert settings.sasl_password is not None
        credentials = faust.SASLCredentials(
            mechanism=settings.sasl_mechanism,
            username=settings.sasl_username,
            password=settings.sasl_password.get_secret_value(),
            ssl_context=context or ssl.create_default_context(),
        )
    # Faust always says SASL_PLAINTEXT unless told.
    credentials.protocol = AuthProtocol(settings.security_protocol)
    return credentials
