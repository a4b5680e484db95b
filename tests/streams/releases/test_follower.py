"""A worker on a log in memory follows `model-releases`: it swaps, refuses, rolls back, goes on learning."""

import asyncio
import json
import logging
import shutil
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import KafkaConnectionError
from fsspec.implementations.local import LocalFileSystem

from model_core.release.baseline import BaselineScorer
from model_core.release.folder import EASE, MANIFEST, RANKER, read_release, sign_manifest
from model_core.signals.ease import Ease
from streams.items.table import AnyScorer, load_scorer
from streams.releases.candidate import _fetched
from streams.releases.store import ReleaseStore
from streams.state.policy_row import ARM_PREFIX, is_arm_in
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


@pytest.mark.parametrize("error", [MemoryError(), OSError("no file is left"), RuntimeError("std::bad_alloc")])
async def test_what_may_be_over_by_the_next_try_is_no_verdict_on_a_release(
    error: Exception, make_life: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.releases.follower.RETRY_S", 0.01)
    life = make_life()
    first = life.put()
    errors = iter([error])

    def once_short(*given: Any) -> AnyScorer:
        for one in errors:
            raise one
        return load_scorer(*given)

    monkeypatch.setattr("streams.releases.candidate.load_scorer", once_short)
    async with life.worker() as worker:
        life.say("promote", first)
        await serves(worker, first)
        assert [change.change for change in life.changes()] == ["promote", "delay"]
        assert (life.changes()[-1].reason, value(worker, "releases_delayed_total")) == (
            str(error) or repr(error),
            1,
        )
        assert value(worker, "releases_refused_total") == 0


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


async def test_rows_of_items_go_with_the_release_that_learned_them(make_life: Callable[..., Life]) -> None:
    life = make_life(partitions=1, policy="thompson-disjoint")
    first = life.put()
    async with life.worker(first) as worker:
        life.take(await life.slate(worker))
        await worker.deliver()
        await worker.flush()
        worker.commit()
    assert arms(life)
    otherwise = life.memory.settings.model_copy(update={"learn_from": "reward"})
    life.memory = replace(life.memory, settings=otherwise)
    async with life.worker(first) as worker:  # it learns in another way: those rows are read by nobody
        life.take(await life.slate(worker))
        await worker.deliver()
        await worker.flush()
        (shard,) = worker.parts.partitions.live()
        assert all(is_arm_in(key, shard.statistics.serving.feature_space) for key in arms(life))


def arms(life: Life) -> set[bytes]:
    """Keys of the rows of items that the changelog holds."""
    rows = {record.key: record.value for record in life.memory.log.records("policy-state")}
    return {key for key, value in rows.items() if key.startswith(ARM_PREFIX) and value is not None}


async def test_no_slate_is_of_two_releases_when_they_change_under_load(
    make_life: Callable[..., Life],
) -> None:
    life = make_life()
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


async def test_each_slate_is_learned_from_in_the_space_of_its_own_release(
    make_life: Callable[..., Life],
) -> None:
    life = make_life(partitions=1, policy="thompson")
    first, second = life.put(), life.put()
    async with life.worker(first) as worker:
        old = await life.slate(worker)
        life.say("promote", second)
        await serves(worker, second)
        new = await life.slate(worker)
        for one in (new, old):  # what the release before showed is still rewarded
            life.take(one)
        await worker.deliver()
        (shard,) = worker.parts.partitions.live()
        assert learned(shard) == {first: (3, 1), second: (3, 1)}
        await worker.flush()
        worker.commit()

    expected = {first: (3, 1), second: (3, 1)}
    for begins, serving in ((second, second), (first, second), (second, first)):
        if serving == first:
            life.say("rollback", first)
        async with life.worker(begins) as worker:
            await serves(worker, serving)
            (shard,) = worker.parts.partitions.live()
            assert learned(shard) == expected
            life.take(await life.slate(worker))
            await worker.deliver()
            shown, taken = expected[serving]
            expected[serving] = shown + 3, taken + 1
            assert learned(shard) == expected
        # It was killed before a flush: the log brings back what it had learned, each in its own space.


def learned(shard: Any) -> dict[str, tuple[int, int]]:
    """Impressions and rewards by release."""
    every = {shard.statistics.version: shard.statistics.serving, **shard.statistics.others}
    return {version: (one.impressions, one.rewards) for version, one in every.items()}


async def test_a_policy_goes_on_where_it_was_when_its_release_serves_again(
    make_life: Callable[..., Life],
) -> None:
    life = make_life(partitions=1, policy="thompson")
    first, second = life.put(), life.put()
    async with life.worker(first) as worker:
        life.take(await life.slate(worker))
        await worker.deliver()
        for change, version in (("promote", second), ("rollback", first)):
            life.say(change, version)
            await serves(worker, version)
        lane, shards = worker.parts.lanes.serving, worker.parts.partitions.live()
        await lane.learner.learn(shards)
        assert lane.policies.learner.version == 4  # three impressions and a reward


async def test_a_partition_that_is_restored_between_swaps_keeps_what_three_releases_before_learned(
    make_life: Callable[..., Life],
) -> None:
    life = make_life(partitions=1, policy="thompson")
    versions = [life.put() for _ in range(5)]
    async with life.worker(versions[0]) as worker:
        for version in versions[1:]:
            life.say("promote", version)
            await serves(worker, version)
            life.take(await life.slate(worker))
            await worker.deliver()
        for _ in range(2):
            (shard,) = worker.parts.partitions.live()
            assert learned(shard) == dict.fromkeys(versions[1:], (3, 1))
            await worker.assign([])
            await worker.assign([0])
    life.say("rollback", versions[0])
    async with life.worker(versions[0]) as worker:  # nobody knows it any more
        await serves(worker, versions[0])
        (shard,) = worker.parts.partitions.live()
        assert learned(shard) == {versions[0]: (0, 0)} | dict.fromkeys(versions[2:], (3, 1))


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


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no graph": ({"files": {RANKER: b"no graph"}}, "must be an ONNX graph that can be loaded"),
    "other actions": ({"actions": {"purchase": 1.0}}, "actions must have one of the release's"),
    "another text encoder": (
        {"text_encoder": {"name": "minilm", "fingerprint": "abc"}}, "must be that of the items"
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        *REFUSALS,
        "missing",
        "tampered",
        "changed while it is read",
        "newer schema",
        "pairing",
        "depth",
        "sizes",
        "EASE",
    ],
)
async def test_what_cannot_be_served_is_refused_and_what_serves_goes_on(
    name: str,
    make_life: Callable[..., Life],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    life = make_life()
    first = life.put()
    made, reason = REFUSALS.get(name, ({}, ""))
    if name in ("pairing", "depth"):
        signals = json.loads((life.tiny / MANIFEST).read_text())["signals"]
        changed = {"window": 3} if name == "pairing" else {"depth": 5000}
        made = {"signals": signals | changed}
        reason = "must pair events as" if name == "pairing" else "history_limit must be at least"
    elif name == "sizes":
        dims = json.loads((life.tiny / MANIFEST).read_text())["dims"]
        made, reason = (
            {"dims": dims | {"text_dim": dims["text_dim"] + 1}},
            "must take items of vocabulary.json",
        )
    elif name == "EASE":
        ease = Ease.load(life.tiny / EASE)
        replace(ease, items=ease.items + np.int32(ease.n_items)).save(tmp_path / EASE)
        made, reason = {"files": {EASE: (tmp_path / EASE).read_bytes()}}, "EASE weights on its own"
    bad = life.put(**made)
    if name == "missing":
        shutil.rmtree(life.store / bad)
        reason = "does not hold it"
    elif name == "tampered":
        (life.store / bad / RANKER).write_bytes(b"something else")
        reason = "must have SHA-256"
    elif name == "changed while it is read":
        reads_once(monkeypatch, lambda: (life.store / bad / RANKER).write_bytes(b"something else"))
        reason = "is not what it says"
    elif name == "newer schema":
        manifest = json.loads((life.store / bad / MANIFEST).read_text())
        sign_manifest(life.store / bad, manifest | {"schema": 99})
        reason = "release schema must be"
    async with life.worker(first) as worker:
        follower = worker.parts.follower
        assert follower is not None
        with caplog.at_level(logging.ERROR, "streams.releases.follower"):
            life.say("promote", bad)
            await until(worker, lambda: bad in follower.refused)
        assert reason in follower.refused[bad]
        assert f"release {bad} is refused, {first} serves on" in caplog.text
        assert value(worker, "releases_refused_total") == 1
        await until(worker, lambda: life.changes()[-1].change == "refuse")
        assert (life.changes()[-1].version, reason in life.changes()[-1].reason) == (bad, True)
        assert (await life.slate(worker)).model_version == first
        assert len(list(worker.parts.lanes)) == 1
        second = life.put()
        life.say("promote", second)
        await serves(worker, second)
        assert [change.change for change in life.changes()].count("refuse") == 1


def reads_once(monkeypatch: pytest.MonkeyPatch, then: Callable[[], Any]) -> None:
    """Let something happen to a store when its first file has been read."""
    get, calls = LocalFileSystem.get_file, iter([then])

    def get_file(self: Any, *places: Any, **how: Any) -> None:
        get(self, *places, **how)
        for happens in calls:
            happens()

    monkeypatch.setattr(LocalFileSystem, "get_file", get_file)


async def test_a_store_that_is_away_is_asked_again_and_nothing_is_refused(
    make_life: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.releases.follower.RETRY_S", 0.01)
    life = make_life()
    first = life.put()
    async with life.worker() as worker:
        away = life.store.rename(life.store.with_name("away"))
        life.say("promote", first)
        await until(worker, lambda: value(worker, "releases_delayed_total") >= 2)
        away.rename(life.store)
        await serves(worker, first)
        assert [change.change for change in life.changes()] == ["promote", "delay"]  # said once
        assert f"release store {life.store} is not there" in life.changes()[-1].reason


async def test_a_broker_that_is_away_is_asked_again_and_nothing_is_refused(
    make_life: Callable[..., Life], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.releases.follower.RETRY_S", 0.01)
    life = make_life()
    first = life.put()
    async with life.worker() as worker:
        await worker.assign([0])
        reads = iter([KafkaConnectionError("the broker is away")])
        read = life.memory.log.read

        def once_away(topic: str, partition: int, **how: Any) -> Any:
            for error in reads:
                raise error
            return read(topic, partition, **how)

        monkeypatch.setattr(life.memory.log, "read", once_away)
        life.say("promote", first)
        await serves(worker, first)
        assert list(reads) == []
        assert [change.change for change in life.changes()] == ["promote"]


async def test_a_release_that_is_promoted_again_is_tried_again(make_life: Callable[..., Life]) -> None:
    life = make_life()
    first, second = life.put(), life.put()
    whole = (life.store / second / RANKER).read_bytes()
    (life.store / second / RANKER).write_bytes(b"damaged")
    async with life.worker(first) as worker:
        follower = worker.parts.follower
        assert follower is not None
        life.say("promote", second)
        await until(worker, lambda: second in follower.refused)
        (life.store / second / RANKER).write_bytes(whole)
        life.say("promote", second)
        await serves(worker, second)
        assert follower.refused == {}


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
