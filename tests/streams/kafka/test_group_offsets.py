"""Where a group reads on, while topics are deleted and made anew, on a real broker."""

from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.kafka.group_offsets import ask_group_offsets
from streams.kafka.topic_admin import create_topics
from streams.kafka.topics import topic_name
from streams.settings import Settings
from tests.streams.kafka.test_consumer_patches import gone


async def test_offsets_and_ids_are_of_the_same_log_when_that_is_made_while_they_are_asked_for(
    kafka_settings: Settings,
) -> None:
    topic = topic_name(kafka_settings, "clicks")
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka_settings.bootstrap_servers,
        group_id=kafka_settings.group_id,
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        await gone(kafka_settings, topic)
        ask = consumer.beginning_offsets

        async def ask_when_made(tps: Any) -> Any:
            create_topics(kafka_settings)
            return await ask(tps)

        consumer.beginning_offsets = ask_when_made  # type: ignore[method-assign]
        found = await ask_group_offsets(consumer, {topic: (topic,)})
        assert found.ids[topic]
        assert found.marks[topic] == found.ids[topic]
    finally:
        await consumer.stop()
