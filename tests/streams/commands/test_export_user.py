"""What topics hold of a user is found wherever it stands, and nothing of others is."""

import json
from pathlib import Path

import pytest

from streams.commands.export_user import COMPACTED, Held, records_of
from streams.kafka.topics import TOPICS
from streams.pseudonyms import Pseudonyms
from tests.streams.conftest import MakeMemory, Memory


async def held(memory: Memory, user_id: str, names=tuple(TOPICS)) -> list[Held]:
    found = records_of(memory.settings, memory.log, memory.log.ends(), user_id, list(names))
    return [one async for one in found]


async def lived(memory: Memory, worker, user_id: str) -> None:
    memory.events.content("a")
    memory.events.user(user_id, preferences=["jazz"])
    memory.events.request(user_id, k=1)
    memory.events.click(user_id, "a", "like")
    memory.events.raw("clicks", user_id, json.dumps({"user_id": user_id}).encode())  # a dead letter
    await worker.deliver()
    await worker.flush()
    memory.clock.move(48 * 3_600_000)
    for n in range(8):
        memory.events.click(f"other{n}", "a")
    await worker.deliver()
    await worker.flush()


@pytest.mark.parametrize("user_id", ["u123", 'Zoë:"x', "x" * 90])
async def test_every_topic_that_names_a_user_is_found_and_no_other_user_is(
    make_memory: MakeMemory, user_id: str
) -> None:
    memory = make_memory()
    async with memory.worker() as worker:
        await lived(memory, worker, user_id)
        found = await held(memory, user_id)
        topics = {one.topic for one in found}
        assert topics == {
            "clicks", "users", "requests", "recommendations", "feedback", "dead-letters", "user-state"
        }  # fmt: skip
        assert all(json.loads(json.dumps(one.as_json()))["offset"] == one.offset for one in found)
        assert all(one.timestamp_ms > 0 for one in found)
        for stranger in (user_id + "0", "0" + user_id, user_id[:-1], user_id[1:], "nobody"):
            assert await held(memory, stranger) == []


async def test_nothing_is_found_on_compacted_topics_of_a_user_who_was_erased(memory: Memory) -> None:
    async with memory.worker() as worker:
        await lived(memory, worker, "u1")
        assert await held(memory, "u1", COMPACTED)
        memory.events.erase("u1")
        await worker.deliver()
        await worker.flush()
    for topic in COMPACTED:
        memory.log.compact(topic)
    assert await held(memory, "u1", COMPACTED) == []
    assert {one.topic for one in await held(memory, "u1")} >= {"clicks", "dead-letters"}


async def test_a_user_is_found_by_the_id_where_topics_have_the_pseudonym(
    make_memory: MakeMemory, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(64, 96)))
    memory = make_memory(pseudonym_key_file=key)
    pseudonym = Pseudonyms(key.read_bytes()).of("u1")
    memory.events.click(pseudonym, "a", "like")
    memory.events.raw("clicks", "u1", b"written past the import")
    memory.events.click(Pseudonyms(key.read_bytes()).of("u2"), "a", "like")
    assert len(await held(memory, "u1")) == 2
    assert len(await held(memory, pseudonym)) == 1


async def test_what_is_no_json_is_told_as_it_is(memory: Memory) -> None:
    memory.events.raw("clicks", "someone", b"\xff\xfeu1 was here")
    (found,) = await held(memory, "u1")
    assert found.as_json()["value"].startswith("base64:")
