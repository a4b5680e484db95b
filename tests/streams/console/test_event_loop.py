"""Who looks at the console does not hold the event loop, on which requests are served."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.streams.conftest import MakeMemory
from tests.streams.console.test_pages import console

HELD_S = 0.005
TURNS = 5
PAGES = ("/", "/live.json", "/user", "/user?id=u", "/item", "/item?id=i7", "/partitions", "/release")


class Longest:
    """Processor time of the longest callback of the event loop since it was last set to nothing."""

    seconds = 0.0


@contextmanager
def longest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Longest]:
    found, run = Longest(), asyncio.events.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        found.seconds = max(found.seconds, time.thread_time() - began)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio.events.Handle, "_run", timed)
        yield found


async def test_no_page_holds_the_event_loop(
    make_memory: MakeMemory, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the best of some turns: the first loads kernels, and garbage is collected in any."""
    memory = make_memory(
        console_port=0, policy="thompson", candidate_policies=("softmax",), history_limit=1008
    )
    for n in range(1_000):
        memory.events.content(f"i{n}", title=f"Film {n}", attributes={"genre": [f"g{n % 20}", f"g{n % 7}"]})
    for n in range(1_000):
        memory.events.click("u", f"i{n}", event_id=f"e{n}")
    for n in range(500):
        memory.events.click(f"u{n}", f"i{n}", event_id=f"f{n}")
    held = dict.fromkeys(PAGES, float("inf"))
    async with memory.worker() as worker:
        await worker.deliver()
        async with console(worker, caplog) as client:
            with longest(monkeypatch) as found:
                for _ in range(TURNS):
                    for path in PAGES:
                        found.seconds = 0.0
                        async with client.get(path) as answer:
                            assert answer.status == 200, path
                            await answer.read()
                        held[path] = min(held[path], found.seconds)
    assert {path: seconds for path, seconds in held.items() if seconds > HELD_S} == {}
    assert min(held.values()) > 0.0
