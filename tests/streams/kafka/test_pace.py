"""Fetches lie apart, but not where somebody waits for what they bring."""

import asyncio
import time

import pytest

from streams.kafka import pace as module
from streams.kafka.pace import BATCHES_APART, LONGEST_S, MANY, Pace

LONG_S = 3600.0


@pytest.fixture(autouse=True)
def _long_rests(monkeypatch):
    monkeypatch.setattr(module, "REST_S", LONG_S)


async def rests(pace, broker=0):
    """Whether the next fetch does not come at once; it comes later."""
    waiting = asyncio.ensure_future(pace.turn(broker))
    await asyncio.sleep(0)
    return None if waiting.done() else waiting


async def test_the_first_fetch_comes_at_once_and_the_next_later_unless_there_is_surely_more():
    pace = Pace()
    assert await rests(pace) is None
    pace.found(MANY - 1)
    waiting = await rests(pace)
    assert waiting is not None
    waiting.cancel()
    pace.found(MANY)
    assert await rests(pace) is None


async def test_a_fetch_from_one_broker_does_not_wait_for_that_from_another():
    pace = Pace()
    assert await rests(pace, "one") is None
    assert await rests(pace, "other") is None


async def test_whoever_waits_has_one_fetch_and_whoever_reads_requests_has_many():
    pace = Pace()
    await pace.turn(0)
    waiting = await rests(pace)
    pace.want()
    await asyncio.wait_for(waiting, 60)
    waiting = await rests(pace)
    assert waiting is not None, "that was it"
    pace.expect()
    await asyncio.wait_for(waiting, 60)
    assert await rests(pace) is None
    assert await rests(pace) is None


async def test_what_is_wanted_while_a_fetch_is_out_has_the_next_one():
    pace = Pace()
    await pace.turn(0)
    pace.want()
    assert await rests(pace) is None


@pytest.mark.parametrize(("batch_s", "apart_s"), [(0.01, BATCHES_APART * 0.01), (1.0, LONGEST_S)])
async def test_fetches_that_are_waited_for_lie_farther_apart_than_batches_take(batch_s, apart_s):
    pace = Pace()
    for _ in range(50):
        pace.took(batch_s)
    pace.expect()
    began = time.monotonic()
    await pace.turn(0)
    await pace.turn(0)
    assert time.monotonic() - began >= 0.999 * apart_s, "the mean has almost come to it"


async def test_somebody_who_waits_in_another_thread_wakes_a_fetch():
    pace = Pace()
    await pace.turn(0)
    waiting = await rests(pace)
    await asyncio.to_thread(pace.want)
    await asyncio.wait_for(waiting, 60)


async def test_a_fetch_that_is_waited_for_already_is_not_woken_for_each_who_joins(monkeypatch):
    pace, loop = Pace(), asyncio.get_running_loop()
    for _ in range(50):
        pace.took(1.0)
    await pace.turn(0)
    waiting = await rests(pace)
    woken: list[object] = []
    call_soon = loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *call: woken.append(call) or call_soon(*call))
    pace.want()
    assert len(woken) == 1, "it would have come in an hour"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if not waiting.done():  # else the machine has been away for so long
        for _ in range(100):
            pace.want()
            pace.expect()
        assert len(woken) == 1
    await asyncio.wait_for(waiting, 60)
