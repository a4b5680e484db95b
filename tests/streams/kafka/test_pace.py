"""A consumer rests between looks, but not while somebody waits."""

import asyncio

from streams.kafka.pace import MANY, Pace


async def test_it_rests_unless_there_is_surely_more() -> None:
    clock = Pace()
    resting = asyncio.ensure_future(clock.rest(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not resting.done()
    await resting
    resting = asyncio.ensure_future(clock.rest(MANY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert resting.done()


async def test_whoever_waits_ends_the_rest_and_there_is_none_for_a_while() -> None:
    clock = Pace()
    resting = asyncio.ensure_future(clock.rest(1))
    await asyncio.sleep(0)
    assert not resting.done()
    clock.hurry()
    await resting
    again = asyncio.ensure_future(clock.rest(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert again.done()
