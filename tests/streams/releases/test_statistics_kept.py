"""What a policy has learned stays with the release that it was learned under, whichever serves."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from streams.state.policy_row import ARM_PREFIX, is_arm_in
from tests.streams.releases.life import Life, serves


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
