"""A worker on a log in memory follows `model-releases`: it swaps, refuses, rolls back, goes on learning."""

import asyncio
import json
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_core.release.baseline import BaselineScorer
from model_core.release.folder import read_release
from streams.releases.candidate import _fetched
from streams.releases.live import CACHED, fetch_release
from streams.releases.store import ReleaseStore
from streams.testing.worker import MemoryWorker
from tests.streams.releases.life import DEADLINE_S, Life, serves, until, value
from tests.streams.releases.made import variant


async def test_what_is_promoted_serves_without_a_restart_and_a_rollback_goes_back_at_once(
    make_life: Callable[..., Life],
) -> None:
    life = make_life()
    first, second = life.put(), life.put()
    async with life.worker() as worker:
        assert (await life.slate(worker)).model_version == BaselineScorer().release.version
        life.say("promote", first)
        lane = await serves(worker, first)
        before = await life.slate(worker)
        life.say("promote", second)
        await serves(worker, second)
        after = await life.slate(worker)
        life.memory.events.content("new")
        await worker.deliver()
        life.say("rollback", first)
        assert await serves(worker, first) is lane  # held ready, and kept up to date
        asked = life.memory.events.request("u", candidates=["new"])
        await worker.deliver()
        again = life.memory.events.recommendations()[-1]
        assert (again.request_id, [one.item_id for one in again.slate]) == (asked, ["new"])
        assert value(worker, "release_swaps_total") == 3

    assert [one.model_version for one in (before, after, again)] == [first, second, first]
    assert [one.score for one in before.slate] != [one.score for one in after.slate]


async def test_a_release_whose_ids_are_spelt_otherwise_is_told_of(
    make_life: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    life = make_life()
    version = life.put()
    async with life.worker(version) as worker:
        items = worker.parts.lanes.serving.items
        await until(worker, lambda: not items.pending)
        assert items.n_known == 20
        for n in range(200):
            life.memory.events.content(f"{n}.0")
        await worker.deliver()
        await until(worker, lambda: not items.pending)
        await until(worker, lambda: any("knows 20 of the 220 items" in text for text in caplog.messages))
        life.memory.events.raw("content", "i7", None)
        life.memory.events.content("another")
        await worker.deliver()
        await until(worker, lambda: not items.pending)
        await worker.life.render_metrics()
        assert value(worker, "known_items") == 19
    assert sum("items that are described" in text for text in caplog.messages) == 1


async def test_two_releases_are_held_at_most(make_life: Callable[..., Life]) -> None:
    life = make_life()
    versions = [life.put() for _ in range(4)]
    async with life.worker() as worker:
        held = []
        for version in versions:
            life.say("promote", version)
            lane = await serves(worker, version)
            held.append([weakref.ref(lane.items), weakref.ref(lane.scorer)])
            del lane
            assert len(list(worker.parts.lanes)) == 2
        # At once, and not when the garbage collector comes by: it does not see how large they are.
        assert [[one() for one in of_lane] for of_lane in held[:2]] == [[None, None]] * 2
        life.say("rollback", versions[0])  # it is held no more: it is loaded anew
        await serves(worker, versions[0])
        assert (await life.slate(worker)).model_version == versions[0]


async def test_a_rollback_stays_at_hand_until_the_next_release_is_fetched(
    make_life: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.releases.follower.RETRY_S", 0.01)
    life = make_life()
    first, second, third = (life.put() for _ in range(3))
    async with life.worker(first) as worker:
        before = await serves(worker, first)
        life.say("promote", second)
        await serves(worker, second)
        away = life.store.rename(life.store.with_name("away"))
        life.say("promote", third)
        await until(worker, lambda: worker.parts.follower._retry_s > 0.01)  # type: ignore[union-attr]
        life.say("rollback", first)
        assert await serves(worker, first) is before
        away.rename(life.store)


async def test_a_topic_that_is_made_anew_is_followed_from_its_beginning(
    make_life: Callable[..., Life],
) -> None:
    life = make_life()
    first, second = life.put(), life.put()
    async with life.worker() as worker:
        for _ in range(3):
            life.say("promote", first)
        await serves(worker, first)
        await worker.parts.watch.look()
        life.memory.log.recreate("model-releases")
        life.say("promote", second)
        await worker.parts.watch.look()
        await serves(worker, second)


async def test_what_is_no_change_is_said_and_the_next_one_counts(
    make_life: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    life = make_life()
    first = life.put()
    later = json.dumps({"change": "freeze", "version": first, "by": "a later version", "timestamp_ms": 1})
    async with life.worker() as worker:
        rows = [(b"k", later.encode()), (b"k", None), (b"", b"\xff"), (b"k", b"[" * 10_000)]
        life.memory.log.append("model-releases", 0, rows)
        life.say("promote", first)
        await serves(worker, first)
    assert "4 record(s) that are no changes this version knows are left out" in caplog.text


async def test_no_slate_is_of_two_releases_when_they_change_under_load(
    make_life: Callable[..., Life],
) -> None:
    life = make_life(trial_share=0.0)  # its slates are the release's alone
    first, second = life.put(), life.put()
    users = [f"u{n}" for n in range(12)]
    async with life.worker(first) as worker:
        life.say("promote", first)
        expected = {first: await scores(life, worker, users)}
        life.say("promote", second)
        await serves(worker, second)
        expected[second] = await scores(life, worker, users)
        assert expected[first]["u0"] != pytest.approx(expected[second]["u0"], rel=0.01)
        begun = len(life.memory.events.recommendations())
        for turn in range(20):
            asked = [life.memory.events.request(user, k=3) for user in users]
            life.say("rollback" if turn % 2 == 0 else "promote", (first, second)[turn % 2])
            while await worker.deliver_one("requests", most=2):
                await asyncio.sleep(0)
            await worker.settle()
            await serves(worker, (first, second)[turn % 2])
        made = life.memory.events.recommendations()[begun:]

    assert len(asked) == len(users)
    assert len(made) == 20 * len(users)
    assert {one.model_version for one in made} == {first, second}
    for one in made:
        scored = pytest.approx(expected[one.model_version][one.user_id], rel=1e-4)  # by size of the batch
        assert [item.score for item in one.slate] == scored


async def scores(life: Life, worker: MemoryWorker, users: list[str]) -> dict[str, list[float]]:
    return {user: [one.score for one in (await life.slate(worker, user)).slate] for user in users}

    # It was killed before a flush: the log brings back what it had learned, each in its own space.


async def test_a_sweep_survives_that_a_release_is_let_go_meanwhile(make_life: Callable[..., Life]) -> None:
    life = make_life(partitions=1)
    first, second, third = (life.put() for _ in range(3))
    async with life.worker(first) as worker:
        life.say("promote", second)
        serving = await serves(worker, second)
        life.memory.events.click("u", "nobody described it", "view")
        await worker.deliver()
        index, reclaimer = worker.parts.shared.index, worker.parts.reclaimer
        reclaimer._forgotten = np.array([index.row_of("nobody described it")], np.int32)
        index.forget(reclaimer._forgotten)
        goes_on = threading.Event()
        serving.inference.submit(goes_on.wait, DEADLINE_S)
        sweeping = asyncio.create_task(reclaimer.sweep())
        life.say("promote", third)
        await until(worker, lambda: first not in [lane.version for lane in worker.parts.lanes])
        await until(worker, lambda: len(list(worker.parts.lanes)) == 2)
        goes_on.set()
        await sweeping


async def test_the_files_of_what_serves_stay_whatever_else_is_fetched(
    make_life: Callable[..., Life], make_release: Callable[..., Path]
) -> None:
    life = make_life()
    first, second = life.put(), life.put()
    store = ReleaseStore(str(life.store))
    async with life.worker() as worker:
        life.say("promote", first)
        folder = (await serves(worker, first)).folder
        for n in range(CACHED + 1):
            fetch_release(store, store.put(make_release(bytes([n]))).version)
        assert folder is not None
        assert read_release(folder).version == first
        life.say("promote", second)
        await serves(worker, second)
    fetch_release(store, second)
    assert not folder.exists()


def test_who_stops_does_not_wait_for_a_store_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ended, answers = threading.Event(), threading.Event(), threading.Event()

    def fetch(*_: Any) -> None:
        asked.set()
        answers.wait(DEADLINE_S)
        ended.set()

    monkeypatch.setattr("streams.releases.candidate.fetch_release", fetch)

    async def stop_while_it_is_fetched() -> None:
        fetching = asyncio.create_task(_fetched(ReleaseStore("memory://none"), "0" * 12))
        await asyncio.to_thread(asked.wait, DEADLINE_S)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)

    asyncio.run(stop_while_it_is_fetched())
    assert asked.is_set()
    assert not ended.is_set()
    answers.set()
    assert ended.wait(DEADLINE_S)


def test_the_versions_of_variants_differ_though_only_their_weights_do(tmp_path: Path, tiny: Path) -> None:
    made = [variant(tiny, tmp_path / str(gain), gain=gain) for gain in (1.0, 1.5)]
    assert len({read_release(folder).version for folder in made}) == 2
