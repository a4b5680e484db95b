import asyncio

import numpy as np
import pytest

from streams.client import Answer
from streams.demo.publish import Past
from streams.demo.summary import checks, summarise
from streams.demo.table import Watch, line, live_table
from streams.demo.taste import Population
from streams.demo.users import Simulation, Traffic, arrivals
from streams.errors import SlatestreamError
from streams.events import Recommendation, SlateItem

NO_PAST = Past([], 0)
ITEMS = [f"i{n}" for n in range(40)]


class Responder:
    """A recommender in memory: the first k items that the user has not acted on, by some order."""

    def __init__(self, order=ITEMS, lose=()):
        self.order = order
        self.lose = set(lose)
        self.clicks = []
        self.requests = []
        self.acted = {}
        self.sent = 0
        self.dead_letters = {}

    def order_for(self, user_id):
        return self.order

    async def ask(self, request, *, timeout_s):
        self.requests.append(request)
        if len(self.requests) in self.lose:
            raise TimeoutError
        acted = self.acted.setdefault(request.user_id, set())
        items = [item for item in self.order_for(request.user_id) if item not in acted][: request.k]
        slate = [SlateItem(item, n, 0.0, 1.0) for n, item in enumerate(items)]
        return Answer(
            Recommendation(
                request.request_id, request.user_id, slate, "greedy", len(self.requests), "exact", "v1",
                b"", 0, request.timestamp_ms, 1.0,
            ),
            0.004,
        )  # fmt: skip

    async def click(self, click):
        self.clicks.append(click)
        self.acted.setdefault(click.user_id, set()).add(click.item_id)


@pytest.fixture
def users() -> Population:
    """Five users who click the last ten items only, then like them, and dislike the first five."""
    click, like, dislike = (np.zeros((5, 40), np.float32) for _ in range(3))
    click[:, 30:] = 0.8
    like[:, 30:] = 1.0
    dislike[:, :5] = 1.0
    return Population([f"u{n}" for n in range(5)], ITEMS, click, like, dislike)


async def simulate(users, responder, *, past=NO_PAST, seed=0, k=5, seconds=0.5):
    traffic = Traffic(seconds=seconds, rate=100.0, k=k, seed=seed)
    simulation = Simulation(responder, users, past, traffic, run_id="run")
    await simulation.run()
    return simulation


class Knowing(Responder):
    """Shows each user what users of that kind like."""

    def order_for(self, user_id):
        return ITEMS[::-1] if int(user_id[1:]) % 2 else ITEMS


async def test_a_good_recommender_beats_both_baselines():
    """Sixty users, so that none has seen all that is liked; what half of them like, the other half do not."""
    click = np.zeros((60, 40), np.float32)
    click[::2, :10] = click[1::2, 30:] = 0.8
    nothing = np.zeros_like(click)
    users = Population([f"u{n}" for n in range(60)], ITEMS, click, nothing, nothing)
    simulation = await simulate(users, Knowing())
    summary = summarise(simulation)
    assert summary["visits"]["asked"] == summary["visits"]["answered"] > 20
    assert summary["policy_to_random"] > 1.5
    assert all(check.passed for check in checks(summary))


async def test_a_bad_recommender_fails_the_checks(users):
    simulation = await simulate(users, Responder(order=ITEMS))
    failed = [check.name for check in checks(summarise(simulation)) if not check.passed]
    assert failed == ["policy at least 1.5 times random", "policy above popularity"]


async def test_lost_answers_are_counted_and_fail_the_first_check(users):
    simulation = await simulate(users, Responder(order=ITEMS[::-1], lose={2, 5}))
    assert simulation.lost == 2
    assert simulation.asked == len(simulation.visits) + 2
    assert not checks(summarise(simulation))[0].passed


async def test_only_the_policys_slate_is_acted_upon(users):
    responder = Responder(order=ITEMS[::-1])
    simulation = await simulate(users, responder)
    shown = {request.request_id: request for request in responder.requests}
    clicks = [click for click in responder.clicks if click.action == "click"]
    assert len(clicks) == sum(policy for policy, _, _ in simulation.visits.clicks)
    assert all(click.request_id in shown and click.position < 5 for click in clicks)
    likes = {(click.user_id, click.item_id) for click in responder.clicks if click.action == "like"}
    assert likes == {(click.user_id, click.item_id) for click in clicks}
    assert len({click.event_id for click in responder.clicks}) == len(responder.clicks)


async def test_what_a_user_has_acted_on_is_out_of_the_baselines_too(users):
    past = Past([("u0", item, "like") for item in ITEMS[5:]], 1_700_000_000_000)
    responder = Responder(order=ITEMS)
    responder.acted["u0"] = set(ITEMS[5:])
    simulation = await simulate(users, responder, past=past)
    assert simulation.repeated == 0
    assert simulation.short == 0
    visits = zip(simulation.visits.users, simulation.visits.clicks, strict=True)
    mine = [clicks for user, clicks in visits if user == 0]
    assert mine
    assert all(clicks == (0, 0, 0) for clicks in mine)


async def test_event_times_go_on_from_the_past(users):
    responder = Responder(order=ITEMS[::-1])
    await simulate(users, responder, past=Past([], 900_000_000_000))
    times = [request.timestamp_ms for request in responder.requests]
    assert 900_000_001_000 <= times[0] <= times[-1] <= 900_000_003_000
    assert times == sorted(times)


def test_arrivals_come_at_the_rate_and_follow_the_seed():
    traffic = Traffic(seconds=100.0, rate=40.0, seed=3)
    visits = list(arrivals(traffic, 7))
    assert 3_750 < len(visits) < 4_250
    assert visits == sorted(visits)
    assert visits[-1][0] <= 100.0
    assert {user for _, user in visits} == set(range(7))
    assert list(arrivals(traffic, 7)) == visits
    assert list(arrivals(Traffic(seconds=100.0, rate=40.0, seed=4), 7)) != visits


async def test_a_user_makes_one_visit_at_a_time(users):
    here, most = set(), []

    class Slow(Responder):
        async def ask(self, request, *, timeout_s):
            assert request.user_id not in here
            here.add(request.user_id)
            most.append(len(here))
            await asyncio.sleep(0.03)
            here.remove(request.user_id)
            return await super().ask(request, timeout_s=timeout_s)

    await simulate(users, Slow(order=ITEMS[::-1]))
    assert max(most) > 1


async def test_an_item_that_is_not_in_the_dataset_stops_with_a_word(users):
    with pytest.raises(ExceptionGroup) as caught:
        await simulate(users, Responder(order=["elsewhere"]))
    assert caught.group_contains(SlatestreamError, match="serves item 'elsewhere'")


async def test_the_table_and_the_line_show_the_arms(users):
    simulation = await simulate(users, Responder(order=ITEMS[::-1]))
    shot = Watch(simulation).look()
    assert shot.visits == simulation.asked
    assert shot.p50_ms == pytest.approx(4.0)
    text = line(shot)
    assert f"policy {shot.rates['policy'].value:.4f}" in text
    assert "model v1" in text
    assert live_table(shot, seconds=1.0).renderables
