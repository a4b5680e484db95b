"""Stops work once no broker has answered for a while."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError

from streams.errors import UnreachableError
from streams.verify.retries import while_answered

QUICK = {"most_s": 0.2, "every_s": 0.01}


async def test_work_ends_once_nobody_answers() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def silent() -> None:
        await asyncio.Event().wait()

    async def refused() -> None:
        raise KafkaConnectionError

    for ask in (silent, refused):
        ended.clear()
        with pytest.raises(UnreachableError, match="no broker has answered for"):
            await while_answered(work(), ask, **QUICK)
        assert ended.is_set()


async def test_a_broker_may_be_away_for_a_while() -> None:
    asked = 0
    answered = asyncio.Event()

    async def back_again() -> None:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise KafkaConnectionError
        answered.set()

    async def work() -> str:
        await answered.wait()
        return "equal"

    assert await while_answered(work(), back_again, **QUICK) == "equal"


async def test_an_error_of_the_work_is_told() -> None:
    async def work() -> None:
        raise ValueError("damaged")

    async def answers() -> None: ...

    with pytest.raises(ValueError, match="damaged"):
        await while_answered(work(), answers, **QUICK)
