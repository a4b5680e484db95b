"""A worker's own server on a log in memory: requests in, slates out."""

import asyncio
import time

import pytest

from streams.errors import OwnershipLost
from streams.events import Request
from streams.kafka.partitioner import partition_of
from streams.serving.gate import FIRST, Overloaded
from streams.state.shard import Shard
from tests.streams.conftest import MakeMemory, Memory
from tests.unheard import nothing_unheard

DAY = 86_400_000


def items(slate):
    return [item.item_id for item in slate.slate]


def now_ms(memory):
    return int(memory.clock.time() * 1000)


async def slate_of(memory, worker, user="u", **fields):
    """The slate of a request, which is answered now."""
    wanted = memory.events.request(user, **fields)
    await worker.deliver("requests")
    (found,) = [one for one in memory.events.recommendations() if one.request_id == wanted]
    return found


async def test_a_slate_has_what_the_user_has_not_seen_and_says_why(memory: Memory):
    for item in "abcd":
        memory.events.content(item, attributes={"genre": ["Drama"]})
    async with memory.worker() as worker:
        await worker.deliver()
        memory.events.click("other", "b")
        memory.events.click("u", "a")
        await worker.deliver()
        slate = await slate_of(memory, worker)

        assert sorted(items(slate)) == ["b", "c", "d"]
        assert slate.slate[0].item_id == "b"
        assert slate.slate[0].reasons == ["because you looked at a: genre Drama"]
        assert slate.fallback == "no_release"
        assert slate.clicks_offset == 0 or partition_of("other", 2) == partition_of("u", 2)


async def test_an_item_comes_and_goes_with_its_times_and_with_its_content(memory: Memory):
    now = now_ms(memory)
    memory.events.content("always")
    memory.events.content("soon", published_ms=now + 1_000)
    memory.events.content("not for long", expires_ms=now + 2_000)
    async with memory.worker() as worker:
        await worker.deliver()
        assert sorted(items(await slate_of(memory, worker))) == ["always", "not for long"]
        memory.clock.move(1_000)
        assert sorted(items(await slate_of(memory, worker))) == ["always", "not for long", "soon"]
        memory.clock.move(1_000)
        assert sorted(items(await slate_of(memory, worker))) == ["always", "soon"]
        memory.events.content("always", available=False)
        await worker.deliver()
        assert items(await slate_of(memory, worker)) == ["soon"]


async def test_requests_of_other_times_are_answered_as_of_their_own_beside_those_of_now(memory: Memory):
    now = now_ms(memory)
    memory.events.content("old", published_ms=now - 10 * DAY, expires_ms=now - 5 * DAY)
    memory.events.content("new", published_ms=now - DAY)
    memory.events.content("ever")
    async with memory.worker() as worker:
        await worker.deliver()
        asked = {
            memory.events.request("u", timestamp_ms=now + days * DAY): expected
            for days, expected in [
                (-20, ["ever"]),
                (-7, ["ever", "old"]),
                (-3, ["ever"]),
                (0, ["ever", "new"]),
            ]
        }
        await worker.deliver("requests")
        found = {one.request_id: sorted(items(one)) for one in memory.events.recommendations()}
        assert found == asked


async def test_a_request_limits_and_excludes(memory: Memory):
    memory.events.content("a", attributes={"genre": ["Drama"], "by": ["Ann"]})
    memory.events.content("b", attributes={"genre": ["Comedy"], "by": ["Ann"]})
    memory.events.content("c", attributes={"genre": ["Drama", "Comedy"]})
    memory.events.content("d")
    memory.events.user("u", blocked_items=["d"])
    async with memory.worker() as worker:
        await worker.deliver()

        async def given(**fields):
            return sorted(items(await slate_of(memory, worker, **fields)))

        assert await given() == ["a", "b", "c"]
        assert await given(exclude=["a", "unknown"]) == ["b", "c"]
        assert await given(candidates=["d", "a", "unknown"]) == ["a"]
        assert await given(filters={"genre": ["Drama"]}) == ["a", "c"]
        assert await given(filters={"genre": ["Drama", "Comedy"], "by": ["Ann"]}) == ["a", "b"]
        assert await given(filters={"genre": ["Drama"]}, candidates=["b", "c"]) == ["c"]
        assert await given(filters={"genre": ["Horror"]}) == []
        assert (await slate_of(memory, worker, candidates=[])).fallback == "no_candidates"
        assert items(await slate_of(memory, worker, pinned=["c", "d"]))[0] == "c"


async def test_who_has_seen_everything_sees_it_again_and_it_is_counted_as_that(memory: Memory):
    for item in "ab":
        memory.events.content(item)
        memory.events.click("u", item)
    async with memory.worker() as worker:
        await worker.deliver()
        slate = await slate_of(memory, worker, exclude=["b"])

        assert items(slate) == ["a"]
        assert slate.fallback == "all_seen"
        body, _ = worker.parts.metrics.render()
        assert b'slatestream_slates_total{fallback="all_seen",policy="greedy"} 1.0' in body


async def test_beyond_the_gate_a_request_has_popular_items_that_the_user_may_be_given(
    make_memory: MakeMemory,
):
    memory = make_memory(max_in_flight=1, when_overloaded="fallback", partitions=1)
    for item in "abcde":
        memory.events.content(item, attributes={"letter": [item]})
    memory.events.content("gone", expires_ms=now_ms(memory) + 1_000)
    for user in ("v", "w"):
        for item in ("c", "gone", "b"):
            memory.events.click(user, item)
    memory.events.click("x", "b")
    memory.events.click("u", "a")
    memory.events.user("u", blocked_items=["d"])
    async with memory.worker() as worker:
        await worker.deliver()
        worker.parts.server.refresh_popular()
        memory.clock.move(1_000)
        first = memory.events.request("u")
        second = memory.events.request("u")
        filtered = memory.events.request("u", filters={"letter": ["e", "c"]}, exclude=["c"])
        await worker.deliver("requests")
        slates = {one.request_id: one for one in memory.events.recommendations()}

        assert slates[first].fallback == "no_release"
        cheap = slates[second]
        assert (cheap.fallback, cheap.policy, cheap.propensity_kind) == ("overloaded", "popularity", "none")
        assert items(cheap) == ["b", "c", "e"]
        assert {item.propensity for item in cheap.slate} == {0.0}
        assert (cheap.features, cheap.feature_dim) == (b"", 0)
        assert items(slates[filtered]) == ["e"]
        assert worker.parts.server.in_flight == 0
        # What it served is in no sum and opens nothing.
        (shard,) = worker.parts.partitions.live()
        assert len(shard.slates) == 1


async def test_beyond_the_gate_a_request_waits_in_its_topic_or_is_refused(make_memory: MakeMemory):
    memory = make_memory(max_in_flight=1, partitions=1)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        server, (shard,) = worker.parts.server, worker.parts.partitions.live()

        def ask(number):
            request = Request(request_id=f"{number}", user_id="u", timestamp_ms=now_ms(memory))
            return asyncio.ensure_future(server.answer(request, shard, received=time.time()))

        answers = await asyncio.gather(ask(1), ask(2), return_exceptions=True)
        assert items(answers[0]) == ["a"]
        assert isinstance(answers[1], Overloaded)
        assert items(await ask(2)) == ["a"], "what was refused may be asked again"
        assert items(await ask(2)) == ["a"], "what was answered has the same slate again"
        assert [one.request_id for one in memory.events.recommendations()] == ["1", "2"], "and none is added"

        wanted = {memory.events.request("u") for _ in range(5)}
        await worker.deliver("requests")
        assert wanted <= {one.request_id for one in memory.events.recommendations()}
        assert all(one.fallback != "overloaded" for one in memory.events.recommendations())


async def test_who_has_waited_too_long_in_a_topic_has_popular_items_and_who_comes_now_the_models(
    make_memory: MakeMemory,
):
    memory = make_memory(max_request_age_ms=5_000, partitions=1)
    memory.events.content("a")
    memory.events.click("v", "a")
    async with memory.worker() as worker:
        await worker.deliver()
        worker.parts.server.refresh_popular()
        late = {memory.events.request("u") for _ in range(3)}
        memory.clock.move(5_001)
        in_time = memory.events.request("u")
        memory.clock.move(5_000)
        await worker.deliver("requests")
        slates = {one.request_id: one for one in memory.events.recommendations()}
        assert {(slates[one].fallback, slates[one].policy) for one in late} == {("overloaded", "popularity")}
        assert all(items(slates[one]) == ["a"] for one in late)
        assert slates[in_time].fallback == "no_release"
        assert worker.commit("requests") == {("requests", 0): 4}


async def test_more_than_can_be_answered_in_time_is_refused_or_waits_in_its_topic(make_memory: MakeMemory):
    memory = make_memory(max_queue_ms=1, partitions=1)
    for item in range(200):
        memory.events.content(f"{item}", attributes={"genre": ["Drama"]})
    async with memory.worker() as worker:
        await worker.deliver()
        server, (shard,) = worker.parts.server, worker.parts.partitions.live()

        async def ask_together(n, mark):
            requests = [
                Request(request_id=f"{mark}{number}", user_id="u", timestamp_ms=now_ms(memory), k=100)
                for number in range(n)
            ]
            asked = [server.answer(request, shard, received=time.time()) for request in requests]
            return await asyncio.gather(*asked, return_exceptions=True)

        assert not any(isinstance(one, Overloaded) for one in await ask_together(30, "no pace yet"))
        for number in range(FIRST):
            await ask_together(1, f"alone {number} ")
        refused = [isinstance(one, Overloaded) for one in await ask_together(30, "paced")]
        assert refused[0] is False
        assert any(refused)
        wanted = {memory.events.request("u", k=100) for _ in range(30)}
        await worker.deliver("requests")
        assert wanted <= {one.request_id for one in memory.events.recommendations()}


async def test_a_closed_server_refuses_and_drains(make_memory: MakeMemory):
    memory = make_memory(partitions=1)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        server, (shard,) = worker.parts.server, worker.parts.partitions.live()
        request = Request(request_id="1", user_id="u", timestamp_ms=now_ms(memory))
        answer = asyncio.ensure_future(server.answer(request, shard, received=time.time()))
        await asyncio.sleep(0)
        server.close()
        with nothing_unheard():
            await server.drain(0.0)  # too short
            await asyncio.sleep(0.01)
        await server.drain(10.0)
        assert answer.done()
        assert items(answer.result()) == ["a"]
        with pytest.raises(Overloaded):
            await server.answer(request, shard, received=time.time())


async def test_clicks_ask_for_slates_and_hold_their_offsets_until_then(make_memory: MakeMemory):
    memory = make_memory(recommend_on=("like",), partitions=1, max_in_flight=2)
    for item in "ab":
        memory.events.content(item)
    for number in range(10):
        memory.events.click(f"u{number}", "a", "like")
        memory.events.click(f"u{number}", "b", "view")
    async with memory.worker() as worker:
        await worker.deliver()
        (shard,) = worker.parts.partitions.live()
        assert len(memory.events.recommendations()) == 10
        assert not shard.holding


async def test_without_any_item_a_request_is_answered_with_an_empty_slate(memory: Memory):
    async with memory.worker() as worker:
        memory.events.click("u", "a")  # an item that nobody has described
        await worker.deliver()
        for user in ("u", "stranger"):
            slate = await slate_of(memory, worker, user)
            assert (items(slate), slate.fallback) == ([], "no_candidates")


@pytest.mark.parametrize("when_overloaded", ["refuse", "fallback"])
async def test_a_request_whose_record_no_topic_takes_is_a_dead_letter_and_its_neighbours_are_answered(
    make_memory: MakeMemory, when_overloaded: str
):
    memory = make_memory(when_overloaded=when_overloaded, max_in_flight=1)
    memory.events.content("a")
    async with memory.worker() as worker:
        await worker.deliver()
        wanted = [memory.events.request("u")]
        large = memory.events.request("u", context={"page": "x" * 3 * 1024**2})
        wanted.append(memory.events.request("u"))
        await worker.deliver("requests")

        (letter,) = memory.events.dead_letters()
        assert (letter.topic, letter.offset, letter.reason) == ("requests", 1, "too_large")
        assert letter.truncated
        assert "context" in letter.error
        assert sorted(slate.request_id for slate in memory.events.recommendations()) == wanted
        await worker.flush()
        assert worker.commit("requests") == {("requests", partition_of("u", 2)): 3}
        shard = await worker.parts.partitions.shard(partition_of("u", 2))
        assert large not in shard.slates


async def test_a_record_that_the_broker_refuses_is_a_dead_letter_and_those_sent_with_it_go_out(
    make_memory: MakeMemory,
):
    memory = make_memory(recommend_on=["like"])
    memory.events.content("a")
    memory.log.limits["recommendations"] = 20_000
    async with memory.worker() as worker:
        await worker.deliver()
        memory.events.click("u", "a", "like", context={"page": "x" * 30_000})
        memory.events.click("u", "a", "like")
        memory.events.request("u", context={"page": "x" * 30_000})
        memory.events.request("u")
        await worker.deliver()
        letters = memory.events.dead_letters()
        assert [(letter.topic, letter.offset) for letter in letters] == [("clicks", 0), ("requests", 0)]
        assert len(memory.events.recommendations()) == 2
        await worker.flush()
        place = partition_of("u", 2)
        committed = worker.commit("requests", "clicks")
        assert (committed["requests", place], committed["clicks", place]) == (2, 2)
        assert len((await worker.parts.partitions.shard(place)).slates) == 2


async def test_a_request_that_is_read_again_after_its_partition_went_and_came_back_is_answered_once(
    make_memory: MakeMemory,
):
    memory = make_memory(read_your_writes_ms=60_000)
    memory.events.content("a")
    place = partition_of("u", 2)
    async with memory.worker() as worker:
        await worker.deliver()
        server, partitions = worker.parts.server, worker.parts.partitions
        request = Request("r", "u", now_ms(memory))

        async def begin() -> tuple[asyncio.Task, Shard]:
            """One that waits for a click."""
            shard = await partitions.shard(place)
            task = asyncio.create_task(server.serve(request, shard, received=time.time(), clicks_end=1))
            await asyncio.sleep(0)
            return task, shard

        first, former = await begin()
        await worker.assign([1 - place])
        await worker.assign([place, 1 - place])
        second, shard = await begin()
        for one in (former, shard):  # the click is folded
            one.clicks.advance(1)
        lost, slate = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(lost, OwnershipLost)
        assert items(slate) == ["a"]
        assert [one.request_id for one in memory.events.recommendations()] == ["r"]


@pytest.mark.parametrize(("clicked_by", "slate", "scored"), [("u", ["c"], 2), ("other", ["b", "c"], 1)])
async def test_a_slate_is_made_while_its_users_clicks_are_asked_for_and_again_if_there_are_any(
    make_memory: MakeMemory, clicked_by: str, slate: list[str], scored: int
):
    memory = make_memory(read_your_writes_ms=60_000, partitions=1)
    for item in "abc":
        memory.events.content(item)
    memory.events.click("u", "a")
    async with memory.worker() as worker:
        await worker.deliver()
        memory.events.click(clicked_by, "b")  # not read when the request comes
        shard = await worker.parts.partitions.shard(0)
        request = Request("r", "u", now_ms(memory))
        answer = asyncio.create_task(worker.parts.server.answer(request, shard, received=time.time()))
        await until(lambda: requests_scored(worker) == 1)
        assert not answer.done()
        await worker.deliver_one("clicks")
        assert sorted(items(await answer)) == slate
        assert requests_scored(worker) == scored


def requests_scored(worker):
    return worker.parts.metrics.registry.get_sample_value("slatestream_score_batch_requests_sum")


async def until(holds):
    """Wait until something holds."""
    async with asyncio.timeout(120):
        while not holds():
            await asyncio.sleep(0.001)
