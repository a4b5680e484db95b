"""Users in quarantine are served as usual and do not influence others, whatever happens to workers."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest

from streams.errors import Fenced, OwnershipLost, SlatestreamError
from streams.kafka.inputs import Inputs
from streams.kafka.partitioner import partition_of
from streams.kafka.topics import TOPICS
from streams.quarantine.forget import Forgetting
from streams.state.item_index import keys_of
from streams.state.slate_learning import SlateLearning
from streams.testing.worker import MemoryWorker
from streams.worker import suspects
from tests.streams.conftest import MakeMemory, Memory
from tests.streams.verify.test_verify import counting, live, traffic, verifier
from tests.streams.worker.test_http import http

FAKE, PLACE = "u1", partition_of("u1", 2)


async def put(worker: MemoryWorker, *, held: bool):
    shard = await worker.parts.partitions.shard(PLACE)
    quarantines = worker.parts.quarantines
    if held:
        return await quarantines.hold(shard, FAKE, why="test")
    return await quarantines.release(shard, FAKE)


def forgetting(memory: Memory) -> Forgetting:
    async def committed(partition: int) -> dict[str, int]:
        return {name: memory.log.committed.get((name, partition), 0) for name in ("clicks", "users")}

    return Forgetting(memory.settings, memory.log, memory.log.ends(), committed=committed)


async def test_a_quarantine_is_not_confirmed_while_it_cannot_be_made_durable(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slate has been rewarded before it is out, and the group does not answer: no flush writes then."""
    async with memory.worker() as worker:
        await worker.deliver()
        before = len(memory.log.records("user-state", PLACE))
        with monkeypatch.context() as silent:
            silent.setattr(Inputs, "owned", False)
            silent.setattr(SlateLearning, "is_ahead", True)
            with pytest.raises(OwnershipLost):
                await put(worker, held=True)
        assert len(memory.log.records("user-state", PLACE)) == before
        assert (await put(worker, held=True)).held
        assert len(memory.log.records("user-state", PLACE)) > before


@pytest.mark.parametrize("policy", ["greedy", "thompson-disjoint"])
async def test_a_worker_that_holds_users_back_equals_its_logs_and_so_does_the_next_one(
    make_memory: MakeMemory, policy: str
) -> None:
    memory = make_memory(policy=policy)
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 60)
        held = await put(worker, held=True)
        assert held.held
        await traffic(memory, worker, 60, 120)
        shard = await worker.parts.partitions.shard(PLACE)
        assert [one for one in memory.events.recommendations() if one.user_id == FAKE][-1].slate
        assert shard.profiles.events(shard.profiles.row_of(FAKE)) > 60 / 7
        assert (await live(memory, worker, PLACE)).differences == []
    async with memory.worker() as again:  # what is not flushed is folded again, by the same marks
        await again.deliver()
        assert (await live(memory, again, PLACE)).differences == []
        let_go = await put(again, held=False)
        (span,) = let_go.spans
        assert span.begin == held.spans[0].begin < span.end
        await traffic(memory, again, 120, 160)
        assert (await live(memory, again, PLACE)).differences == []
        await again.flush()
        again.commit()
        of = counting(again)
    assert (await verifier(memory).stored(PLACE, of)).differences == []


async def test_nothing_is_learned_of_their_slates_and_clicks(make_memory: MakeMemory) -> None:
    memory = make_memory(policy="thompson-disjoint")
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 30)
        memory.events.request(FAKE, request_id="before", k=3)
        await worker.deliver()
        earlier = memory.events.recommendations()[-1]
        assert earlier.request_id == "before"
        await put(worker, held=True)
        memory.events.click(FAKE, "i1", "view")
        await worker.deliver()
        shard = await worker.parts.partitions.shard(PLACE)
        shard.learning.count_published()
        before = shard.statistics.serving.to_bytes(), shard.covisits.popularity.copy().tolist()
        memory.events.request(FAKE, request_id="held", k=3)
        await worker.deliver()
        slate = memory.events.recommendations()[-1]
        assert slate.request_id == "held"
        for item in slate.slate:
            memory.events.click(FAKE, item.item_id, "like", request_id="held")
        memory.events.click(FAKE, earlier.slate[0].item_id, "like", request_id="before")
        await worker.deliver()
        shard.learning.count_published()
        assert (shard.statistics.serving.to_bytes(), shard.covisits.popularity.tolist()) == before
        assert "slatestream_clicks_held_total 5.0" in worker.parts.metrics.render()[0].decode()


async def test_what_users_share_is_folded_as_if_they_had_done_nothing(memory: Memory) -> None:
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 90)
        await worker.flush()
        worker.commit()
        of = counting(worker)
    assert await forgetting(memory).forget(PLACE, [FAKE], of, now_ms=1, why="bot") > 0
    async with memory.worker() as again:
        await traffic(memory, again, 90, 120)
        assert (await live(memory, again, PLACE)).differences == []
        shard, index = await again.parts.partitions.shard(PLACE), again.parts.shared.index
        likes = {
            click.item_id
            for _, click in memory.events.clicks()[PLACE]
            if click.user_id != FAKE and click.action in memory.settings.positive_actions
        }
        counted = [row for row in range(shard.covisits.n_items) if shard.covisits.popularity[row]]
        assert {index.ids[row] for row in counted} == likes
        (mark,) = again.parts.quarantines.of(shard).users
        assert (mark.user_id, mark.held, mark.why) == (FAKE, True, "bot")


async def test_of_who_is_forgotten_and_then_erased_no_compacted_topic_has_a_byte_or_a_share(
    memory: Memory,
) -> None:
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 90)
        await worker.flush()
        worker.commit()
        of = counting(worker)
    await forgetting(memory).forget(PLACE, [FAKE], of, now_ms=1, why=f"asked for by {FAKE}")
    memory.events.erase(FAKE)
    for _ in range(2):  # the second restores what the first has written
        async with memory.worker() as again:
            await again.deliver()
            assert (await live(memory, again, PLACE)).differences == []
            shard, index = await again.parts.partitions.shard(PLACE), again.parts.shared.index
            likes = {
                click.item_id
                for _, click in memory.events.clicks()[PLACE]
                if click.user_id != FAKE and click.action in memory.settings.positive_actions
            }
            counted = np.flatnonzero(shard.covisits.popularity[: shard.covisits.n_items])
            assert set(index.keys[counted].tolist()) == set(keys_of(likes).tolist())
            await again.flush()
            again.commit()
    compacted = [name for name, spec in TOPICS.items() if spec.cleanup == "compact"]
    for name in compacted:
        memory.log.compact(name, tombstones=True)
        rows = [(record.key or b"") + (record.value or b"") for record in memory.log.records(name)]
        assert not [row for row in rows if re.search(rb"\b%s\b" % FAKE.encode(), row)], name
    assert len(compacted) >= 7


async def test_forgetting_gives_way_to_a_worker_and_to_a_log_that_has_lost_its_beginning(
    memory: Memory,
) -> None:
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 30)
        await worker.flush()
        worker.commit()
        of = counting(worker)
        one = forgetting(memory)
        taken = one._writers.write

        async def too_late(partition, groups):
            await worker.parts.outputs.states.open(partition)
            await taken(partition, groups)

        one._writers.write = too_late  # type: ignore[method-assign]
        with pytest.raises(Fenced):
            await one.forget(PLACE, [FAKE], of, now_ms=1, why="")
        assert (await live(memory, worker, PLACE)).differences == []
    memory.log.expire("clicks", PLACE, 5)
    with pytest.raises(SlatestreamError, match="begins at offset 5: what users added before is in no log"):
        await forgetting(memory).forget(PLACE, [FAKE], of, now_ms=1, why="")


@pytest.mark.parametrize("comes_back", [False, True])
async def test_forgetting_is_refused_where_workers_forget_what_a_fold_would_bring_back(
    comes_back: bool, make_memory: MakeMemory
) -> None:
    memory = make_memory(user_ttl_days=1.0)
    idle = next(name for n in range(99) if partition_of(name := f"idle{n}", 2) == PLACE)
    memory.events.click(idle, "i1", "like")
    memory.clock.move(2 * 86_400_000)
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 20)
        if comes_back:
            memory.events.click(idle, "i2", "like")
            await worker.deliver()
        await worker.flush()
        worker.commit()
        of = counting(worker)
    before = [record.offset for record in memory.log.records("policy-state")]
    with pytest.raises(SlatestreamError, match="users are forgotten who were idle for 1 days"):
        await forgetting(memory).forget(PLACE, [FAKE], of, now_ms=1, why="")
    assert [record.offset for record in memory.log.records("policy-state")] == before


async def test_operators_hold_back_let_go_and_see_who_over_http(make_memory: MakeMemory) -> None:
    memory = make_memory(http_port=0)
    async with memory.worker() as worker:
        await traffic(memory, worker, 0, 20)
        async with http(worker) as (client, url):
            base = url.partition("/v1/")[0]
            post = partial(client.post, f"{base}/v1/quarantine/{FAKE}")
            async with post(json={"held": True, "why": "floods"}) as answer:
                assert answer.status == 200
                assert (await answer.json())["held"]
            async with client.get(f"{base}/v1/quarantined/{PLACE}") as answer:
                (one,) = (await answer.json())["users"]
                assert (one["user_id"], one["held"], one["why"]) == (FAKE, True, "floods")
            async with post(json={"held": False}) as answer:
                assert not (await answer.json())["held"]
            for body in ({}, {"held": "yes"}, {"held": True, "until": 3}, {"held": True, "why": "x" * 201}):
                async with post(json=body) as answer:
                    assert answer.status == 400
            async with client.post(f"{base}/v1/quarantine/nobody", json={"held": False}) as answer:
                assert answer.status == 409
                assert "has never been in quarantine" in await answer.text()


def crowd(memory: Memory, days: int) -> None:
    """Twelve users like three items that few have liked for weeks; the others like what they always do."""
    now = memory.clock.now_ms
    for day in range(days):
        for n in range(30):
            item = f"steady{(n + day) % 20}" if n != day else f"target{day % 3}"
            memory.events.click(f"honest{n}", item, "like", timestamp_ms=now - (days - day) * DAY + n)
    for fake in range(12):
        for n in range(12):
            memory.events.click(f"fake{fake}", f"target{n}" if n < 3 else f"i{fake * n}", "like")


DAY = 86_400_000


@pytest.mark.parametrize("at", [None, 1.0])
async def test_who_pushes_items_together_is_told_and_put_there_where_that_is_asked_for(
    make_memory: MakeMemory, at: float | None
) -> None:
    memory = make_memory(partitions=1, quarantine_at=at)
    crowd(memory, 21)
    async with memory.worker() as worker:
        await worker.deliver()
        sweeper, shard = worker.parts.suspects, await worker.parts.partitions.shard(0)
        await sweeper.sweep()
        told = {one.user_id for one in sweeper.of(shard)}
        held = {mark.user_id for mark in worker.parts.quarantines.of(shard).users}
        fakes = {f"fake{n}" for n in range(12)}
        assert (told, held) == ((fakes, set()) if at is None else (set(), fakes))
        metrics = worker.parts.metrics.render()[0].decode()
        assert f"slatestream_users_suspect {12.0 if at is None else 0.0}" in metrics
        told = {name: worker.parts.inspector.user(name, shard) for name in ("fake1", "honest1")}
        assert told["fake1"].suspicion > 1 > told["honest1"].suspicion
        assert [one.quarantined for one in told.values()] == [at is not None, False]
        if at is None:
            return
        await worker.parts.quarantines.release(shard, "fake3")
        memory.events.click("fake3", "target0", "like")
        await worker.deliver()
        await sweeper.sweep()
        assert [one.user_id for one in sweeper.of(shard)] == ["fake3"]  # and is not put back
        memory.events.erase("fake3")
        await worker.deliver()
        await sweeper.sweep()
        assert sweeper.of(shard) == []


async def test_a_quarantine_ends_by_itself_and_begins_again_only_for_who_is_still_suspect(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(partitions=1, quarantine_at=1.0, quarantine_days=2.0)
    crowd(memory, 21)
    async with memory.worker() as worker:
        await worker.deliver()
        sweeper, shard = worker.parts.suspects, await worker.parts.partitions.shard(0)
        await worker.parts.quarantines.hold(shard, "honest1", why="a mistake")

        def held() -> set[str]:
            return {mark.user_id for mark in worker.parts.quarantines.of(shard).users if mark.held}

        await sweeper.sweep()
        fakes = {f"fake{n}" for n in range(12)}
        assert held() == fakes | {"honest1"}
        memory.clock.move(2 * DAY - 1)
        await worker.parts.quarantines.release(shard, "fake3")
        await sweeper.sweep()
        assert held() == fakes - {"fake3"} | {"honest1"}
        memory.clock.move(1)
        await sweeper.sweep()
        sweeper._seen.clear()  # as after a restart: all are looked at, and nobody has clicked since
        await sweeper.sweep()
        assert {one.user_id for one in sweeper.of(shard)} == fakes
        assert held() == set()
        for user in ("honest1", "fake0"):
            memory.events.click(user, "target0", "like")
        await worker.deliver()
        await sweeper.sweep()
        assert held() == {"fake0"}
        memory.events.click("honest1", "target1", "like")
        await worker.deliver()
        assert (await live(memory, worker, 0)).differences == []


async def test_a_suspect_who_is_erased_while_others_are_looked_at_is_not_put_into_quarantine(
    make_memory: MakeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = make_memory(partitions=1, quarantine_at=1.0)
    crowd(memory, 21)
    async with memory.worker() as worker:
        await worker.deliver()
        shard = await worker.parts.partitions.shard(0)

        look = suspects._look

        def look_and_erase(*values: Any) -> Any:
            found = look(*values)
            with shard.users_lock:
                assert shard.profiles.erase("fake3")
            return found

        monkeypatch.setattr(suspects, "_look", look_and_erase)
        await worker.parts.suspects.sweep()
        held = {mark.user_id for mark in worker.parts.quarantines.of(shard).users}
        assert held == {f"fake{n}" for n in range(12)} - {"fake3"}
