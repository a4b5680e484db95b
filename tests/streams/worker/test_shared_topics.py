"""What every worker follows, on a log in memory."""

import pytest

from streams.experiments.definition import Experiment, Variant, encode_experiment
from streams.kafka.partitioner import partition_of
from streams.state.policy_row import arm_key, statistics_key
from streams.state.rows import ItemState, covisit_key, encode
from streams.worker.shared_topics import OWNER_PREFIX
from tests.streams.conftest import MakeMemory, Memory

PLACE = partition_of("u", 2)


async def test_an_item_that_one_worker_encodes_is_served_by_all(memory: Memory) -> None:
    async with memory.worker() as one, memory.worker() as other:
        memory.events.content("a", title="A")
        await one.deliver("content")
        await other.settle()
        for worker in (one, other):
            catalogue, index = worker.parts.shared.catalogue, worker.parts.shared.index
            assert catalogue.title(index.row_of("a")) == "A"
            assert worker.parts.lanes.pending == 0


async def test_a_worker_that_comes_later_knows_the_items_of_a_compacted_topic(memory: Memory) -> None:
    async with memory.worker() as worker:
        for title in ("first", "second"):
            memory.events.content("a", title=title)
            await worker.deliver("content", most=1)
    memory.log.compact("item-state")
    async with memory.worker() as later:
        catalogue, index = later.parts.shared.catalogue, later.parts.shared.index
        assert catalogue.title(index.row_of("a")) == "second"


async def test_users_of_an_experiment_are_served_by_it_from_the_first_request_on(memory: Memory) -> None:
    definition = Experiment(
        name="x", kind="ab", started_ms=1_700_000_000_000, share=1.0,
        variants=[Variant(name, "softmax:temperature=0.5") for name in ("a", "b")],
    )  # fmt: skip
    memory.log.append("experiments", 0, [(b"x", encode_experiment(definition))])
    memory.events.content("a")
    memory.events.request("u")
    async with memory.worker() as worker:
        await worker.deliver()
        (slate,) = memory.events.recommendations()
        assert (slate.experiment, slate.policy) == ("x", "softmax")


async def test_each_worker_says_where_it_is_reached_and_hears_of_the_others(make_memory: MakeMemory) -> None:
    memory = make_memory(advertised_url="http://one")
    async with memory.worker() as worker:
        parts = worker.parts.shared_topics
        assert parts.owner_url(PLACE) is None  # it is this one
        key = OWNER_PREFIX + PLACE.to_bytes(2, "big")
        assert [r.value for r in memory.log.records("policy-state", PLACE) if r.key == key] == [b"http://one"]
        memory.log.append("policy-state", PLACE, [(key, b"http://other")])
        await worker.assign([1 - PLACE])
        assert parts.owner_url(PLACE) == "http://other"
        await worker.assign([0, 1])  # and who owns it says so again, whatever a former owner has said
        said = [row.value for row in memory.log.records("policy-state", PLACE) if row.key == key]
        assert said == [b"http://one", b"http://other", b"http://one"]


def item_row(**changes: object) -> bytes:
    """A row of the item k, as no worker writes it."""
    row = ItemState(1, "k", "K", None, None, None, {}, [], True, None, None, PLACE, 0)
    for name, value in changes.items():
        setattr(row, name, value)
    return encode(row)


UNREADABLE = {
    "policy-state": [
        (statistics_key(PLACE), None), (statistics_key(PLACE), b"\x91\x01"), (b"stats", b"null"),
        (arm_key(PLACE, 7), b"\xff"), (covisit_key(PLACE, 7), b"\xff"), (covisit_key(PLACE, 7)[:-3], b"{}"),
        (OWNER_PREFIX + PLACE.to_bytes(2, "big"), b"\xff"), (b"\xff", b""), (b"k" * 100_000, b"[" * 100_000),
    ],
    "item-state": [
        (b"k", b"null"), (b"", b""), (b"\xff", b"\x91\x7f"), (b"k" * 100_000, b"[" * 100_000),
        *((b"k", item_row(**{name: 2**63})) for name in ("since_ms", "published_ms", "expires_ms", "offset")),
        (b"k", item_row(since_ms="now")), (b"k", item_row(text=b"\0\0\0")),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", UNREADABLE)
async def test_rows_that_cannot_be_read_end_no_worker_and_cost_no_neighbour(
    make_memory: MakeMemory, name: str
) -> None:
    memory, elsewhere = make_memory(), make_memory()
    elsewhere.events.content("a", title="A")
    async with elsewhere.worker() as other:
        await other.deliver("content")
    (item,) = elsewhere.log.records("item-state")
    good = [(item.key, item.value), (OWNER_PREFIX + PLACE.to_bytes(2, "big"), b"http://other")]
    async with memory.worker() as worker:
        await worker.assign([1 - PLACE])
        memory.log.append(name, PLACE, [*UNREADABLE[name], good[name == "policy-state"]])
        await worker.settle()
        parts = worker.parts
        if name == "policy-state":
            assert parts.shared_topics.owner_url(PLACE) == "http://other"
        else:
            catalogue = parts.shared.catalogue
            assert catalogue.title(parts.shared.index.row_of("a")) == "A"
            assert (catalogue.n_live, catalogue.described_ms("k")) == (1, None)
        labels = {"topic": name, "outcome": "unreadable"}
        assert parts.metrics.registry.get_sample_value("slatestream_events_total", labels) > 2
