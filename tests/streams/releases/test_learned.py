"""What a release's policy begins with, from slates of other releases, as workers take it."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from model_core.release.folder import add_learned, read_release
from online_learning.statistics.sums import Statistics
from online_learning.types import Candidates
from streams.learning.learned import SCHEMA_VERSION, Learned, encode_learned
from streams.releases.changes import Trial
from streams.releases.store import ReleaseStore
from streams.serving.lane import Lane
from streams.state.feature_spaces import Spaces
from streams.testing.worker import MemoryWorker
from tests.streams.releases.life import Life, serves, until
from tests.streams.releases.made import variant

SHOWN, TAKEN = 50, 20


def taught(life: Life, *, v: int = SCHEMA_VERSION, **settings: Any) -> str:
    """Put a release that begins with slates of before into the store; return its version."""
    number = len(list(life.made.iterdir())) if life.made.exists() else 0
    folder = variant(life.tiny, life.made / str(number), gain=1.0 + number / 10)
    dim = read_release(folder).feature_dim
    spaces = Spaces(life.memory.settings.model_copy(update=settings))
    learning = spaces.learning("", dim)
    statistics = learning.empty()
    rows = np.random.default_rng(0).normal(size=(SHOWN, dim))
    arms = np.arange(SHOWN, dtype=np.uint64)
    statistics.add_impressions(rows, arms=arms, times_ms=np.full(SHOWN, 1_000))
    times = np.full(TAKEN, 1_000)
    statistics.add_rewards(rows[:TAKEN], np.ones(TAKEN), arms=arms[:TAKEN], times_ms=times)
    row = Learned(v, learning.feature_space, dim, statistics.to_bytes())
    add_learned(folder, encode_learned(row), {"slates": SHOWN})
    return ReleaseStore(str(life.store)).put(folder).version


async def adopted(worker: MemoryWorker, lane: Lane) -> int:
    """Observations that the policy of a lane has learned from, once it has looked again."""
    await lane.learner.learn_now(worker.parts.partitions.live())
    return lane.policies.learner.version


@pytest.mark.parametrize("policy", ["thompson", "thompson-logistic", "thompson-disjoint"])
async def test_a_policy_goes_on_from_what_other_releases_slates_taught_and_counts_its_own_beside(
    policy: str, make_life: Callable[..., Life]
) -> None:
    life = make_life(partitions=1, policy=policy)
    first, second = life.put(), taught(life)
    async with life.worker(first) as worker:
        old = await life.slate(worker)
        life.say("promote", second)
        lane = await serves(worker, second)
        assert await adopted(worker, lane) == SHOWN + TAKEN
        life.take(old)  # which the release before is told of alone
        life.take(await life.slate(worker))
        await worker.deliver()
        assert await adopted(worker, lane) == SHOWN + TAKEN + 3 + 1
        await worker.flush()
        worker.commit()

    # It is of the release and in no row: after a restart, and with another number of partitions, it is once.
    async with life.worker(second) as worker:
        assert await adopted(worker, worker.parts.lanes.serving) == SHOWN + TAKEN + 3 + 1
    more = make_life(partitions=3, policy=policy)
    async with more.worker(second) as worker:
        assert await adopted(worker, worker.parts.lanes.serving) == SHOWN + TAKEN


async def test_what_a_policy_draws_drowns_no_release_however_rare_it_expects_rewards_to_be(
    make_life: Callable[..., Life],
) -> None:
    life = make_life(policy="thompson")
    for rate in (None, 0.01):  # a release that does not say how rare they are, and one that does
        async with life.worker(life.put(served_probability=rate)) as worker:
            lane = worker.parts.lanes.serving
            assert lane.scorer.release.served_probability == rate
            features = np.zeros((100, 10, lane.scorer.release.feature_dim), np.float32)
            features[..., 1] = [0.02, 0.0199, 0.0198, *np.full(7, 0.002)]
            features[..., 2:] = np.random.default_rng(0).random(features[..., 2:].shape) / 2
            candidates = Candidates(features[..., 1], features, np.ones((100, 10), np.bool_))
            k, seeds = np.full(100, 1), np.arange(100, dtype=np.uint64)
            first = lane.policies.live.select(candidates, k=k, seeds=seeds).index
            assert 0.1 < np.mean(first > 0) < 0.9  # the next best are tried
            assert first.max() <= 2


async def test_a_canary_begins_with_what_was_learned(make_life: Callable[..., Life]) -> None:
    life = make_life(policy="thompson")
    first, second = life.put(), taught(life)
    life.say("promote", first)
    async with life.worker(first) as worker:
        life.say("canary", second, trial=Trial(0.5, 60, 86_400.0, 0.1))
        await until(worker, lambda: worker.parts.lanes.canary is not None)
        canary = worker.parts.lanes.canary
        assert canary is not None
        assert await adopted(worker, canary) == SHOWN + TAKEN
        assert await adopted(worker, worker.parts.lanes.serving) == 0


async def test_what_was_learned_in_another_way_is_left_out_and_that_is_said(
    make_life: Callable[..., Life], caplog: pytest.LogCaptureFixture
) -> None:
    life = make_life(policy="thompson")
    version = taught(life, learn_from="reward")
    with caplog.at_level(logging.WARNING):
        async with life.worker(version) as worker:
            assert await adopted(worker, worker.parts.lanes.serving) == 0
            assert (await life.slate(worker)).model_version == version
    assert f"release {version} begins with nothing learned" in caplog.text


async def test_what_was_learned_by_a_newer_version_is_refused_and_what_serves_goes_on(
    make_life: Callable[..., Life],
) -> None:
    life = make_life(policy="thompson")
    first, newer = life.put(), taught(life, v=SCHEMA_VERSION + 1)
    async with life.worker(first) as worker:
        life.say("promote", newer)
        await until(worker, lambda: life.changes()[-1].change == "refuse")
        assert "learned.msgpack" in life.changes()[-1].reason
        assert "reads up to 1" in life.changes()[-1].reason
        assert (await life.slate(worker)).model_version == first


def test_statistics_are_moved_to_a_space_of_the_same_features_only() -> None:
    from streams.settings import Settings

    spaces = Spaces(Settings(policy="thompson-logistic"))
    statistics: Statistics = spaces.blank("", 4)
    with pytest.raises(ValueError, match="prior must be over 4 features, got 5"):
        statistics.move_to(spaces.prior("abc", 5))
