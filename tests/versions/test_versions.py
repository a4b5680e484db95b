"""Workers go on with what earlier versions have left (files of `write`), and refuse what later ones write."""

import gzip
import json
from base64 import b64decode
from pathlib import Path

import msgspec
import pytest

from streams import events
from streams.durability.state_rows import Bucket, copy_rows
from streams.state.rows import COVISIT_PREFIX, CoVisits, decode, joined
from streams.testing.worker import MemoryWorker
from streams.verify.compare import COMPARED
from streams.verify.run import Scope, Verifier
from tests.streams.conftest import Memory
from tests.versions.write import POLICIES, SETTINGS, USERS

FILES = sorted(Path(__file__).parent.glob("*.jsonl.gz"))
DECODERS = {
    "content": events.decode_content,
    "requests": events.decode_request,
    "recommendations": events.decode_recommendation,
    "feedback": events.decode_feedback,
    "dead-letters": events.decode_dead_letter,
}
COUNTED_OTHERWISE = {"item", "policy"}
"""Kinds that earlier versions counted and learned by other rules: no fold gives them."""


def left(file: Path, policy: str) -> Memory:
    """A log with all that a file has; its clock stands where the file ends."""
    memory = Memory.of(**SETTINGS, policy=policy)
    with gzip.open(file, "rt") as text:
        lines = [line for line in map(json.loads, text) if line["policy"] == policy]
    for line in lines:
        topic, partition = line["topic"], line["partition"]
        if "committed" in line:
            memory.log.committed[topic, partition] = line["committed"]
            continue
        memory.clock.now_ms = line["time_ms"]
        memory.log.skip(topic, partition, line["offset"] - memory.log.end_offset(topic, partition))
        key, value = (None if line[name] is None else b64decode(line[name]) for name in ("key", "value"))
        memory.log.append(topic, partition, [(key, value)])  # type: ignore[list-item]
    return memory


async def differing(memory: Memory, worker: MemoryWorker, partition: int) -> set[str]:
    """Kinds of which a worker has another state than a fold of the logs."""

    async def ask(kind, bucket, tell_rows):
        shard = await worker.parts.partitions.shard(partition)
        return await worker.life.state(shard, kind, bucket, tell_rows=tell_rows)

    async def committed(partition: int) -> dict[str, int]:
        raise AssertionError("only what is stored begins there")

    scope = Scope(kinds=COMPARED, buckets=1, wait_s=5.0)
    verifier = Verifier(memory.settings, memory.log, memory.log.ends(), scope, committed=committed)
    result = await verifier.live(partition, ask)
    assert result.left_out == {}
    assert min(result.rows.values()) > 0
    return {one.kind for one in result.differences}


async def counts(worker: MemoryWorker, partition: int) -> dict[bytes, tuple[object, ...]]:
    """Counts of items that a worker has, by the keys of their rows."""
    shard = await worker.parts.partitions.shard(partition)
    rows = copy_rows(shard, worker.parts.shared.index, "items", Bucket(0, 1))()
    return {key: counted(key, value) for key, value in rows}


def counted(key: bytes, value: bytes) -> tuple[object, ...]:
    row = decode(CoVisits, "policy-state", key, value)
    others, numbers = joined([row.others], "<u8").tolist(), joined([row.counts], "<i4").tolist()
    return row.applied, row.popularity, dict(zip(others, numbers, strict=True))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
async def test_a_worker_goes_on_with_what_an_earlier_one_has_left(file: Path, policy: str) -> None:
    memory = left(file, policy)
    before = len(memory.events.recommendations())
    assert {slate.request_id for slate in memory.events.recommendations()} == {
        events.decode_request(record.value).request_id for record in memory.log.records("requests")
    }
    for _ in range(2):  # the second worker reads the first one's rows among those of the file
        async with memory.worker() as worker:
            for partition in range(2):
                records = memory.log.records("policy-state", partition)
                rows = {one.key: one.value for one in records if one.key.startswith(COVISIT_PREFIX)}
                assert rows
                assert await counts(worker, partition) == {key: counted(key, rows[key]) for key in rows}
            await worker.deliver()
            found = await differing(memory, worker, 0) | await differing(memory, worker, 1)
            assert found <= (set() if file == FILES[-1] else COUNTED_OTHERWISE)
            await worker.flush()
            worker.commit()
    assert len(memory.events.recommendations()) == before


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_every_record_of_an_earlier_version_is_read(file: Path) -> None:
    for name, read in DECODERS.items():
        values = [record.value for record in left(file, POLICIES[0]).log.records(name) if record.value]
        assert values
        for value in values:
            read(value)


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_row_of_a_later_version_is_refused_by_its_version_and_nothing_is_written(policy: str) -> None:
    memory = left(FILES[-1], policy)
    kinds = {}
    for topic in ("user-state", "policy-state"):
        for record in memory.log.records(topic):
            if record.value:
                kinds[topic, _kind(record.key)] = record
    assert len(kinds) >= 6
    for record in kinds.values():
        version, *fields = msgspec.msgpack.decode(record.value)
        for changed in ([version + 1, *fields, "more"], [version + 1, {}, "other"]):
            memory = left(FILES[-1], policy)
            memory.log.append(record.topic, record.partition, [(record.key, msgspec.msgpack.encode(changed))])
            n = len(memory.log.order)
            said = f"version {version + 1}; this worker reads|version {version}, got {version + 1}"
            with pytest.raises(ValueError, match=said):
                async with memory.worker() as worker:
                    await worker.deliver()
            assert len(memory.log.order) == n


async def test_an_item_of_a_later_version_is_left_out_and_said_and_the_others_are_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory = left(FILES[-1], POLICIES[0])
    record = next(one for one in memory.log.records("item-state") if one.value)
    version, *fields = msgspec.msgpack.decode(record.value)
    row = msgspec.msgpack.encode([version + 1, *fields, "more"])
    memory.log.append("item-state", record.partition, [(b"later", row)])
    memory.events.request("u", request_id="asked")
    async with memory.worker() as worker:
        await worker.deliver()
    assert f"item-state row b'later' has schema version {version + 1}; this worker reads" in caplog.text
    (slate,) = [one for one in memory.events.recommendations() if one.request_id == "asked"]
    assert slate.slate


async def test_a_row_of_users_of_a_kind_that_a_later_version_has_is_refused_and_nothing_is_written() -> None:
    memory, key = left(FILES[-1], POLICIES[0]), b"\xffnew\0"
    memory.log.append("user-state", 0, [(key, b"anything")])
    n = len(memory.log.order)
    with pytest.raises(
        ValueError, match="user-state row .*new.* is of a kind that this worker does not know"
    ):
        async with memory.worker() as worker:
            await worker.deliver()
    assert len(memory.log.order) == n
    memory.log.append("user-state", 0, [(key, None)])  # the later version has taken it back
    async with memory.worker() as worker:
        await worker.deliver()


def _kind(key: bytes) -> bytes:
    """What a row is of: the part of its key before what it is about."""
    if key.startswith(b"\xff"):
        return key[:7]
    if key.partition(b"\0")[0].decode() in USERS:
        return key[-2:]
    return key.partition(b"\0")[0][:4] if b"\0" in key else b""
