"""A topic's messages as the Kafka client has them, with headers and timestamp types."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import Topic


def messages(kafka: Kafka, topic: Topic, timeout_seconds: float = 30) -> Iterator[Message]:
    """All that a topic holds now, partition by partition, beside every consumer group.

    Raises KafkaException when the topic can't be read or nothing comes in time.
    """
    name = kafka.topic(topic)
    consumer = Consumer(
        {
            **kafka.client_config(),
            "group.id": f"tidegate-reading-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        for partition in consumer.list_topics(name, timeout=timeout_seconds).topics[name].partitions:
            consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING)])
            while True:
                message = consumer.poll(timeout_seconds)
                if message is None:
                    raise KafkaException(f"{name}-{partition}: nothing came in {timeout_seconds} s")
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:
                        break
                    raise KafkaException(error)
                yield message
    finally:
        consumer.close()
