import asyncio

from streams.kafka.progress import Progress, RecentIds


async def test_a_waiter_is_released_when_its_offset_has_been_folded() -> None:
    progress = Progress(5)
    waiting = asyncio.create_task(progress.reached(10, timeout_s=5))
    await asyncio.sleep(0)
    progress.advance(9)
    await asyncio.sleep(0)
    assert not waiting.done()
    progress.advance(10)
    assert await waiting


async def test_what_has_been_folded_already_needs_no_wait() -> None:
    assert await Progress(10).reached(10, timeout_s=0)


async def test_waiting_ends_with_the_deadline() -> None:
    assert not await Progress().reached(1, timeout_s=0.01)


async def test_the_position_never_goes_back() -> None:
    progress = Progress(7)
    progress.advance(3)
    assert progress.position == 7


def test_an_id_is_new_once_until_it_is_forgotten() -> None:
    ids = RecentIds(limit=2)
    assert ids.add("a")
    assert not ids.add("a")
    assert ids.add("b")
    assert ids.add("c")
    assert "a" not in ids
    assert ids.add("a")


def test_the_answer_to_an_id_is_found_until_it_is_forgotten() -> None:
    ids = RecentIds(limit=2)
    ids.add("a")
    assert ids.offset("a") is None
    ids.answer("a", 7)
    ids.answer("never seen", 8)
    ids.add("restored", 9)
    assert (ids.offset("a"), ids.offset("restored"), ids.offset("never seen")) == (7, 9, None)
    ids.add("b")
    assert ids.offset("a") is None


def test_what_is_held_is_not_forgotten_for_what_is_added_until_it_is_released() -> None:
    ids = RecentIds(limit=3)
    for name in "ab":
        ids.add(name)
    ids.hold()
    assert all(ids.add(name) for name in ("old", "older", "oldest"))
    assert not ids.add("a")
    assert not ids.add("b")
    assert len(ids) == 3
    ids.release()
    for name in "cd":
        ids.add(name)
    assert ("a" in ids, "b" in ids, "c" in ids, "d" in ids) == (False, True, True, True)
