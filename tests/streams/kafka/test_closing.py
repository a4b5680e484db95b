import asyncio
import contextlib

import pytest

from streams.kafka.closing import closed


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


async def test_what_a_client_raises_while_it_closes_is_raised() -> None:
    async def close() -> None:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await closed(close())
