"""The canary's events go through a worker, and what others get is as without them."""

from typing import Any

import pytest

from streams.canary.probe import NAME, probe_action, probe_click, probe_request, probe_users
from streams.errors import SlatestreamError
from streams.events import encode
from streams.experiments.definition import Experiment, Variant
from streams.kafka.partitioner import partition_of
from streams.settings import Settings
from streams.state.shard import Shard
from streams.testing.worker import MemoryWorker
from tests.streams.conftest import MakeMemory, Memory

ITEMS = [f"i{number}" for number in range(6)]
USERS = [f"u{number}" for number in range(8)]
LEARNS = {
    "policy": "thompson",
    "attribution_window_ms": 1_000,
    "candidate_policies": ("random",),
}


def test_there_is_one_user_for_each_partition() -> None:
    users = probe_users(8)
    assert [partition_of(user, 8) for user in users] == list(range(8))


def test_the_action_weighs_least_of_those_that_ask_for_no_slate() -> None:
    actions = {"view": 0.2, "like": 2.0, "dislike": -1.0}
    assert probe_action(Settings(actions=actions)) == "view"
    assert probe_action(Settings(actions=actions, recommend_on=("view",))) == "dislike"
    with pytest.raises(SlatestreamError, match="needs an action that is not in `recommend_on`"):
        probe_action(Settings(actions={"like": 1.0}, recommend_on=("like",)))


async def traffic(memory: Memory, worker: MemoryWorker, *, canary: bool) -> list[Any]:
    """Rounds of real users, perhaps with the canary between them; return the real slates."""
    probes = probe_users(memory.settings.partitions)
    action = probe_action(memory.settings)
    for number in range(5):
        now_ms = int(memory.clock.time() * 1000)
        if canary:
            for user in probes:
                memory.events.raw("clicks", user, encode(probe_click(user, action, timestamp_ms=now_ms)))
                memory.events.raw("requests", user, encode(probe_request(user, timestamp_ms=now_ms, k=3)))
        for at, user in enumerate(USERS):
            memory.events.click(user, ITEMS[(at + number) % len(ITEMS)], event_id=f"e{number}-{at}")
            memory.events.request(user, request_id=f"r{number}-{at}", k=3)
        await worker.deliver()
        for at, user in enumerate(USERS):
            shown = [
                slate for slate in memory.events.recommendations() if slate.request_id == f"r{number}-{at}"
            ]
            memory.events.click(
                user, shown[0].slate[0].item_id, event_id=f"c{number}-{at}", request_id=f"r{number}-{at}"
            )
        await worker.deliver()
        memory.clock.move(2_000)
        await worker.flush()
    real = [slate for slate in memory.events.recommendations() if not slate.user_id.startswith(NAME)]
    return [(s.request_id, s.slate, s.candidate_propensities, s.experiment, s.variant) for s in real]


def counted(worker: MemoryWorker, shard: Shard, item: str) -> tuple[int, dict[str, int]]:
    """Popularity of an item, and how often it was met with others."""
    index = worker.parts.shared.index
    rows = index.known_rows([item])
    if rows[0] >= shard.covisits.n_items:
        return 0, {}
    _, others, counts = shard.covisits.neighbours_of(rows)
    neighbours = {index.ids[row]: int(n) for row, n in zip(others, counts, strict=True)}
    return int(shard.covisits.popularity[rows[0]]), neighbours


def learned(worker: MemoryWorker, shard: Shard) -> dict[str, Any]:
    """What a shard knows of items and has learned of slates."""
    shard.learning.count_published()
    return {
        "items": {item: counted(worker, shard, item) for item in ITEMS},
        "impressions": shard.statistics.serving.impressions,
        "rewards": shard.statistics.serving.rewards,
        "sums": shard.statistics.serving.summary(),
        "waiting": sorted(slate.record.request_id for slate in shard.slates.slates()),
    }


async def run(make_memory: MakeMemory, *, canary: bool) -> dict[str, Any]:
    memory = make_memory(**LEARNS)
    for item in ITEMS:
        memory.events.content(item)
    variants = [Variant("control", "live"), Variant("other", "random")]
    experiment = Experiment("one", "ab", variants, share=1.0, started_ms=1)
    memory.log.append("experiments", 0, [(b"one", encode(experiment))])
    found: dict[str, Any] = {}
    async with memory.worker() as worker:
        await worker.deliver()
        found["slates"] = await traffic(memory, worker, canary=canary)
        found["shards"] = [learned(worker, await worker.parts.partitions.shard(p)) for p in range(2)]
        feedback = [(f.request_id, f.rewards, f.actions, f.variant) for f in memory.events.feedback()]
        found["feedback"] = sorted(feedback)
        body = worker.parts.metrics.render()[0].decode().splitlines()
        found["experiment"] = [line for line in body if line.startswith("slatestream_experiment_")]
        found["impressions"] = [line for line in body if "impressions_total" in line and line[0] != "#"]
        worker.commit()
    async with memory.worker() as worker:
        found["restored"] = [learned(worker, await worker.parts.partitions.shard(p)) for p in range(2)]
    found["previews"] = [s for s in memory.events.recommendations() if s.user_id.startswith(NAME)]
    return found


async def test_nothing_that_others_get_or_that_is_learned_depends_on_the_canary(
    make_memory: MakeMemory,
) -> None:
    without, beside = await run(make_memory, canary=False), await run(make_memory, canary=True)
    previews = beside.pop("previews")
    assert not without.pop("previews")
    assert beside == without
    assert without["feedback"]
    assert any(variant == "other" for *_, variant in without["feedback"])
    assert without["experiment"]
    assert all(shard["items"]["i0"][1] for shard in without["shards"])
    assert sum(shard["impressions"] for shard in without["shards"]) > 0
    assert len(previews) == 5 * 2
    for slate in previews:
        assert len(slate.slate) == 3
        assert NAME not in [item.item_id for item in slate.slate]
        assert (slate.experiment, slate.variant, slate.features) == (None, None, b"")


async def test_a_slate_of_the_canary_says_that_it_has_seen_the_click(memory: Memory) -> None:
    memory.events.content("a")
    user = probe_users(2)[1]
    now_ms = int(memory.clock.time() * 1000)
    click = encode(probe_click(user, probe_action(memory.settings), timestamp_ms=now_ms))
    offset = memory.events.raw("clicks", user, click)
    memory.events.raw("requests", user, encode(probe_request(user, timestamp_ms=now_ms, k=1)))
    async with memory.worker() as worker:
        await worker.deliver()
        (slate,) = memory.events.recommendations()
        assert slate.clicks_offset >= offset
