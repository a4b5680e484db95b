"""Where partitions end, asked of the real broker by our own bytes."""

from io import BytesIO

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.protocol.offset import OffsetRequest, OffsetResponse_v2

from streams.kafka.column_fetch import fetch_columns, read_last
from streams.kafka.ends import VERSION, Answer, EndOffsets, _request
from streams.kafka.publisher import Publisher
from streams.kafka.topics import topic_name


def test_a_request_is_encoded_as_aiokafka_does():
    theirs = OffsetRequest(-1, 1, [("käufe", [(0, -1), (3, -1)])])
    theirs = theirs.prepare({OffsetRequest.API_KEY: (VERSION, VERSION)})
    ours = _request("käufe", [0, 3])
    assert ours.encode() == theirs.encode()
    header = ours.build_request_header(correlation_id=7, client_id="wörker")
    assert header.encode() == theirs.build_request_header(correlation_id=7, client_id="wörker").encode()


def test_a_response_says_where_the_partitions_end_that_the_broker_leads():
    rows = [(0, 0, -1, 12), (3, 6, -1, -1)]
    data = BytesIO(b"head" + OffsetResponse_v2(0, [("käufe", rows)]).encode())
    data.seek(4)
    assert Answer.decode(data).ends == {0: 12}


async def test_ends_are_those_of_the_broker_and_move_with_every_row(kafka_settings):
    settings, topic = kafka_settings, topic_name(kafka_settings, "clicks")
    ends, publisher = EndOffsets(settings), Publisher(settings)
    await ends.start()
    await publisher.start()
    try:
        assert await ends.of(topic, range(settings.partitions)) == dict.fromkeys(
            range(settings.partitions), 0
        )
        last = await publisher.publish(topic, 1, [(b"u", b"v")] * 3)
        assert await ends.of(topic, [1, 0]) == {0: 0, 1: last + 1}
        assert await ends.of(topic, []) == {}
    finally:
        await publisher.stop()
        await ends.stop()


async def test_a_fetched_request_knows_of_every_click_from_before_it(kafka_settings):
    settings, publisher = kafka_settings, Publisher(kafka_settings)
    clicks, requests = (TopicPartition(topic_name(settings, name), 0) for name in ("clicks", "requests"))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, isolation_level="read_committed"
    )
    await publisher.start()
    await consumer.start()
    try:
        fetch_columns(consumer)
        read_last(consumer, clicks.topic)
        consumer.assign([clicks, requests])
        for tp in (clicks, requests):
            consumer.seek(tp, 0)
        known = 0
        for n in range(20):
            click = await publisher.publish(clicks.topic, 0, [(b"u", b"v")] * (1 + n % 3))
            request = await publisher.publish(requests.topic, 0, [(b"u", b"v")])
            read = -1
            while read < request:
                for records in (await consumer.getmany(timeout_ms=1000)).get(requests, []):
                    read = int(records.offsets[-1])
            end = records.ends.get((clicks.topic, 0))
            assert end is None or end > click
            known += end is not None
        assert known >= 15, "a response without the clicks is the exception"
    finally:
        await consumer.stop()
        await publisher.stop()
