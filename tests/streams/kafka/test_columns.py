import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from streams.kafka.column_fetch import fetch_columns
from streams.kafka.columns import Record, RecordColumns
from streams.kafka.options import aiokafka_client_options
from streams.kafka.topics import topic_name

RECORDS = [
    Record("t", 2, 5, 10, b"k", b"one"),
    Record("t", 2, 6, 11, None, b""),
    Record("t", 2, 9, 12, b"", None),
]


def test_columns_are_a_sequence_of_the_records_they_were_made_of():
    columns = RecordColumns.of(RECORDS)

    assert list(columns) == RECORDS
    assert [columns[k] for k in range(-1, 2)] == [RECORDS[k] for k in range(-1, 2)]
    assert list(columns[1:]) == RECORDS[1:]
    assert columns.offsets.tolist() == [5, 6, 9]
    assert [list(columns.since(offset)) for offset in (0, 6, 7, 10)] == [
        RECORDS, RECORDS[1:], RECORDS[2:], [],
    ]  # fmt: skip
    assert RecordColumns.of(columns) is columns
    assert list(RecordColumns.of([])) == []


def test_columns_of_records_that_follow_each_other_become_one():
    columns = RecordColumns.joined([RecordColumns.of(RECORDS[:2]), RecordColumns.of(RECORDS[2:])])
    assert list(columns) == RECORDS
    assert (columns.topic, columns.partition) == ("t", 2)


async def write(kafka_settings, topic, *, codec=None, transactional_id=None):
    options = aiokafka_client_options(kafka_settings)
    producer = AIOKafkaProducer(
        **options, compression_type=codec, transactional_id=transactional_id, linger_ms=20
    )
    await producer.start()
    try:
        for number, keep in enumerate((True, False, True)):
            if transactional_id:
                await producer.begin_transaction()
            for k in range(40):
                key = None if k % 7 == 1 else b"key%d" % k
                value = None if k % 11 == 2 else b"%d-" % number + b"v" * (3 * k)
                await producer.send(topic, value, key, partition=0, timestamp_ms=1_000 + k)
            await producer.flush()
            if transactional_id:
                await (producer.commit_transaction() if keep else producer.abort_transaction())
    finally:
        await producer.stop()


async def read(kafka_settings, topic, start, *, columns):
    consumer = AIOKafkaConsumer(
        **aiokafka_client_options(kafka_settings), group_id=None, isolation_level="read_committed"
    )
    tp = TopicPartition(topic, 0)
    await consumer.start()
    if columns:
        fetch_columns(consumer)
    records = []
    try:
        consumer.assign([tp])
        consumer.seek(tp, start)
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for found in (await consumer.getmany(tp, timeout_ms=200)).values():
                records += found[0] if columns else found
    finally:
        await consumer.stop()
    return [(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value) for r in records]


@pytest.mark.parametrize("written", [None, "gzip", "snappy", "lz4", "zstd", "a transaction"])
async def test_a_consumer_of_columns_reads_what_one_of_records_reads(kafka_settings, written):
    topic = topic_name(kafka_settings, "dead-letters")
    if written == "a transaction":
        await write(kafka_settings, topic, transactional_id=topic)
    else:
        await write(kafka_settings, topic, codec=written)
    for start in (0, 17, 100):
        expected = await read(kafka_settings, topic, start, columns=False)
        assert await read(kafka_settings, topic, start, columns=True) == expected
        assert len(expected) > 10


def test_headers_of_records_that_are_objects_are_kept_beside_nulls() -> None:
    headers = [("ce_id", b"1"), ("empty", b""), ("null", None), ("ümlaut", b"x" * 300)]
    records = [
        ConsumerRecord("t", 0, 4, 7, 0, b"k", b"v", None, 1, 1, headers),
        ConsumerRecord("t", 0, 5, 7, 0, None, None, None, -1, -1, ()),
        ConsumerRecord("t", 0, 6, 7, 0, b"k", None, None, 1, -1, headers[:1]),
    ]
    columns = RecordColumns.of(records)
    assert [(record.key, record.value) for record in columns] == [(b"k", b"v"), (None, None), (b"k", None)]
    assert [columns.headers(row) for row in range(3)] == [headers, [], headers[:1]]
    assert columns[1:].headers(1) == headers[:1]
    assert RecordColumns.of(records[1:2]).headers(0) == []
