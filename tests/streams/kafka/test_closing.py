import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from mode.threads import ServiceThread

from streams.kafka import closing
from streams.kafka.closing import EndingThread, closed
from streams.kafka.options import aiokafka_client_options
from streams.kafka.topics import topic_name
from streams.settings import Settings


async def test_who_is_cancelled_while_a_client_closes_ends_and_the_client_closes() -> None:
    begun, shut = asyncio.Event(), asyncio.Event()

    async def close() -> None:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):  # as aiokafka's clients wait for their own tasks
            await shut.wait()
        gone.set()

    gone = asyncio.Event()
    work = asyncio.create_task(closed(close()))
    await begun.wait()
    work.cancel()

    with pytest.raises(asyncio.CancelledError):
        await work
    assert not gone.is_set()
    shut.set()
    await asyncio.wait_for(gone.wait(), 10)


async def test_a_client_that_does_not_close_in_time_goes_on_to_close() -> None:
    shut, gone = asyncio.Event(), asyncio.Event()

    async def close() -> None:
        await shut.wait()
        gone.set()

    await closed(close(), timeout_s=0.01)
    assert not gone.is_set()
    shut.set()
    await asyncio.wait_for(gone.wait(), 60)


async def test_what_a_client_raises_while_it_closes_is_raised() -> None:
    async def close() -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await closed(close())


async def test_a_fetch_that_waits_to_be_tried_again_cancels_nobody_and_leaves_nothing_open(
    kafka_settings: Settings,
) -> None:
    options = aiokafka_client_options(kafka_settings)
    consumer = AIOKafkaConsumer(**options, group_id=None, fetch_max_wait_ms=30_000)
    await consumer.start()
    clicks = TopicPartition(topic_name(kafka_settings, "clicks"), 0)
    consumer.assign([clicks])
    await consumer.seek_to_beginning()
    await consumer.position(clicks)
    consumer._fetcher._retry_backoff = 600

    def waits(task: "asyncio.Task[object]") -> bool:
        """Whether a fetch has failed: it is in its pause then, a sleep."""
        inner = task.get_coro()
        while getattr(inner, "cr_await", None) is not None:
            inner = inner.cr_await
            if getattr(inner, "__name__", "") == "sleep":
                return True
        return False

    async with asyncio.timeout(60):
        while not any(map(waits, consumer._fetcher._pending_tasks)):
            for connection in list(consumer._client._conns.values()):
                connection.close()  # as a broker's end does
            await asyncio.sleep(0.05)
        await closed(consumer.stop())
    assert not any(connection.connected() for connection in consumer._client._conns.values())


class Waits:
    """A service with a task in its thread that, when cancelled, asks the event loop for something."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.task: asyncio.Task[None]
        self.cancellations = 0
        self.enough = 1

    async def on_thread_started(self) -> None:
        self.task = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while self.cancellations < self.enough:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            self.cancellations += 1
            asked = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.parent_loop)  # type: ignore[attr-defined]
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wrap_future(asked)


class Upstream(Waits, ServiceThread):
    pass


class Ours(Waits, EndingThread):
    pass


@contextlib.contextmanager
def stopping(make: Callable[[], Any], *, enough: int):
    """Start a service and stop it in its own event loop; give it, and what is set when it has stopped."""
    services: list[Any] = []
    stopped, begun = threading.Event(), threading.Event()

    async def main() -> None:
        service = make()
        service.enough = enough
        services.append(service)
        await service.start()
        await asyncio.sleep(0)
        begun.set()
        await service.stop()
        stopped.set()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert begun.wait(60)
    (service,) = services
    try:
        yield service, stopped
    finally:
        while service._thread.is_alive() or thread.is_alive():
            with contextlib.suppress(RuntimeError):  # its loop is closed
                service.thread_loop.call_soon_threadsafe(service.task.cancel)
            thread.join(0.05)


def test_upstream_a_thread_that_asks_the_event_loop_for_something_at_its_end_stops_both() -> None:
    with stopping(Upstream, enough=1) as (service, stopped):
        while not service.cancellations:
            assert not stopped.wait(0.01)
        assert not stopped.wait(1.0)


@pytest.mark.parametrize("enough", [1, 3])
def test_a_thread_whose_tasks_ask_for_something_or_keep_cancellations_to_themselves_ends(enough: int) -> None:
    with stopping(Ours, enough=enough) as (service, stopped):
        assert stopped.wait(60)
        assert service.cancellations == enough
        assert not service._thread.is_alive()


class Stuck(EndingThread):
    """A service whose thread does not end before it may."""

    may_end = threading.Event()

    async def on_thread_started(self) -> None:
        self.task = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.may_end.wait()


def test_a_thread_that_does_not_end_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(closing, "END_TIMEOUT_S", 0.1)
    with stopping(Stuck, enough=1) as (service, stopped):
        assert stopped.wait(60)
        assert service._thread.is_alive()
        service.may_end.set()
    assert "its thread still waits for something; it is left" in caplog.text
