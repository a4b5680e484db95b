"""What is left of a worker when it has stopped."""

import asyncio
import contextlib
import threading
from types import SimpleNamespace

import pytest
from aiokafka.errors import KafkaError

from streams.errors import UnreachableError
from streams.kafka import closing
from streams.settings import Settings
from streams.worker import run
from streams.worker.run import end_the_rest


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run, closing):
        monkeypatch.setattr(module, "END_TIMEOUT_S", 0.1)
    return


def test_a_task_that_keeps_a_cancellation_to_itself_is_cancelled_again() -> None:
    async def deaf_once() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def main() -> bool:
        work = asyncio.create_task(deaf_once())
        await asyncio.sleep(0)
        return await end_the_rest() and work.cancelled()

    assert asyncio.run(main())


@pytest.mark.usefixtures("no_patience")
def test_a_thread_that_waits_is_not_waited_for() -> None:
    answered, asked = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        answered.wait()

    async def main() -> bool:
        work = asyncio.create_task(asyncio.to_thread(wait))
        while not asked.is_set():
            await asyncio.sleep(0)
        ended = await end_the_rest()
        answered.set()
        await asyncio.gather(work, return_exceptions=True)
        return ended

    assert not asyncio.run(main())


@pytest.mark.usefixtures("no_patience")
async def test_a_worker_that_nobody_answers_ends_with_its_code_whatever_thread_still_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered = threading.Event()

    async def asks_in_vain(*_: object) -> int:
        asyncio.get_running_loop().run_in_executor(None, answered.wait)
        raise UnreachableError("no broker")

    def leave(code: int) -> None:
        answered.set()
        raise SystemExit(code)

    monkeypatch.setattr(run, "_run", asks_in_vain)
    monkeypatch.setattr(run, "_leave", leave)
    with pytest.raises(SystemExit, match=str(UnreachableError.exit_code)):
        await run.run_worker(Settings())


class Crashed:
    """An application that crashes at its start, and waits in vain while it is stopped."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason
        self.parts = SimpleNamespace(
            partitions=SimpleNamespace(begin_to_stop=lambda: self.said.append("begun"))
        )
        self.said: list[object] = []
        self.crash_reason: BaseException | None = None
        self._crashed = asyncio.Event()

    async def start(self) -> None:
        self.crash_reason = self.reason
        self._crashed.set()

    async def stop(self) -> None:
        self.said.append("stop")
        await asyncio.Event().wait()

    async def stop_http(self) -> None:
        """Nothing answers."""


@pytest.mark.parametrize("error", [KafkaError, UnreachableError])
async def test_a_worker_that_crashed_is_not_ready_at_once_and_ends_soon_whatever_it_waits_for(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = Crashed(error("no right to Read"))

    def leave(code: int) -> None:
        app.said.append(code)
        raise SystemExit

    monkeypatch.setattr(run, "create_app", lambda *_: app)
    monkeypatch.setattr(run, "load_without_compiler", lambda: None)
    monkeypatch.setattr(run, "live_release", live_release)
    monkeypatch.setattr(run, "CRASH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(run, "_leave", leave)
    with pytest.raises(SystemExit):
        await run._run(Settings(), None)
    assert app.said == ["begun", "stop", getattr(error, "exit_code", 1)]
    assert "not stopped within 0 s" in caplog.text
    assert "no right to Read" in caplog.text


async def live_release(settings: Settings) -> None:
    """Nothing was promoted."""
