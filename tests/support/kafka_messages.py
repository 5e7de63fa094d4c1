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
            "fetch.wait.max.ms": 10,  # the end of an empty partition is reported after this
        }
    )
    try:
        found: dict[int, list[Message]] = {
            partition: []
            for partition in consumer.list_topics(name, timeout=timeout_seconds).topics[name].partitions
        }
        consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING) for partition in found])
        unread = set(found)
        while unread:
            message = consumer.poll(timeout_seconds)
            if message is None:
                raise KafkaException(f"{name}-{sorted(unread)}: nothing came in {timeout_seconds} s")
            partition = message.partition() or 0
            if error := message.error():
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                unread.discard(partition)
            elif partition in unread:
                found[partition].append(message)
        for partition in sorted(found):
            yield from found[partition]
    finally:
        consumer.close()
