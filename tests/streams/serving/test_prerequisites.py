"""Items that require others, served by a whole worker on a log in memory."""

import asyncio
import logging

import pytest

from streams.events import Request
from streams.kafka.partitioner import partition_of
from tests.streams.conftest import MakeMemory, Memory

ACTIONS = {"view": 0.1, "start": 1.0, "complete": 3.0, "drop": -1.0}
RULES = {
    "actions": ACTIONS, "seen_actions": ["complete", "drop"], "done_actions": ["complete"],
    "prerequisites_attribute": "requires",
}  # fmt: skip


@pytest.fixture
def courses(make_memory: MakeMemory) -> Memory:
    memory = make_memory(**RULES)
    describe(memory)
    return memory


def describe(memory: Memory) -> None:
    for name, requires in {
        "basics": [], "algebra": [], "statistics": ["basics", "algebra"], "learning": ["statistics"],
    }.items():  # fmt: skip
        memory.events.content(name, title=name.title(), attributes={"requires": requires, "by": ["Ann"]})


async def given(memory, worker, user="u", **fields):
    wanted = memory.events.request(user, **fields)
    await worker.deliver("requests")
    (found,) = [one for one in memory.events.recommendations() if one.request_id == wanted]
    return [item.item_id for item in found.slate], found


async def test_a_learner_is_offered_what_they_have_done_the_requirements_of(courses: Memory):
    async with courses.worker() as worker:
        await worker.deliver()
        slate, found = await given(courses, worker)
        assert sorted(slate) == ["algebra", "basics"]
        assert {item.propensity for item in found.slate} == {1.0}
        courses.events.click("u", "basics", "complete")
        courses.events.click("u", "algebra", "start")
        await worker.deliver()
        assert (await given(courses, worker))[0] == ["algebra"]
        courses.events.click("u", "algebra", "complete")
        await worker.deliver()
        assert (await given(courses, worker))[0] == ["statistics"]
        assert sorted((await given(courses, worker, "v"))[0]) == ["algebra", "basics"]
    async with courses.worker() as worker:  # restored
        await worker.deliver()
        assert (await given(courses, worker))[0] == ["statistics"]


async def test_learners_of_one_batch_are_offered_each_their_own(courses: Memory):
    async with courses.worker() as worker:
        await worker.deliver("content")
        for item in ("basics", "algebra"):
            courses.events.click("u", item, "complete")
        await worker.deliver("clicks")
        asked = {user: courses.events.request(user) for user in "uvw"}
        await worker.deliver("requests")
        found = {one.request_id: sorted(item.item_id for item in one.slate)
                 for one in courses.events.recommendations()}  # fmt: skip
        assert found[asked["u"]] == ["statistics"]
        assert found[asked["v"]] == found[asked["w"]] == ["algebra", "basics"]


async def test_nothing_else_brings_what_is_not_open_yet(courses: Memory):
    async with courses.worker() as worker:
        await worker.deliver()
        slate, _ = await given(courses, worker, pinned=["learning"], boosts={"statistics": 9.0})
        assert sorted(slate) == ["algebra", "basics"]
        assert (await given(courses, worker, candidates=["statistics", "basics"]))[0] == ["basics"]
        assert (await given(courses, worker, candidates=["statistics"]))[0] == []
        # Nor does it that all else has been seen.
        for item in ("basics", "algebra"):
            courses.events.click("w", item, "drop")
        await worker.deliver()
        slate, found = await given(courses, worker, "w")
        assert (sorted(slate), found.fallback) == (["algebra", "basics"], "all_seen")
        shard = await worker.parts.partitions.shard(partition_of("u", 2))
        request = Request(request_id="p", user_id="u", timestamp_ms=int(courses.clock.time() * 1000))
        (preview,) = await worker.parts.lanes.serving.previews.of(request, shard)
        assert sorted(item.item_id for item in preview.slate) == ["algebra", "basics"]


async def test_popular_slates_keep_to_the_requirements(make_memory: MakeMemory):
    memory = make_memory(**RULES, max_in_flight=1, when_overloaded="fallback", partitions=1)
    describe(memory)
    for user in ("v", "w"):
        for item in ("statistics", "learning"):
            memory.events.click(user, item, "complete")
    for item in ("basics", "algebra"):
        memory.events.click("x", item, "complete")
    async with memory.worker() as worker:
        await worker.deliver()
        worker.parts.server.refresh_popular()
        shard = await worker.parts.partitions.shard(0)

        async def ask(number, user):
            now_ms = int(memory.clock.time() * 1000)
            request = Request(request_id=f"p{number}", user_id=user, timestamp_ms=now_ms)
            return await worker.parts.server.answer(request, shard, received=memory.clock.time())

        _, *cheap = await asyncio.gather(*(ask(n, user) for n, user in enumerate("uux")))
        assert [one.fallback for one in cheap] == ["overloaded", "overloaded"]
        assert [sorted(item.item_id for item in one.slate) for one in cheap] == [
            ["algebra", "basics"], ["statistics"],
        ]  # fmt: skip


async def test_an_explanation_says_what_is_needed_first(courses: Memory):
    courses.events.content("egg", attributes={"requires": ["egg"]})
    async with courses.worker() as worker:
        courses.events.click("u", "basics", "complete")
        await worker.deliver()

        async def explain(item):
            return await worker.parts.lanes.serving.explainer.explain("u", item, partition_of("u", 2))

        found = await explain("statistics")
        assert (found.eligible, found.needs, found.not_yet) == (False, ["algebra"], "not yet: needs Algebra")
        found = await explain("egg")
        assert found.not_yet == (
            "not yet: needs egg; never offered: it requires itself, through what it requires"
        )
        found = await explain("algebra")
        assert (found.eligible, found.needs, found.not_yet) == (True, [], None)


async def test_items_that_nobody_can_be_offered_are_counted_and_logged_once(courses: Memory, caplog):
    courses.events.content("hen", attributes={"requires": ["egg"]})
    courses.events.content("egg", attributes={"requires": ["hen"]})
    courses.events.content("typo", attributes={"requires": ["bascis"]})
    async with courses.worker() as worker:
        await worker.deliver()
        with caplog.at_level(logging.WARNING, "streams.worker.dead_ends"):
            await worker.parts.dead_ends.look()
            courses.events.content("after", attributes={"requires": ["hen"]})
            await worker.deliver()
            await worker.parts.dead_ends.look()
        assert (
            "3 items can never be offered because of what they require, such as 'hen' (circle)" in caplog.text
        )
        assert len(caplog.records) == 1
        body = worker.parts.metrics.render()[0].decode()
        for why, n in (("circle", 2), ("unknown", 1), ("behind", 1)):
            assert f'slatestream_items_never_offered{{why="{why}"}} {n}.0' in body
        courses.events.content("egg")
        courses.events.content("bascis")
        await worker.deliver()
        await worker.parts.dead_ends.look()
        assert (
            'slatestream_items_never_offered{why="circle"} 0.0' in worker.parts.metrics.render()[0].decode()
        )
        assert sorted((await given(courses, worker))[0]) == ["algebra", "bascis", "basics", "egg"]
