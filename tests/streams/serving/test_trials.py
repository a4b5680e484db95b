"""Trials of new items in a whole worker: where they stand, what their record says, what becomes of them."""

from typing import Any

import pytest

from tests.streams.conftest import MakeMemory, Memory

K, LONG_AGO = 4, 1_000_000_000_000


def describe(memory: Memory, n_old: int) -> None:
    """Describe so many items that were published long ago, and one that is new."""
    for n in range(n_old):
        memory.events.content(f"old{n}", published_ms=LONG_AGO)
    memory.events.content("new")


async def test_a_new_item_stands_in_a_slate_with_a_propensity_of_one_and_says_so(
    make_memory: MakeMemory,
) -> None:
    memory = make_memory(partitions=1, policy="greedy", trial_share=0.25, candidate_policies=("softmax",))
    describe(memory, 8)
    async with memory.worker() as worker:
        await worker.deliver()
        for n in range(8):
            memory.events.click("fan", f"old{n}", "like")
        await worker.deliver()
        for n in range(20):
            memory.events.request(f"u{n}", request_id=f"r{n}", k=K)
        memory.events.request("who looks", k=K, preview=True)
        await worker.deliver()
        positions = set()
        for record in memory.events.recommendations():
            slate = {item.item_id: item for item in record.slate}
            assert len(slate) == K == len(record.slate)
            new = slate["new"]  # a share of .25 is one of each four
            assert new.reasons[0] == "new, shown to learn who likes it"
            assert (new.propensity, record.candidate_propensities["softmax"][new.position]) == (1.0, 1.0)
            assert all(one.item_id.startswith("old") for one in record.slate if one is not new)
            others = [
                one for at, one in enumerate(record.candidate_propensities["softmax"]) if at != new.position
            ]
            assert all(0.0 < one < 1.0 for one in others[:-1])
            positions.add(new.position)
        assert positions == {2, 3}
        assert "slatestream_trials_total 20.0" in worker.parts.metrics.render()[0].decode()
        # Ten likes make it an item like any other.
        for n in range(10):
            memory.events.click(f"liker{n}", "new", "like")
        await worker.deliver()
        memory.clock.move(1_001)
        memory.events.request("later", request_id="later", k=K)
        await worker.deliver()
        assert all(item.reasons[0] != new.reasons[0] for item in memory.events.recommendations()[-1].slate)


@pytest.mark.parametrize(
    ("settings", "attributes"),
    [
        ({"prerequisites_attribute": "requires"}, {"requires": ["old0"]}),
        ({"prerequisites_attribute": "requires"}, {"requires": ["nothing"]}),
        ({"budget_attribute": "daily_budget"}, {"daily_budget": ["0"]}),
    ],
)
async def test_as_many_slates_have_a_new_item_where_most_new_ones_may_not_be_given(
    make_memory: MakeMemory, settings: dict[str, Any], attributes: dict[str, list[str]]
) -> None:
    memory = make_memory(partitions=1, policy="greedy", trial_share=0.25, **settings)
    describe(memory, 8)
    for n in range(500):
        memory.events.content(f"held{n}", attributes=attributes)
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.life.pace()
        for n in range(40):
            memory.events.request(f"u{n}", k=K)
        await worker.deliver()
        tried = [
            item.item_id
            for record in memory.events.recommendations()
            for item in record.slate
            if item.reasons[0] == "new, shown to learn who likes it"
        ]
        assert tried == ["new"] * 40


async def test_whoever_has_met_it_is_not_given_it_again(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, policy="greedy", trial_share=0.25)
    describe(memory, 8)
    async with memory.worker() as worker:
        await worker.deliver()
        memory.events.click("u", "new", "like")
        await worker.deliver()
        memory.events.request("u", request_id="r", k=K)
        await worker.deliver()
        assert "new" not in [item.item_id for item in memory.events.recommendations()[-1].slate]


async def test_what_is_taken_of_slates_from_before_a_restart_is_in_no_rate(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, policy="greedy", trial_share=0.1)
    describe(memory, 12)
    async with memory.worker() as worker:
        await worker.deliver()
        for n in range(100):
            memory.events.request(f"u{n}", k=10)
        await worker.deliver()
        await worker.flush()
        worker.commit()
    before = memory.events.recommendations()
    async with memory.worker() as worker:
        await worker.deliver()
        for record in before:
            for item in record.slate[5:]:
                if item.item_id != "new":
                    memory.events.click(record.user_id, item.item_id, "like", request_id=record.request_id)
        await worker.deliver()
        counts = worker.parts.shared.trials
        assert (counts.shown, counts.taken) == (0, 0)
        for n in range(20):  # more than it takes until the new item's rate is believed
            memory.events.request(f"v{n}", request_id=f"v{n}", k=10)
        await worker.deliver()
        memory.clock.move(1_001)
        memory.events.request("w", k=10)
        await worker.deliver()
        assert len(memory.events.recommendations()) == 121
        after = memory.events.recommendations()[-1]
        old = next(item.item_id for item in after.slate[5:] if item.item_id != "new")
        memory.events.click("w", old, "like", request_id=after.request_id)
        await worker.deliver()
        assert counts.taken == 1 < counts.shown


async def test_a_user_who_takes_an_item_out_of_many_slates_has_taken_it_once(make_memory: MakeMemory) -> None:
    memory = make_memory(partitions=1, policy="greedy", trial_share=0.25)
    describe(memory, 8)
    async with memory.worker() as worker:
        await worker.deliver()
        asked = [memory.events.request(user, k=K) for user in ["fake"] * 7 + ["honest"]]
        await worker.deliver()
        for request_id in asked[:7]:
            for action in ("click", "like"):
                memory.events.click("fake", "new", action, request_id=request_id)
        memory.events.click("honest", "new", "like", request_id=asked[7])
        await worker.deliver()
        assert worker.parts.shared.trials.of(["new"]) == [(8, 2)]
