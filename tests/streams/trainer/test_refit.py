"""What a new release's policy is taught by slates of before: the sums a worker would have made of them."""

from collections.abc import Callable
from zlib import crc32

import msgspec
import numpy as np
import pytest

from model_core.data.datasets import Item
from model_core.inputs.corpus import make_corpus
from model_core.release.folder import read_release
from model_core.release.scorer import Scorer
from online_learning.statistics.sums import Statistics
from streams.commands.training_log import as_dataset
from streams.events import decode_feedback
from streams.state.feature_spaces import Spaces
from streams.testing.worker import MemoryWorker
from streams.trainer.refit import refit
from streams.trainer.shown_slates import ShownSlates
from streams.trainer.training_run import NoTexts, known_by
from tests.streams.releases.life import Life

USERS = [f"u{n}" for n in range(8)]


def nobody(user_id: str) -> bool:
    return False


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": "thompson", "position_bias": 0.7},
        {"policy": "thompson", "click_model": "cascade", "reward_half_life_ms": 3_600_000},
        {"policy": "thompson-disjoint", "learn_from": "reward"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
async def test_what_is_refitted_is_what_a_worker_with_that_release_has_learned(
    settings: dict[str, object], make_life: Callable[..., Life]
) -> None:
    life = make_life(attribution_window_ms=60_000, **settings)
    version = life.put()
    async with life.worker(version) as worker:
        await visits(life, worker, rounds=3)
        shards = worker.parts.partitions.live()
        for shard in shards:
            shard.learning.count_published()
        expected = shards[0].statistics.serving + shards[1].statistics.serving

    found = refitted(life, version)
    assert found.impressions == 8 * 4 * 3
    assert found.rewards > 10
    assert (found.impressions, found.latest_ms) == (expected.impressions, expected.latest_ms)
    for name in ("gram", "moment"):
        ours, theirs = (by_arm(one, getattr(one, name)) for one in (found, expected))
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-3)


async def visits(life: Life, worker: MemoryWorker, *, rounds: int) -> None:
    """Let users like something, ask, and take some of what they get; then all slates close."""
    events, clock = life.memory.events, life.memory.clock
    for number in range(rounds):
        for user in USERS[number:]:  # one who has done nothing yet asks, too
            events.click(user, f"i{crc32(f'{user}{number}'.encode()) % 20}", "like")
        clock.move(1_000)
        await worker.deliver()
        asked = {events.request(user, k=4) for user in USERS}
        await worker.deliver()
        clock.move(1_000)
        for slate in events.recommendations():
            if slate.request_id in asked:
                for item in slate.slate:
                    if crc32(f"{slate.request_id}{item.item_id}".encode()) % 3 == 0:
                        action = "like" if item.position % 2 else "view"
                        events.click(slate.user_id, item.item_id, action, request_id=slate.request_id)
        clock.move(1_000)
        await worker.deliver()
    clock.move(life.memory.settings.attribution_window_ms)
    for user in USERS:
        events.click(user, "i0", "view")
    await worker.deliver()
    await worker.flush()


def refitted(life: Life, version: str) -> Statistics:
    """What a trainer makes of the log for a release."""
    settings, log = life.memory.settings, life.memory.log
    clicks = [(record.value or b"", record.timestamp) for record in log.records("clicks")]
    items = {f"i{n}": Item(f"i{n}", f"i{n}") for n in range(20)}
    dataset, actions = as_dataset(settings, clicks, items, [])
    folder = life.store / version
    release = read_release(folder)
    encoder = NoTexts(release.text_dim)
    corpus = make_corpus(dataset, actions, settings.actions, encoder, 4)
    shown = ShownSlates(settings, is_held=nobody)
    told = [record.value for record in log.records("feedback")]
    shown.add([b"none of these", None, *told, *told])  # told twice, after a crash
    users = np.unique(dataset.interactions.user_ids).tolist()
    learning = Spaces(settings).learning("", release.feature_dim)
    return refit(Scorer(folder), known_by(release, corpus, dataset), users, shown.slates(), learning)


def by_arm(statistics: Statistics, values: np.ndarray) -> np.ndarray:
    """The same, in the order of the arms where there are any."""
    return values[np.argsort(statistics.parts)] if len(statistics.parts) else values


async def test_the_last_word_on_a_slate_counts_and_the_latest_slates_do(
    make_life: Callable[..., Life],
) -> None:
    life = make_life(attribution_window_ms=60_000, policy="thompson")
    version = life.put()
    async with life.worker(version) as worker:
        await visits(life, worker, rounds=1)
    told = [record.value for record in life.memory.log.records("feedback")]
    first = decode_feedback(told[0] or b"")
    k = len(first.slate)
    late = msgspec.structs.replace(first, rewards=[2.0] * k, actions=[["like"]] * k, correction=True)
    shown = ShownSlates(life.memory.settings, is_held=nobody)
    shown.add([*told, msgspec.json.encode(late)])
    slates = shown.slates()
    assert len(slates) == len(told) == 8
    (one,) = [one for one in slates if one.user_id == first.user_id]
    assert one.values.tolist() == [1.0] * k
    assert [one.timestamp_ms for one in shown.slates(3)] == [one.timestamp_ms for one in slates[-3:]]

    trusted = ShownSlates(life.memory.settings, is_held=first.user_id.__eq__)
    trusted.add(told)
    assert {one.user_id for one in trusted.slates()} == set(USERS) - {first.user_id}


def test_a_response_that_is_shaped_by_time_counts_as_far_as_it_earned() -> None:
    from streams.settings import Settings

    settings = Settings(actions={"view": 0.2, "like": 2.0}, dwell_half_ms={"like": 1_000.0})
    shown = ShownSlates(settings, is_held=nobody)
    record = {
        "request_id": "r", "user_id": "u", "timestamp_ms": 1_700_000_000_000,
        "slate": [{"item_id": item, "score": 0.5} for item in "abc"],
        "rewards": [1.7, 0.2, 0.0], "actions": [["view", "like"], ["view"], []],
    }  # fmt: skip
    shown.add([msgspec.json.encode(record)])
    (slate,) = shown.slates()
    assert slate.values.tolist() == pytest.approx([0.75, 0.0, 0.0])
    assert slate.taken.tolist() == [True, False, False]
