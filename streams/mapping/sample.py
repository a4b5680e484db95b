"""Some records of a topic, or of a file, to look at."""

import asyncio
import codecs
import gzip
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.errors import SlatestreamError
from streams.kafka.column_fetch import fetch_columns
from streams.kafka.columns import Record
from streams.kafka.options import aiokafka_client_options
from streams.kafka.topic_admin import admin_client
from streams.mapping.places import Headers
from streams.settings import Settings

TIMEOUT_S = 30.0
POLL_MS = 200
GZIP = b"\x1f\x8b"
LONGEST_LINE = 4 * 1024 * 1024
"""As much as a record of `content` may have, bytes."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A record and its headers."""

    record: Record
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """Some records in their order; partitions of the topic they are from, 0 of a file."""

    records: Sequence[Sampled]
    partitions: int
    faults: Sequence[str] = ()


async def sample_topic(settings: Settings, topic: str, most: int) -> Sample:
    """Read the newest records of a topic, about the same number of each partition.

    Raises
    ------
    SlatestreamError
        If the brokers cannot be reached, or there is no such topic.
    """
    count = await asyncio.to_thread(_count_partitions, settings, topic)
    consumer = AIOKafkaConsumer(
        **aiokafka_client_options(settings), group_id=None, enable_auto_commit=False,
        isolation_level="read_committed",
    )  # fmt: skip
    try:
        await consumer.start()
        fetch_columns(consumer)
        tps = [TopicPartition(topic, part) for part in range(count)]
        found = await asyncio.wait_for(_newest(consumer, tps, -(-most // count)), TIMEOUT_S)
    except TimeoutError:
        raise SlatestreamError(f"{topic} was not read within {TIMEOUT_S:.0f} s") from None
    except KafkaError as error:
        raise SlatestreamError(f"{topic} cannot be read: {error}") from error
    finally:
        await consumer.stop()
    found.sort(key=lambda one: (one.record.timestamp, one.record.partition, one.record.offset))
    return Sample(found[-most:], count)


def _count_partitions(settings: Settings, topic: str) -> int:
    with admin_client(settings) as admin:
        if topic not in admin.list_topics():
            raise SlatestreamError(f"there is no topic {topic!r} on {settings.bootstrap_servers}")
        return len(admin.describe_topics([topic])[0]["partitions"])


async def _newest(consumer: AIOKafkaConsumer, tps: list[TopicPartition], each: int) -> list[Sampled]:
    begins, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    open_ = {tp for tp in tps if ends[tp] > begins[tp]}
    found: list[Sampled] = []
    if not open_:
        return found
    consumer.assign(list(open_))
    for tp in open_:
        consumer.seek(tp, max(begins[tp], ends[tp] - each))
    while open_:
        for tp, (records,) in (await consumer.getmany(timeout_ms=POLL_MS)).items():
            if tp in open_:
                found += [Sampled(record, records.headers(row)) for row, record in enumerate(records)]
        open_ = {tp for tp in open_ if await consumer.position(tp) < ends[tp]}
    return found


def sample_file(path: Path, topic: str, most: int) -> Sample:
    """Read the first lines of a JSON Lines file, also one that gzip has packed, as values of a topic.

    Raises
    ------
    SlatestreamError
        If the file cannot be read.
    """
    found: list[Sampled] = []
    faults: list[str] = []
    now_ms = int(time.time() * 1000)
    try:
        for number, line in _lines(path):
            if line is None:
                faults.append(f"{path} line {number}: longer than {LONGEST_LINE:,} bytes, left out")
                continue
            if line.strip():
                found.append(Sampled(Record(topic, 0, number, now_ms, None, line.strip())))
            if len(found) == most:
                break
    except (OSError, EOFError, zlib.error) as error:
        raise SlatestreamError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return Sample(found, 0, faults)


def _lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield number and text of each line, None of one too long, which is never held in memory."""
    with path.open("rb") as raw:
        begin = raw.peek(2)[:2]
        if begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise SlatestreamError(
                f"{path} is UTF-16: convert it, as `iconv -f UTF-16 -t UTF-8 {path.name}` does"
            )
        file: IO[bytes] = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if begin == GZIP else raw
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) <= LONGEST_LINE:
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                continue
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            yield number, None
