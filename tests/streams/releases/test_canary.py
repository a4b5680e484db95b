"""A worker on a log in memory serves a canary to its share of the users, and decides what becomes of it."""

import asyncio
import re
from collections.abc import Callable
from typing import Any
from zlib import crc32

import aiohttp
import pytest
from msgspec.structs import replace

from streams.console.releases import Life as Shown
from streams.console.server import start_console
from streams.experiments.shares import in_share
from streams.releases.changes import Trial, fold_changes
from streams.testing.worker import MemoryWorker
from tests.streams.releases.life import Life, serves, until

USERS = [f"u{n}" for n in range(80)]
HALF = Trial(share=0.5, least_slates=60, longest_s=86_400.0, harm=0.1)
MakeLife = Callable[..., Life]


def inside(version: str, share: float = 0.5) -> set[str]:
    """The users of a canary's share."""
    return {user for user, there in zip(USERS, in_share(USERS, version, share), strict=True) if there}


async def tries(worker: MemoryWorker, version: str | None, share: float = 0.5) -> None:
    """Wait until a canary serves a share, None: until none does."""
    lanes = worker.parts.lanes

    def so() -> bool:
        return (None if lanes.canary is None else lanes.canary.version) == version and (
            version is None or lanes.share == share
        )

    await until(worker, so)


async def slates(life: Life, worker: MemoryWorker) -> list[Any]:
    """The slate of each user, when all ask at once."""
    asked = {life.memory.events.request(user, k=3) for user in USERS}
    await worker.deliver()
    found = [one for one in life.memory.events.recommendations() if one.request_id in asked]
    assert len(found) == len(asked)
    return found


async def makers(life: Life, worker: MemoryWorker) -> dict[str, str]:
    """The release that makes the slate of each user now."""
    return {one.user_id: one.model_version for one in await slates(life, worker)}


async def test_a_canary_serves_its_share_and_nobody_when_it_is_rolled_back(make_life: MakeLife) -> None:
    life = make_life()
    first, second = life.put(), life.put()
    life.say("promote", first)
    async with life.worker(first) as worker:
        life.say("canary", second, trial=HALF, replaces=first)
        await tries(worker, second)
        served = await makers(life, worker)
        assert {user for user, version in served.items() if version == second} == inside(second)
        assert set(served.values()) == {first, second}

        fewer = Trial(0.2, 60, 86_400.0, 0.1)
        life.say("canary", second, trial=fewer, replaces=first)
        await tries(worker, second, 0.2)
        served = await makers(life, worker)
        assert {user for user, version in served.items() if version == second} == inside(second, 0.2)
        assert inside(second, 0.2) < inside(second)

        life.say("rollback", first)
        await tries(worker, None)
        assert set((await makers(life, worker)).values()) == {first}

        life.say("canary", second, trial=HALF, replaces=first)
        await tries(worker, second)
        life.say("promote", second, replaces=first)
        await serves(worker, second)
        await tries(worker, None)
        assert set((await makers(life, worker)).values()) == {second}


async def test_a_worker_that_starts_takes_the_canary_from_the_record(make_life: MakeLife) -> None:
    life = make_life()
    first, second = life.put(), life.put()
    life.say("promote", first)
    life.say("canary", second, trial=HALF)
    async with life.worker(first) as worker:
        await tries(worker, second)
        served = await makers(life, worker)
        assert {user for user, version in served.items() if version == second} == inside(second)


async def test_what_a_canary_s_users_take_is_learned_of_the_canary(make_life: MakeLife) -> None:
    life = make_life(partitions=1, policy="thompson")
    first, second = life.put(), life.put()
    life.say("promote", first)
    async with life.worker(first) as worker:
        life.say("canary", second, trial=HALF)
        await tries(worker, second)
        served = await makers(life, worker)
        for slate in life.memory.events.recommendations():
            if slate.model_version == second:
                life.take(slate)
        await worker.deliver()
        (shard,) = worker.parts.partitions.live()
        n = sum(version == second for version in served.values())
        assert shard.statistics.version == first
        tried = shard.statistics.others[second]
        assert (tried.impressions, tried.rewards) == (3 * n, n)
        assert shard.statistics.serving.impressions == 3 * (len(USERS) - n)
        assert shard.statistics.serving.rewards == 0


async def test_a_canary_that_cannot_make_a_slate_is_refused_and_its_users_are_served_all_the_same(
    make_life: MakeLife,
) -> None:
    life = make_life()
    first, second = life.put(), life.put()
    life.say("promote", first)
    async with life.worker(first) as worker:
        life.say("canary", second, trial=HALF)
        await tries(worker, second)
        lane = worker.parts.lanes.canary
        assert lane is not None

        def fails(gathered: Any) -> Any:
            raise RuntimeError("no slate today")

        lane.slates.make = fails  # type: ignore[method-assign]
        assert set((await makers(life, worker)).values()) == {first}
        await until(worker, lambda: life.changes()[-1].change == "refuse")
        assert "no slate today" in life.changes()[-1].reason
        await decided(life, worker)
        assert life.changes()[-1].change == "rollback"
        assert "refused by" in life.changes()[-1].reason
        await tries(worker, None)


async def decided(life: Life, worker: MemoryWorker) -> None:
    """Let the worker look until it has written what becomes of the canary."""
    assert worker.parts.decider is not None
    for _ in range(1000):
        await worker.parts.decider.look()
        if life.changes()[-1].change in ("promote", "rollback"):
            return
        await asyncio.sleep(0.001)
    raise AssertionError("nothing was decided")


async def shows(life: Life, worker: MemoryWorker, liked: Callable[[Any], bool], rounds: int) -> None:
    """Let every user ask so often, and take the first item of the slates that are liked; all close."""
    for _ in range(rounds):
        for slate in await slates(life, worker):
            if liked(slate):
                life.take(slate)
        await worker.deliver()
        life.memory.clock.move(life.memory.settings.attribution_window_ms + 1)
        life.memory.events.click("somebody", "i0", "view")
        life.memory.events.click("somebody else", "i0", "view")
        await worker.deliver()
        await worker.flush()


@pytest.mark.parametrize(("better", "change"), [(True, "promote"), (False, "rollback")])
async def test_who_decides_ends_a_canary_by_what_its_slates_earn_and_who_comes_after_knows_the_same(
    better: bool, change: str, make_life: MakeLife
) -> None:
    life = make_life(partitions=1)
    first, second = life.put(), life.put()
    of_ten = {first: 1 if better else 9, second: 9 if better else 1}  # slates are liked
    life.say("promote", first)
    life.say("canary", second, trial=HALF)

    def liked(slate: Any) -> bool:
        return crc32(slate.request_id.encode()) % 10 < of_ten[slate.model_version]

    async with life.worker(first) as worker:
        await tries(worker, second)
        await shows(life, worker, liked, 1)
        assert await counted(worker) == len(inside(second))
        assert life.changes()[-1].change == "canary"  # too few: and then it is killed
    async with life.worker(first) as worker:
        await tries(worker, second)
        await shows(life, worker, liked, 6)
        await decided(life, worker)
        last = life.changes()[-1]
        assert (last.change, last.version) == (change, second if better else first)
        assert (last.replaces, last.decides_ms) == (first, life.changes()[1].timestamp_ms)
        (gate,) = last.gates
        assert gate.passed is better
        assert gate.figures["canary_slates"] == 7 * len(inside(second))
        assert gate.reason in last.reason
        await serves(worker, last.version)
        await tries(worker, None)
        assert worker.parts.decider is not None
        await worker.parts.decider.look()
        assert life.changes()[-1] == last


async def counted(worker: MemoryWorker) -> float:
    """Slates of the canary that whoever decides knows of, once all have been read."""
    decider = worker.parts.decider
    assert decider is not None
    await decider.look()
    await worker.settle()
    await decider.look()
    assert decider.comparison is not None
    return float(decider.comparison.counted[1])


async def test_the_console_shows_how_a_canary_stands(
    make_life: MakeLife, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    life = make_life(partitions=1, console_port=0)
    first, second = life.put(), life.put()
    life.say("promote", first)
    life.say("canary", second, trial=HALF)

    async def read(settings: Any) -> Shown:
        canary = fold_changes(life.changes()).canary
        shadow = None if canary is None else replace(canary, change="shadow")
        changes = [(change, False) for change in life.changes()]
        return Shown(changes, len(changes), live=first, canary=canary, shadow=shadow)

    monkeypatch.setattr("streams.console.release_pages.read_life", read)
    caplog.set_level("INFO", "streams.console")
    async with life.worker(first) as worker:
        await tries(worker, second)
        stop = await start_console(worker.parts)
        found = re.search(r"console on (http://\S+)", caplog.text)
        assert found is not None
        async with aiohttp.ClientSession(found[1]) as client:

            async def page() -> str:
                async with client.get("/release") as answer:
                    assert answer.status == 200
                    return await answer.text()

            assert f"Canary <code>{second}</code>" in (text := await page())
            assert "It serves 50 % of the users" in text
            assert f'name="ends" value="{second}"' in text
            assert "The worker of partition 0 compares it" in text
            assert "answers 50 % of the requests with it as well" in text
            others = set(USERS) - inside(second)
            likes = {*sorted(inside(second))[::2], *sorted(others)[::2]}  # half of either: nothing is sure
            await shows(life, worker, lambda slate: slate.user_id in likes, 2)
            n = int(await counted(worker))
            assert n == 2 * len(inside(second)) >= HALF.least_slates
            mine = f'canary <code>{second}</code></th><td class="n">{n}</td>'
            assert mine in (text := await page())
            assert " … " in text[text.index(mine) :]
        await stop()
