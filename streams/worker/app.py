"""The Faust application: four agents on the input topics, around one `Engine`."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import faust
from aiohttp import web
from faust.types.auth import AuthProtocol

from streams.kafka.options import ssl_context
from streams.kafka.topics import topic_name
from streams.kafka.transport import BatchSchema, RecordBatch
from streams.serving.http import start_http
from streams.settings import Settings
from streams.worker.agents.clicks import on_clicks
from streams.worker.agents.content import on_content
from streams.worker.agents.requests import on_requests
from streams.worker.agents.users import on_users
from streams.worker.engine import Engine

log = logging.getLogger(__name__)

BatchHandler = Callable[[Engine, RecordBatch], Awaitable[None]]

AGENTS: dict[str, BatchHandler] = {
    "clicks": on_clicks,
    "content": on_content,
    "users": on_users,
    "requests": on_requests,
}


class App(faust.App):
    """A Faust application around an engine, which starts before the consumer does."""

    engine: Engine
    _http: web.AppRunner | None = None

    async def on_first_start(self) -> None:
        """Do nothing: Faust makes folders for its tables here, and we have none."""

    async def on_start(self) -> None:
        """Start to answer HTTP, then the engine, then everything that feeds it."""
        self._http, url = await start_http(self.engine, self.engine.settings)
        if self.engine.url is None:
            self.engine.url = url
        log.info("listening on %s", url)
        await self.engine.start()
        await super().on_start()

    async def on_shutdown(self) -> None:
        """Answer HTTP until everything else has ended."""
        await super().on_shutdown()
        await self.stop_http()

    async def stop_http(self) -> None:
        """Stop to answer HTTP, if that is still to be done."""
        runner, self._http = self._http, None
        if runner is not None:
            await runner.cleanup()


def create_app(settings: Settings) -> App:
    """Return the application. Nothing connects before it is started."""
    app = App(
        settings.group_id,
        broker=[f"kafka-batch://{server.strip()}" for server in settings.bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings),
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 1000 / 4,
        broker_request_timeout=max(90.0, settings.session_timeout_ms / 1000),
        broker_commit_interval=0.5,
        consumer_max_fetch_size=1024 * 1024,
        # Counts batches. Small, so that a partition is paused before much memory is taken.
        stream_buffer_maxsize=8,
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        web_tables_enabled=False,
    )
    engine = Engine(settings, crash=lambda error: _crash(app, error))
    app.engine = engine
    for name, handler in AGENTS.items():
        topic = app.topic(topic_name(settings, name), schema=BatchSchema(), maxsize=8)
        app.agent(topic, name=name)(_guarded(app, engine, handler))
    _connect_lifecycle(app, engine, topic_name(settings, "clicks"))
    return app


def _crash(app: faust.App, error: BaseException) -> None:
    if not app.should_stop:
        log.critical("stopping without committing: %s", error, exc_info=error)
        asyncio.ensure_future(app.crash(error))


def _guarded(app: faust.App, engine: Engine, handler: BatchHandler) -> Callable[[Any], Awaitable[None]]:
    """Make an agent of a batch handler: what the handler cannot deal with stops the worker.

    Faust would restart the agent past the batch that broke it, and the batch would be lost.
    """

    async def agent(stream: AsyncIterator[RecordBatch]) -> None:
        async for batch in stream.noack():  # type: ignore[attr-defined]
            if not engine.ledger.is_current(batch.tp, batch.epoch):
                continue  # read before a rebalance; whoever owns the partition reads it again
            try:
                await handler(engine, batch)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                _crash(app, error)
                return

    agent.__name__ = handler.__name__
    return agent


def _connect_lifecycle(app: faust.App, engine: Engine, clicks: str) -> None:
    async def assigned(app: Any, *arguments: Any, **_: Any) -> None:
        (partitions,) = arguments
        engine.attach(app.consumer)
        await engine.assign({tp.partition for tp in partitions if tp.topic == clicks})

    async def revoked(app: Any, *_: Any, **__: Any) -> None:
        await engine.flush()
        await app.consumer.commit()

    async def stopping(app: Any, *_: Any, **__: Any) -> None:
        await engine.drain()
        if app._consumer is not None:
            await app.consumer.commit()
        await engine.stop()

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
