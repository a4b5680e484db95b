"""Items with a budget for a day, served by whole workers on a log in memory."""

import asyncio

import pytest

from streams.events import Request
from streams.kafka.partitioner import partition_of
from streams.settings import Settings
from streams.state.item_index import key_of
from tests.streams.conftest import MakeMemory, Memory

MINUTE = 60_000
DAY = 24 * 60 * MINUTE
BUDGETS = {"budget_attribute": "daily_budget", "seen_actions": []}


def now_ms(memory):
    return int(memory.clock.time() * 1000)


def to_midnight(memory):
    memory.clock.move(DAY - now_ms(memory) % DAY)


async def given(memory, worker, user="u", **fields):
    wanted = memory.events.request(user, **fields)
    await worker.deliver("requests")
    (found,) = [one for one in memory.events.recommendations() if one.request_id == wanted]
    return sorted(item.item_id for item in found.slate)


async def ask(memory, worker, n, *, user=lambda i: f"u{i}", **fields):
    """The slates of n requests made together, each the ids of its items."""
    asked = [memory.events.request(user(i), **fields) for i in range(n)]
    await worker.deliver("requests")
    found = {one.request_id: [item.item_id for item in one.slate] for one in memory.events.recommendations()}
    return [found[request] for request in asked]


def spent(worker, item):
    budgets = worker.parts.shared.budgets
    return sum(part.counts.get(key_of(item), 0) for part in budgets.parts.values())


async def test_an_item_is_in_no_slate_once_its_budget_is_spent_until_the_next_day(make_memory: MakeMemory):
    memory = make_memory(**BUDGETS)
    to_midnight(memory)
    memory.events.content("ad", attributes={"daily_budget": ["3"]})
    memory.events.content("free")
    async with memory.worker() as worker:
        await worker.deliver()
        assert await given(memory, worker) == ["free"]  # nobody knows yet what was spent
        memory.events.click("u", "free")
        await worker.deliver("clicks")
        memory.clock.move(DAY - 2 * MINUTE)
        shown = 0
        for _ in range(10):
            await worker.life.pace()
            shown += "ad" in await given(memory, worker)
            memory.clock.move(5)
        assert shown == 3
        assert spent(worker, "ad") == 3
        explained = await worker.parts.lanes.serving.explainer.explain("u", "ad", partition_of("u", 2))
        assert (explained.eligible, explained.not_yet) == (False, "not today: its budget is spent")
        await worker.life.render_metrics()
        body = worker.parts.metrics.render()[0].decode()
        assert 'slatestream_budget_items{state="spent"} 1.0' in body
        assert "slatestream_budget_spent_ratio 1.0" in body
        memory.clock.move(DAY - 5 * MINUTE)
        for _ in range(3):
            await worker.life.pace()
        assert "ad" in await given(memory, worker)


async def test_the_last_of_a_budget_is_spent_once_however_soon_requests_follow(make_memory: MakeMemory):
    memory = make_memory(**BUDGETS)
    to_midnight(memory)
    memory.events.content("ad", attributes={"daily_budget": ["3"]})
    memory.clock.move(DAY - MINUTE)
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.life.pace()
        assert [await given(memory, worker) for _ in range(5)] == [["ad"], ["ad"], ["ad"], [], []]


async def test_a_throttled_item_is_left_out_by_a_coin_and_propensities_are_of_the_rest(
    make_memory: MakeMemory,
):
    memory = make_memory(**BUDGETS, policy="random", partitions=1)
    to_midnight(memory)
    memory.events.content("ad", attributes={"daily_budget": ["1000000"]})
    for item in "abc":
        memory.events.content(item)
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.life.pace()  # at the start of a day it takes part in a tenth of requests
        slates = await ask(memory, worker, 400, k=4)
        assert 20 < sum("ad" in slate for slate in slates) < 60
        assert all(set(slate) >= {"a", "b", "c"} for slate in slates)
        for record in memory.events.recommendations():
            eligible = len(record.slate)  # all are in the slate
            assert record.slate[0].propensity == pytest.approx(1 / eligible)
        # Pinning brings it no sooner.
        pinned = await ask(memory, worker, 100, k=4, pinned=["ad"], user=lambda i: f"v{i}")
        assert sum("ad" in slate for slate in pinned) < 30
        memory.events.click("u0", "a")
        await worker.deliver("clicks")
        explained = await worker.parts.lanes.serving.explainer.explain("u0", "ad", 0)
        assert explained.not_yet == "in 10% of slates, as its budget is paced: 0% is spent"


async def test_popular_slates_are_paced_too(make_memory: MakeMemory):
    memory = make_memory(**BUDGETS, max_in_flight=1, when_overloaded="fallback", partitions=1)
    to_midnight(memory)
    memory.events.content("ad", attributes={"daily_budget": ["2"]})
    memory.events.content("free")
    async with memory.worker() as worker:
        await worker.deliver()
        memory.clock.move(DAY - MINUTE)
        worker.parts.server.refresh_popular()
        shard = await worker.parts.partitions.shard(0)
        shown = []
        for n in range(6):
            await worker.life.pace()
            requests = [
                Request(request_id=f"p{n} {i}", user_id="u", timestamp_ms=now_ms(memory)) for i in range(2)
            ]
            answers = [
                worker.parts.server.answer(one, shard, received=memory.clock.time()) for one in requests
            ]
            _, cheap = await asyncio.gather(*answers)
            assert cheap.fallback == "overloaded"
            shown.append("ad" in [item.item_id for item in cheap.slate])
        assert shown == [True] + 5 * [False]  # the first of each pair has spent the other half
        assert spent(worker, "ad") == 2


@pytest.mark.parametrize("by", [None, "click"])
async def test_what_was_spent_is_the_same_after_a_crash(make_memory: MakeMemory, by):
    memory = make_memory(**BUDGETS, budget_spent_by=by)
    to_midnight(memory)
    memory.events.content("ad", attributes={"daily_budget": ["100000"]})
    memory.clock.move(DAY - MINUTE)

    async def some(worker, n):
        for i in range(n):
            await worker.life.pace()
            await ask(memory, worker, 4)
            memory.events.click(f"u{i}", "ad")
            memory.events.click(f"u{i}", "ad", "view")
            await worker.deliver("clicks")
            memory.clock.move(1)

    async with memory.worker() as worker:
        await worker.deliver()
        await some(worker, 20)
        await worker.flush()
        worker.commit()
        await some(worker, 7)
        before = spent(worker, "ad")
        if by is None:
            slates = [[item.item_id for item in one.slate] for one in memory.events.recommendations()]
            assert before == sum("ad" in slate for slate in slates) > 10
        else:
            assert before == 27
    async with memory.worker() as worker:  # killed before it flushed
        await worker.deliver()
        assert spent(worker, "ad") == before
        await worker.flush()
        worker.commit()
        await some(worker, 3)
    async with memory.worker() as worker:
        await worker.deliver()
        assert spent(worker, "ad") == before + 3 if by else spent(worker, "ad") > before


async def test_workers_know_what_the_others_have_spent(make_memory: MakeMemory):
    memory = make_memory(**BUDGETS, budget_spent_by="click", partitions=2)
    to_midnight(memory)
    memory.events.content("ad", attributes={"daily_budget": ["4"]})
    memory.events.content("free")
    memory.clock.move(DAY - MINUTE)
    users = {partition_of(f"u{i}", 2): f"u{i}" for i in range(20)}
    async with memory.worker() as one, memory.worker() as two:
        await one.assign([0])
        await two.assign([1])
        for worker in (one, two):
            await worker.deliver()
        for _ in range(2):
            memory.events.click(users[0], "ad")
            memory.events.click(users[1], "ad")
        for worker in (one, two):
            await worker.deliver("clicks")
            await worker.flush()
            await worker.settle()
        for worker in (one, two):
            await worker.settle()
            await worker.life.pace()
            assert spent(worker, "ad") == 4
        assert await given(memory, one, users[0]) == ["free"]
        assert await given(memory, two, users[1]) == ["free"]
        await one.assign([])
        await two.assign([0, 1])
        await two.life.pace()
        assert spent(two, "ad") == 4


async def test_a_budget_that_is_no_number_is_not_spent_and_prices_divide_it(make_memory: MakeMemory):
    memory = make_memory(**BUDGETS, budget_price_attribute="bid")
    to_midnight(memory)
    for name, budget, bid in [
        ("no number", ["much"], ["1"]), ("two", ["1", "2"], ["1"]), ("below", ["-1"], ["1"]),
        ("endless", ["inf"], ["1"]), ("no price", ["5"], []), ("free of charge", ["5"], ["0"]),
        ("none left", ["0"], ["1"]), ("good", ["5"], [".5"]), ("dear", ["5"], ["2.5"]),
    ]:  # fmt: skip
        memory.events.content(name, attributes={"daily_budget": budget, "bid": bid})
    memory.clock.move(DAY - MINUTE)
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.life.pace()
        shown = await ask(memory, worker, 1, user=lambda i: "u")
        assert sorted(shown[0]) == ["dear", "good"]
        for _ in range(40):
            await worker.life.pace()
            await ask(memory, worker, 1, user=lambda i: "u")
        assert (spent(worker, "good"), spent(worker, "dear")) == (10, 2)
        await worker.life.render_metrics()
        body = worker.parts.metrics.render()[0].decode()
        for state, n in (("bad", 6), ("spent", 3), ("paced", 0)):
            assert f'slatestream_budget_items{{state="{state}"}} {n}.0' in body
        memory.events.content("dear", attributes={"daily_budget": ["50"], "bid": ["2.5"]})
        memory.events.content("none left")
        await worker.deliver()
        await worker.life.pace()
        assert sorted((await ask(memory, worker, 1, user=lambda i: "u"))[0]) == ["dear", "none left"]


async def test_a_paced_item_is_explained_as_one_that_may_be_given_whatever_the_coin(make_memory: MakeMemory):
    memory = make_memory(**BUDGETS, partitions=1)
    to_midnight(memory)
    for n in range(8):
        memory.events.content(f"ad{n}", attributes={"daily_budget": ["500"]})
    memory.events.content("none", attributes={"daily_budget": ["0"]})
    memory.events.click("u", "ad0")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.life.pace()
        explain = worker.parts.lanes.serving.explainer.explain
        found = [await explain("u", f"ad{n}", 0) for n in range(8)]
        assert all(one.not_yet == "in 10% of slates, as its budget is paced: 0% is spent" for one in found)
        assert all(one.eligible for one in found)
        assert not (await explain("u", "none", 0)).eligible
        assert found[0].timestamp_ms == now_ms(memory)


async def test_a_preview_spends_nothing(make_memory: MakeMemory):
    memory = make_memory(**BUDGETS)
    to_midnight(memory)
    memory.events.content("ad", attributes={"daily_budget": ["3"]})
    memory.clock.move(DAY - MINUTE)
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.life.pace()
        assert await given(memory, worker, preview=True) == ["ad"]
        assert spent(worker, "ad") == 0
        assert await given(memory, worker) == ["ad"]
        assert spent(worker, "ad") == 1


async def test_without_the_setting_nothing_is_counted(memory: Memory):
    memory.events.content("ad", attributes={"daily_budget": ["0"]})
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.life.pace()
        assert worker.parts.shared.budgets is None
        assert await given(memory, worker) == ["ad"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget_spent_by": "click"}, "budget_spent_by is of budgets: set budget_attribute, too"),
        ({"budget_price_attribute": "bid"}, "budget_price_attribute is of budgets"),
        ({"budget_attribute": "b", "budget_spent_by": "clack"}, "budget_spent_by names 'clack'"),
        ({"budget_time_zone": "Mars/Olympus"}, "must be a time zone that this machine knows"),
        ({"budget_time_zone": "../etc/passwd"}, "must be a time zone that this machine knows"),
    ],
)
def test_settings_of_budgets_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


async def test_a_budget_larger_than_anybody_counts_is_one_that_does_not_end(make_memory: MakeMemory):
    memory = make_memory(**BUDGETS, budget_price_attribute="bid")
    memory.events.content("much", attributes={"daily_budget": ["1e308"], "bid": ["1"]})
    memory.events.content("cheap", attributes={"daily_budget": ["1e300"], "bid": ["1e-300"]})
    async with memory.worker() as worker:
        await worker.deliver()
        for _ in range(3):
            memory.clock.move(MINUTE)
            await worker.life.pace()
        assert await given(memory, worker) == ["cheap", "much"]
        await worker.life.render_metrics()
        assert 'slatestream_budget_items{state="open"} 2.0' in worker.parts.metrics.render()[0].decode()
