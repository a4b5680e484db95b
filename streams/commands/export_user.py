"""`slatestream export-user`: all that topics hold of one user, and the proof that they hold nothing."""

import base64
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import typer

from streams.commands.progress import Tell, reading
from streams.errors import SlatestreamError
from streams.events import MAX_ID_LENGTH, UNDECODABLE
from streams.kafka.connected import run_connected
from streams.kafka.log import Ends, KafkaLog, Log
from streams.kafka.topic_admin import ConfigFile
from streams.kafka.topics import TOPICS, topic_partitions, topics_of_worker
from streams.pseudonyms import pseudonyms_of
from streams.settings import Settings, load_settings

COMPACTED = tuple(name for name, spec in TOPICS.items() if spec.cleanup == "compact")
DECODERS: tuple[Callable[[bytes], Any], ...] = (msgspec.json.decode, msgspec.msgpack.decode)
DEAD = b'"reason"'
FEATURES = "features"  # numbers in base64, in which any short id may stand


@dataclass(frozen=True, slots=True)
class Held:
    """A record that names a user: in its key, or anywhere in its value.

    erased : it says, by a null value, that what had this key before is gone
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None

    @property
    def erased(self) -> bool:
        """Whether it holds nothing: a tombstone, which goes by itself."""
        return self.value is None

    def as_json(self) -> dict[str, Any]:
        """Return what it says; what is no JSON and no msgpack is told in base64."""
        return {
            "topic": self.topic, "partition": self.partition, "offset": self.offset,
            "timestamp_ms": self.timestamp_ms, "key": _told(self.key), "value": _read(self.value),
        }  # fmt: skip


def export_user_command(
    user: Annotated[str, typer.Argument(help="Id of the user, or pseudonym.")],
    topics: Annotated[
        list[str] | None, typer.Option("--topic", help=f"Only of these: {', '.join(TOPICS)}.")
    ] = None,
    no_logs: Annotated[
        bool, typer.Option("--no-logs", help="Only of compacted topics: what does not go by itself.")
    ] = False,
    expect_none: Annotated[
        bool, typer.Option("--expect-none", help="Exit with 1 if anything is found, as after an erasure.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Print every record of every topic that names a user, a line of JSON each.

    All topics are read from their beginning, each record byte by byte. What a worker has made of it,
    affinities among them, `slatestream user` shows. Tombstones are no record of a user: they name whose rows
    are gone, and go themselves within a day.

    slatestream export-user u1 > u1.jsonl

    slatestream export-user u1 --no-logs --expect-none

    Exit code 0: done; 1: with --expect-none, something is held; 3: no broker answers.
    """
    if not 1 <= len(user) <= MAX_ID_LENGTH:
        raise SlatestreamError(f"a user's id has 1 to {MAX_ID_LENGTH} characters, got {len(user)}")
    if unknown := set(topics or ()) - TOPICS.keys():
        raise SlatestreamError(f"--topic must be one of {', '.join(TOPICS)}, got {min(unknown)!r}")
    settings = load_settings(config)
    names = [name for name in (topics or TOPICS) if not no_logs or name in COMPACTED]
    found = run_connected(settings, "export-user", _export(settings, user, names))
    print(f"{found:,} records of {', '.join(names)} name the user", file=sys.stderr)
    if expect_none and found:
        raise typer.Exit(1)


async def _export(settings: Settings, user_id: str, names: list[str]) -> int:
    log, found = KafkaLog(settings), 0
    ends = log.ends()
    await ends.start()
    try:
        total = 0
        for name in names:
            places = range(topic_partitions(settings, name))
            topic = topics_of_worker(settings)[name]
            total += sum((await ends.of(topic, places)).values())
            total -= sum((await ends.begins(topic, places)).values())
        with reading(total) as tell:
            async for held in records_of(settings, log, ends, user_id, names, tell=tell):
                print(json.dumps(held.as_json()))
                found += 1
    finally:
        await ends.stop()
    return found


async def records_of(
    settings: Settings,
    log: Log,
    ends: Ends,
    user_id: str,
    names: list[str],
    *,
    tell: Tell = lambda topic, n: None,
) -> AsyncIterator[Held]:
    """Yield the records of topics that name a user, tombstones left out.

    Of all partitions: a producer may have taken the wrong one. See `Names` for what names a user. An id is
    looked for as it is, and as the pseudonym by the key of the settings.
    """
    pseudonyms = pseudonyms_of(settings.pseudonym_key_file)
    known_as = [user_id] if pseudonyms is None else [user_id, pseudonyms.of(user_id)]
    tests = [Names(one).record for one in known_as]
    for name in names:
        topic = topics_of_worker(settings)[name]
        for partition, begin in (await ends.begins(topic, range(topic_partitions(settings, name)))).items():
            passed = begin
            async with aclosing(log.read(topic, partition)) as batches:
                async for records in batches:
                    for record in records:
                        held = Held(
                            topic, partition, record.offset, record.timestamp, record.key, record.value
                        )
                        if not held.erased and any(test(held.key, held.value) for test in tests):
                            yield held
                    tell(name, records[-1].offset + 1 - passed)
                    passed = records[-1].offset + 1


class Names:
    """Tells whether a record names a user: in the key, or in any text of the value, as a word of its own.

    What is neither JSON, msgpack nor UTF-8 names a user wherever the bytes of the id stand in it.
    """

    def __init__(self, user_id: str) -> None:
        self._bytes = user_id.encode()
        self._word = re.compile(rf"(?<![\w-]){re.escape(user_id)}(?![\w-])")

    def record(self, key: bytes | None, value: bytes | None) -> bool:
        """Tell it of a record; the keys of user-state are ids with a suffix."""
        return self._in_text((key or b"").partition(b"\0")[0]) or self._in_bytes(value)

    def _in_bytes(self, data: bytes | None) -> bool:
        if not data or (self._bytes not in data and b"\\" not in data and DEAD not in data):
            return False
        for decode in DECODERS:
            try:
                return self._in(decode(data))
            except (*UNDECODABLE, TypeError, ValueError):
                continue
        return self._in_text(data)

    def _in_text(self, data: bytes) -> bool:
        try:
            return self._word.search(data.decode()) is not None
        except UnicodeDecodeError:
            return self._bytes in data

    def _in(self, value: Any) -> bool:
        if isinstance(value, str):
            return self._word.search(value) is not None
        if isinstance(value, dict):
            # A dead letter has its record's bytes.
            raw = value.get("value") if {"value", "error", "reason"} <= value.keys() else None
            pairs = [pair for pair in value.items() if pair[0] != FEATURES]
            return any(self._in(one) for pair in pairs for one in pair) or (
                isinstance(raw, str) and self._in_base64(raw)
            )
        return isinstance(value, list) and any(self._in(one) for one in value)

    def _in_base64(self, text: str) -> bool:
        try:
            return self._in_bytes(base64.b64decode(text, validate=True))
        except ValueError:
            return False


def _read(value: bytes | None) -> Any:
    if value is None:
        return None
    for decode in DECODERS:
        try:
            return msgspec.to_builtins(decode(value), str_keys=True)
        except (*UNDECODABLE, TypeError, ValueError):
            continue
    return _told(value)


def _told(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(data).decode()
