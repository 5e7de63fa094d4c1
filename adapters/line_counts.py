"""What the job service-metrics says of its lines: the newest count of each fate."""

from __future__ import annotations

import uuid

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from tidegate.schemas import topics
from tidegate.schemas.rows import LineCount
from tidegate.schemas.settings import Kafka

_TIMEOUT_SECONDS = 10.0


def newest(kafka: Kafka) -> dict[str, int]:
    """Lines by fate (schemas.rows.LineKind), as the topic has them now; absent where there are none.

    Raises KafkaException when the topic can't be read.
    """
    topic = kafka.topic(topics.LINE_COUNTS)
    consumer = Consumer(
        {
            **kafka.client_config(),
            "group.id": f"tidegate-line-counts-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    counts: dict[str, int] = {}
    try:
        for partition in consumer.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic].partitions:
            consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
            while True:
                message = consumer.poll(_TIMEOUT_SECONDS)
                if message is None:
                    raise KafkaException(f"{topic}-{partition}: nothing came in {_TIMEOUT_SECONDS} s")
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:
                        break
                    raise KafkaException(error)
                if value := message.value():
                    row = LineCount.model_validate_json(value)
                    counts[row.kind] = row.lines
    finally:
        consumer.close()
    return dict(sorted(counts.items()))
