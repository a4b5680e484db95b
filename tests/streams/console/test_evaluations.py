"""What takes long is worked out once, and nobody waits for it longer than a browser would."""

import asyncio

import pytest

from streams.console.evaluations import Found, Kept


class Work:
    """Counts how often it is done; waits until it may end."""

    def __init__(self) -> None:
        self.done = 0

    async def __call__(self) -> int:
        self.done += 1
        return self.done


async def test_what_was_found_is_kept_until_it_is_old_or_known_to_have_changed() -> None:
    kept = Kept(work := Work(), fresh_s=3600.0)
    assert [(await kept.get()).result for _ in range(3)] == [1, 1, 1]
    kept.forget()
    assert (found := await kept.get()).result == work.done == 2
    assert not kept.is_old(found)
    assert kept.is_old(Found(2, at=0.0))


async def test_who_does_not_wait_gets_what_was_found_before_and_the_work_goes_on() -> None:
    may_end = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def slow() -> str:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(may_end.wait(), loop))
        return "found"

    kept = Kept(slow)
    assert await kept.soon(patience_s=0.0) is None
    may_end.set()
    found = await kept.soon(patience_s=60.0)
    assert found is not None
    assert found.result == "found"


async def test_what_goes_wrong_is_told_to_who_waits() -> None:
    async def wrong() -> None:
        raise OSError("no broker")

    with pytest.raises(OSError, match="no broker"):
        await Kept(wrong).soon(patience_s=60.0)
