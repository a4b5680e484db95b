import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from model_core.data.datasets import Dataset, Interactions, Item
from streams.bench.prequential import Replay, Run, figures
from streams.client import ANSWER_TIMEOUT_S, Answer
from streams.events import SlateItem


def interactions(n: int, *, n_users: int, seed: int = 0) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions(
        rng.integers(n_users, size=n).astype(np.str_),
        rng.integers(30, size=n).astype(np.str_),
        rng.choice(np.array([2.0, 4.0, 5.0], np.float32), n),
        880_000_000_000 + 1000 * np.arange(n),
    )


class Recorder:
    """Answers every request with item "3" after a random number of turns, and keeps what came when.

    takes_s : how long an answer is said to take, for who waits less
    """

    def __init__(self, *, lose=(), takes_s=0.0):
        self.log = []
        self.lose = set(lose)
        self.takes_s = takes_s
        self.in_flight = self.most = 0
        self._rng = np.random.default_rng(1)

    async def ask(self, request, *, timeout_s=ANSWER_TIMEOUT_S):
        self.log.append(("ask", request.user_id, request.timestamp_ms))
        for _ in range(int(self._rng.integers(6))):
            await asyncio.sleep(0)
        if request.request_id in self.lose or self.takes_s > timeout_s:
            raise TimeoutError
        recommendation = SimpleNamespace(
            slate=[SlateItem("3", 0, 0.0, 1.0)], fallback=None, model_version="v7"
        )
        return Answer(recommendation, 0.002)

    async def click(self, click):
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        self.log.append((click.action, click.user_id, click.timestamp_ms))


async def replay(events: Interactions, *, depth: int, **of_recorder) -> tuple[Recorder, Run]:
    recorder = Recorder(**of_recorder)
    run = Replay(recorder, events, k=1, depth=depth)
    await run.run()
    assert run.done == len(events)
    return recorder, run.result


async def test_with_one_in_flight_the_order_is_that_of_time():
    events = interactions(60, n_users=5)
    recorder, _ = await replay(events, depth=1)
    expected = []
    for user, rating, time in zip(events.user_ids, events.ratings, events.timestamps_ms, strict=True):
        if rating >= 4:
            expected.append(("ask", user, time))
        expected.append(("like" if rating >= 4 else "view", user, time))
    assert recorder.log == expected


@pytest.mark.parametrize("depth", [2, 8, 50])
async def test_each_users_events_keep_their_order_at_any_depth(depth):
    events = interactions(300, n_users=6)
    recorder, _ = await replay(events, depth=depth)
    serial, _ = await replay(events, depth=1)
    for user in {entry[1] for entry in serial.log}:
        assert [e for e in recorder.log if e[1] == user] == [e for e in serial.log if e[1] == user]


@pytest.mark.parametrize("depth", [3, 20])
async def test_no_event_overtakes_one_that_is_depth_older(depth):
    events = interactions(300, n_users=100)
    recorder, _ = await replay(events, depth=depth)
    place = {time: n for n, time in enumerate(events.timestamps_ms.tolist())}
    published = set()
    for action, _, time in recorder.log:
        assert set(range(place[time] - depth + 1)) <= published
        if action != "ask":
            published.add(place[time])
    assert recorder.most > 1


async def test_a_hit_is_the_liked_item_in_its_slate():
    events = interactions(200, n_users=10)
    _, run = await replay(events, depth=16)
    liked = events.item_ids[events.ratings >= 4]
    assert [run.hits[n] for n in range(len(run.hits))] == [item == "3" for item in liked]
    assert run.model_version == "v7"


async def test_a_lost_answer_is_a_miss_and_its_event_is_published_all_the_same():
    events = interactions(50, n_users=5)
    recorder, run = await replay(events, depth=4, lose={"like-0", "like-2"})
    assert run.lost == 2
    assert (run.hits[0], run.hits[2]) == (False, False)
    assert sum(action != "ask" for action, _, _ in recorder.log) == 50


async def test_it_rests_when_all_before_is_through_and_nothing_else_has_begun():
    events, recorder = interactions(60, n_users=20), Recorder()

    async def rest():
        began = len(recorder.log)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(recorder.log) == began
        recorder.log.append(("rest", "", 0))

    run = Replay(recorder, events, k=1, depth=16, pauses={20: rest, 45: rest})
    await run.run()
    told = [action for action, _, _ in recorder.log if action != "ask"]
    assert [place for place, action in enumerate(told) if action == "rest"] == [20, 46]
    assert run.done == 60


async def test_the_references_are_scored_on_the_same_likes():
    events = interactions(400, n_users=20)
    dataset = Dataset("d", events, [Item(str(n), str(n)) for n in range(30)], [])
    later = events[200:]
    _, run = await replay(later, depth=8)
    summary = figures(run, dataset, until=0.5, k=5, limit=None)
    assert summary["likes"] == int((later.ratings >= 4).sum())
    kinds = {name.split(" last")[0].split(" ")[0] for name in summary["hit"]}
    assert kinds == {
        "slatestream", "popularity", "last", "half-life", "co-visitation", "co-visits", "EASE"
    }  # fmt: skip
    assert 0 <= summary["new"]["listed"] <= 1
    assert summary["hit"]["slatestream"] == pytest.approx(np.mean(later.item_ids[later.ratings >= 4] == "3"))
    assert len(summary["hit_by_fifth"]) == 5


async def test_an_answer_after_a_minute_of_a_slow_machine_is_not_lost():
    _, run = await replay(interactions(300, n_users=5), depth=8, takes_s=60.0)
    assert run.lost == 0
    assert any(run.hits.values())
