import asyncio
import os
import signal

import pytest
import typer
from rich.console import Console

from streams.errors import SlatestreamError
from streams.session.shutdown import clean_exit, keep_checking, race
from streams.worker.process import WorkerError


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_race_ends_when_the_main_work_is_done():
    async with asyncio.timeout(120):
        await race(asyncio.sleep(0), forever(), forever())


async def test_the_error_of_anyone_ends_a_race():
    def broken() -> None:
        raise WorkerError("the worker ended with code 1")

    with pytest.raises(WorkerError, match="ended with code 1"):
        async with asyncio.timeout(120):
            await race(forever(), keep_checking(broken))


async def test_the_first_error_of_a_group_is_what_a_race_raises():
    async def group() -> None:
        raise ExceptionGroup("several", [SlatestreamError("the first")])

    with pytest.raises(SlatestreamError, match="the first"):
        await race(group(), forever())


def interrupted(number: int, ended: list[bool]) -> None:
    with clean_exit(Console(quiet=True)):
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            ended.append(True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_in_order_with_a_code(number):
    previous = signal.getsignal(signal.SIGTERM)
    ended = []
    # A shell starts what it puts in the background deaf to Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(typer.Exit) as caught:
            interrupted(number, ended)
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) == previous
    assert caught.value.exit_code == 130
    assert ended == [True]
