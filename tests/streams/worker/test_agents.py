"""What the agents take in, refuse and complete, on a log in memory."""

import asyncio
import json

import msgspec
import pytest
from aiokafka.errors import MessageSizeTooLargeError

from streams.events import Click, Content, Request, UserUpdate, encode
from streams.kafka.partitioner import partition_of
from tests.streams.conftest import Memory

NOW = 1_700_000_000_000
CLICK = Click(event_id="e", user_id="u", item_id="i", action="click", timestamp_ms=NOW)
REQUEST = Request(request_id="r", user_id="u", timestamp_ms=NOW)
PLACE = partition_of("u", 2)


def changed(value: msgspec.Struct, **fields: object) -> bytes:
    return encode({**msgspec.to_builtins(value), **fields})


BAD = [
    ("clicks", b"{", "invalid"),
    ("clicks", b"\xff\xfe", "invalid"),
    ("clicks", changed(CLICK, user_id=""), "invalid"),
    ("clicks", changed(CLICK, item_id="x" * 513), "invalid"),
    ("clicks", changed(CLICK, timestamp_ms=1_700_000_000), "timestamp"),
    ("clicks", changed(CLICK, timestamp_ms=NOW + 86_400_001), "future"),
    ("clicks", changed(CLICK, action="nod"), "unknown_action"),
    ("clicks", None, "null_value"),
    ("requests", changed(REQUEST, k=0), "invalid"),
    ("requests", changed(REQUEST, k=201), "invalid"),
    ("requests", changed(REQUEST, timestamp_ms=NOW + 86_400_001), "future"),
    ("requests", None, "null_value"),
    ("users", changed(UserUpdate(user_id="u"), preferences="jazz"), "invalid"),
    ("content", changed(Content(item_id="u", title="t"), title=1), "invalid"),
    ("content", changed(Content(item_id="bad", title="t"), image={"data": "AAAA"}), "media"),
    ("content", changed(Content(item_id="bad", title="t"), image={"embedding": []}), "media"),
]


def good(memory: Memory, name: str, number: int) -> int:
    """Write a good record to a topic; return its offset."""
    said = memory.events
    if name == "clicks":
        return said.click("u", f"i{number}")
    if name == "users":
        return said.user("u", preferences=[f"p{number}"])
    if name == "content":
        return said.content("u", title=f"title {number}")
    said.request("u")
    return memory.log.end_offset("requests", PLACE) - 1


@pytest.mark.parametrize(("name", "value", "reason"), BAD)
async def test_a_bad_record_is_a_dead_letter_of_its_offset_and_costs_no_neighbour(
    memory: Memory, name: str, value: bytes | None, reason: str
) -> None:
    memory.log.skip(name, PLACE, 2)
    before = good(memory, name, 0)
    bad = memory.events.raw(name, "u", value)
    after = good(memory, name, 1)
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()
        committed = worker.commit()

        (letter,) = memory.events.dead_letters()
        assert (letter.topic, letter.partition, letter.offset) == (name, PLACE, bad)
        assert (letter.reason, letter.value) == (reason, value or b"")
        assert committed[name, PLACE] == after + 1 == before + 3
        shard = await worker.parts.partitions.shard(PLACE)
        if name == "clicks":
            assert shard.profiles.events(shard.profiles.row_of("u")) == 2
        elif name == "users":
            assert shard.profiles.stated.of(shard.profiles.row_of("u")).preferences == ["p1"]
        elif name == "content":
            assert worker.parts.shared.catalogue.n_live == 1
        else:
            assert len(memory.events.recommendations()) == 2


@pytest.mark.parametrize("levels", [40, 2_000])
@pytest.mark.parametrize("field", ["context", "unknown"])
@pytest.mark.parametrize("name", ["clicks", "users", "content", "requests"])
async def test_what_nests_too_deep_ends_no_worker(memory: Memory, name: str, field: str, levels: int) -> None:
    good(memory, name, 0)
    (record,) = memory.log.records(name)
    value = json.loads(record.value) | {"event_id": "deep", "request_id": "deep"}
    deep = json.dumps(value)[:-1] + f', "{field}": ' + '{"a":' * levels + "1" + "}" * levels + "}"
    memory.log.append(record.topic, record.partition, [(record.key, deep.encode())])
    good(memory, name, 1)
    async with memory.worker() as worker:
        await worker.deliver()
        letters = memory.events.dead_letters()
        taken = field == "context" and levels == 40 and name in ("users", "content")
        skipped = field == "unknown" and levels == 40
        assert len(letters) == (0 if taken or skipped else 1)


@pytest.mark.parametrize("name", ["users", "content"])
async def test_a_deletion_without_a_key_is_a_dead_letter(memory: Memory, name: str) -> None:
    offset = memory.log.append(name, PLACE, [(None, None)])
    async with memory.worker() as worker:
        await worker.deliver()
        (letter,) = memory.events.dead_letters()
        assert (letter.topic, letter.offset, letter.reason) == (name, offset, "null_key")


async def test_a_large_bad_record_is_cut_in_its_dead_letter_and_says_so(memory: Memory) -> None:
    memory.events.raw("clicks", "u", b"x" * 1_500_000)
    async with memory.worker() as worker:
        await worker.deliver()
        (letter,) = memory.events.dead_letters()
        assert (len(letter.value), letter.truncated) == (262_144, True)


@pytest.mark.parametrize("name", ["clicks", "users", "content", "requests"])
async def test_offsets_without_a_record_are_committed_past(memory: Memory, name: str) -> None:
    memory.log.skip(name, PLACE, 3)
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()
        assert worker.commit() == {(name, PLACE): 3}
        shard = await worker.parts.partitions.shard(PLACE)
        assert shard.clicks.position == (3 if name == "clicks" else 0)


async def test_a_dead_letter_that_is_refused_leaves_the_offset_uncommitted(memory: Memory) -> None:
    memory.events.raw("clicks", "u", b"{")
    memory.log.limits["dead-letters"] = 10
    async with memory.worker() as worker:
        with pytest.raises(MessageSizeTooLargeError):
            await worker.deliver()
        await worker.flush()
        assert worker.commit() == {}


async def test_a_title_that_no_changelog_takes_is_a_dead_letter_and_its_neighbours_are_served(
    memory: Memory,
) -> None:
    memory.log.limits["item-state"] = 2_000
    memory.events.content("a")
    large = memory.events.content("large", title="x" * 3_000)
    memory.events.content("b")
    async with memory.worker() as worker:
        await worker.deliver()
        assert worker.parts.shared.catalogue.n_live == 2
        (letter,) = memory.events.dead_letters()
        assert (letter.topic, letter.offset, letter.reason) == ("content", large, "too_large")
        assert worker.commit()["content", partition_of("large", 2)] == memory.log.end_offset(
            "content", partition_of("large", 2)
        )


async def test_what_a_user_states_is_refused_when_no_changelog_takes_it(memory: Memory) -> None:
    memory.events.user("u", preferences=["jazz"])
    many = memory.events.user("u", blocked_items=[f"{n:x}" for n in range(270_000)])
    async with memory.worker() as worker:
        await worker.deliver("users")
        await worker.flush()
        (letter,) = memory.events.dead_letters()
        assert (letter.topic, letter.offset, letter.reason) == ("users", many, "too_large")
        assert worker.commit() == {("users", PLACE): many + 1}
        shard = await worker.parts.partitions.shard(PLACE)
        assert shard.profiles.stated.of(shard.profiles.row_of("u")).preferences == ["jazz"]


async def test_erasing_a_user_is_on_the_changelog_before_the_next_batch(memory: Memory) -> None:
    memory.events.click("u", "i")
    async with memory.worker() as worker:
        await worker.deliver()
        await worker.flush()
        memory.events.erase("u")
        await worker.deliver_one("users")
        last = {record.key: record.value for record in memory.log.records("user-state", PLACE)}
        assert not [key for key, value in last.items() if key.startswith(b"u\0") and value is not None]


async def test_an_erased_user_stays_away_when_the_clicks_are_read_again(memory: Memory) -> None:
    memory.events.click("u", "i")
    async with memory.worker() as worker:
        await worker.deliver()
        memory.events.erase("u")
        await worker.deliver()
        worker.commit("users")
    async with memory.worker() as worker:
        await worker.deliver("clicks")
        shard = await worker.parts.partitions.shard(PLACE)
        row = shard.profiles.row_of("u")
        assert row < 0 or shard.profiles.events(row) == 0


async def test_an_erased_user_who_came_back_stays_when_all_logs_are_read_again(memory: Memory) -> None:
    memory.events.click("u", "i")
    async with memory.worker() as worker:
        await worker.deliver()
        memory.events.erase("u")
        await worker.deliver()
        memory.events.click("u", "j")
        await worker.deliver()
        await worker.flush()
    async with memory.worker() as worker:
        await worker.deliver("clicks", "users")
        shard = await worker.parts.partitions.shard(PLACE)
        assert shard.profiles.events(shard.profiles.row_of("u")) == 1


async def test_a_request_read_again_is_answered_once(memory: Memory) -> None:
    memory.events.content("a")
    memory.events.request("u", request_id="twice")
    memory.events.request("u", request_id="twice")
    async with memory.worker() as worker:
        await worker.deliver()
        assert [slate.request_id for slate in memory.events.recommendations()] == ["twice"]
        assert worker.commit()["requests", PLACE] == 2


async def test_the_way_of_a_request_to_the_worker_is_a_stage_of_its_own(memory: Memory) -> None:
    memory.events.content("a")
    memory.events.request("u")
    async with memory.worker() as worker:
        memory.clock.move(2_000)
        memory.events.request("u")
        await worker.deliver()
        read = worker.parts.metrics.registry.get_sample_value
        assert read("slatestream_stage_seconds_count", {"stage": "read"}) == 2
        assert read("slatestream_stage_seconds_sum", {"stage": "read"}) == pytest.approx(2.0)


async def test_who_asks_again_after_a_restart_and_long_after_has_the_same_slate(memory: Memory) -> None:
    for n in range(9):
        memory.events.content(f"i{n}")
    async with memory.worker() as worker:
        await worker.deliver()
        memory.events.request("u", request_id="first", k=3)
        await worker.deliver()
        memory.clock.move(8 * 86_400_000)
        memory.events.click("u", "i1")  # the slate is closed by now
        await worker.deliver()
        await worker.flush()
        worker.commit()
    memory.events.request("u", request_id="first", k=3)
    async with memory.worker() as worker:
        await worker.deliver()
    assert [slate.request_id for slate in memory.events.recommendations()] == ["first"]


async def test_users_on_a_foreign_partition_are_counted_and_taken_where_they_are(memory: Memory) -> None:
    memory.log.append("clicks", 1 - PLACE, [(b"u", encode(CLICK))])
    async with memory.worker() as worker:
        await worker.deliver()
        shard = await worker.parts.partitions.shard(1 - PLACE)
        assert shard.profiles.row_of("u") >= 0
        body, _ = worker.parts.metrics.render()
        assert b'wrong_partition_total{topic="clicks"} 1.0' in body


@pytest.mark.parametrize(("key", "spared"), [(b"u", True), (b'"u"', False)])
async def test_where_keys_are_not_the_users_a_request_waits_for_everybodys_clicks(
    memory: Memory, key: bytes, spared: bool
) -> None:
    memory.log.append("clicks", PLACE, [(key, encode(CLICK))])
    async with memory.worker() as worker:
        await worker.deliver()
        clicks = (await worker.parts.partitions.shard(PLACE)).clicks
        waiting = asyncio.ensure_future(clicks.reached(2, 60.0, key=b"u"))
        await asyncio.sleep(0)
        clicks.spare(2, lambda held: held == key)  # a second one is here
        assert not waiting.done()
        clicks.spare(2, lambda held: held == b"w")
        await asyncio.sleep(0)
        assert waiting.done() is spared
        clicks.advance(2)
        assert await waiting


async def test_what_users_state_and_erase_on_a_foreign_partition_is_counted(memory: Memory) -> None:
    update = encode(UserUpdate(user_id="u"))
    memory.log.append("users", 1 - PLACE, [(b"u", update), (b"other", update), (b"u", None), (b"", None)])
    memory.log.append("users", PLACE, [(b"u", update), (b"u", None)])
    async with memory.worker() as worker:
        await worker.deliver()
        body, _ = worker.parts.metrics.render()
        assert b'wrong_partition_total{topic="users"} 3.0' in body
        assert b'key_mismatch_total{topic="users"} 1.0' in body


async def test_a_deletion_that_names_nobody_is_counted_apart_and_said_and_not_repeated_in_the_log(
    memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    for item in ("i1", "i2"):
        memory.events.content(item)
    memory.events.user("u")
    memory.events.request("served", k=1)
    async with memory.worker() as worker:
        await worker.deliver()
        for key in ('"i1"', "null", "i1", "i1"):  # as a JSON serializer writes it; then the item, twice
            memory.log.append("content", PLACE, [(key.encode(), None)])
        for key in ('"u"', "null", "u", "u"):
            memory.log.append("users", PLACE, [(key.encode(), None)])
        memory.events.erase("served")  # somebody with a slate, and nothing else
        memory.events.content("i3")
        memory.events.raw("content", "i3", None)  # described just before
        await worker.deliver()
        body = worker.parts.metrics.render()[0].decode()
        for name, known in (("content", 3.0), ("users", 3.0)):
            assert f'events_total{{outcome="unknown",topic="{name}"}} 2.0' in body
            assert f'events_total{{outcome="tombstone",topic="{name}"}} {known}' in body
        index = worker.parts.shared.index
        assert worker.parts.shared.catalogue.exists(index.row_of("i2"))
    said = [message for message in caplog.messages if "of an id that is not known" in message]
    assert sorted(message.partition(":")[0] for message in said) == ["content", "users"]
    assert not [message for message in said if '"u"' in message or "i1" in message]
