import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from online_learning.statistics.posterior import LinearPrior
from online_learning.statistics.sums import Statistics
from streams.learning import learner as learner_module
from streams.learning.learner import Learner
from streams.learning.policy_set import PolicySet
from streams.metrics import Metrics
from streams.settings import load_settings
from streams.state.policy_row import PolicyRow, encode_policy_row
from streams.state.shard import Shard
from tests.streams.state.test_slate_learning import shard

PRIOR = LinearPrior(np.array([1.0, 0.5, -0.5]))
ARMS = np.arange(200, dtype=np.uint64)


class Watched(PolicySet):
    """Remembers what was adopted and in which thread."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(load_settings(**settings), PRIOR, Metrics(process=False))
        self.adopted: list[bytes] = []
        self.threads: set[int] = set()

    def update(self, statistics: Statistics) -> None:
        self.threads.add(threading.get_ident())
        self.adopted.append(statistics.to_bytes())
        super().update(statistics)


def learning_shard(policies: PolicySet, seed: int = 0) -> Shard:
    made = shard(policies.learning)
    add(made, seed)
    return made


def add(made: Shard, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(200, 3))
    made.statistics.serving.add_impressions(rows, arms=ARMS)
    made.statistics.serving.add_rewards(rows[:50], np.ones(50), arms=ARMS[:50])


def ready(policies: PolicySet) -> Learner:
    return Learner(policies, Metrics(process=False))


async def test_learning_takes_a_tenth_of_the_time_unless_it_is_to_be_done_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, now_s, begun = ready(Watched(policy="thompson")), [0.0], list[float]()

    async def takes_two_seconds(shards: list[Shard]) -> None:
        begun.append(now_s[0])
        now_s[0] += 2.0

    monkeypatch.setattr(learner, "_learn", takes_two_seconds)
    monkeypatch.setattr(learner_module.time, "perf_counter", lambda: now_s[0])
    for at in (0.0, 2.0, 19.9, 20.0):
        now_s[0] = at
        await learner.learn([])
    await learner.learn_now([])
    assert begun == [0.0, 20.0, 22.0]


@pytest.mark.parametrize("policy", ["thompson", "thompson-disjoint", "linucb-hybrid", "thompson-logistic"])
async def test_what_is_adopted_is_the_sum_of_all_partitions_made_in_a_thread(policy: str) -> None:
    policies = Watched(policy=policy)
    learner, own = ready(policies), learning_shard(policies, 1)
    other = learning_shard(policies, 2).statistics.serving
    row = PolicyRow(1, other.feature_space, 0, 0, 0, 0, other.summary())
    learner.on_statistics(9, encode_policy_row(row))
    for _, value in other.take_rows():
        learner.on_arm(9, value)
    await learner.learn_now([own])
    assert policies.adopted[-1] == (other + own.statistics.serving).to_bytes()
    assert threading.get_ident() not in policies.threads
    assert policies.learner.version == 500


@pytest.mark.parametrize("policy", ["thompson", "thompson-disjoint"])
async def test_nothing_is_learned_again_until_something_changes(policy: str) -> None:
    policies = Watched(policy=policy)
    learner, own = ready(policies), learning_shard(policies)
    await learner.learn_now([own])
    await learner.learn_now([own])
    assert len(policies.adopted) == 1
    add(own, 3)
    await learner.learn_now([own])
    assert policies.adopted[1:] == [(own.statistics.serving + policies.learning.empty()).to_bytes()]


async def test_a_partition_that_goes_and_comes_back_is_copied_anew() -> None:
    policies = Watched(policy="thompson-disjoint")
    learner, own = ready(policies), learning_shard(policies, 1)
    await learner.learn_now([own])
    learner.keep(own)
    await learner.learn_now([])
    assert policies.learner.version == 250
    learner.drop(own.partition)
    again = learning_shard(policies, 4)
    await learner.learn_now([again])
    assert policies.adopted[-1] == (again.statistics.serving + policies.learning.empty()).to_bytes()


async def test_the_event_loop_runs_between_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "PARTS_AT_ONCE", 16)
    policies = Watched(policy="thompson-disjoint")
    learner, own = ready(policies), learning_shard(policies)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while not policies.adopted:
            turns += 1
            await asyncio.sleep(0)

    await asyncio.gather(learner.learn_now([own]), count())
    assert turns >= 200 // 16
    assert policies.learner.version == 250


async def test_shards_are_told_where_to_develop_logistic_rows() -> None:
    policies = Watched(policy="thompson-logistic")
    learner, own = ready(policies), learning_shard(policies)
    await learner.learn_now([own])
    assert own.statistics.next_reference is not None
    np.testing.assert_allclose(own.statistics.next_reference, policies.learner.weights, rtol=1e-5)  # type: ignore[attr-defined]


async def test_policies_that_do_not_learn_online_know_what_their_release_begins_with() -> None:
    policies, begun = Watched(policy="thompson"), learning_shard(Watched(policy="thompson"), 5)
    learner = Learner(policies, Metrics(process=False), begun=begun.statistics.serving, online=False)
    other = learning_shard(policies, 2).statistics.serving
    learner.on_statistics(
        9, encode_policy_row(PolicyRow(1, other.feature_space, 0, 0, 0, 0, other.summary()))
    )
    own = learning_shard(policies, 1)
    await learner.learn_now([own])
    add(own, 3)
    await learner.learn_now([own])
    assert policies.adopted == [(begun.statistics.serving + policies.learning.empty()).to_bytes()]
