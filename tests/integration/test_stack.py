"""The local stack with real servers."""

from __future__ import annotations

from confluent_kafka import Consumer, Producer
from tidegate.adapters.kafka import ensure_topics
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import ACCESS_LOGS


def test_kafka_keeps_what_it_is_given(kafka: Kafka) -> None:
    ensure_topics(kafka, [ACCESS_LOGS])
    producer = Producer(kafka.client_config())
    producer.produce(kafka.topic(ACCESS_LOGS), b"a line")
    assert producer.flush(30) == 0
    consumer = Consumer({**kafka.client_config(), "group.id": "g", "auto.offset.reset": "earliest"})
    consumer.subscribe([kafka.topic(ACCESS_LOGS)])
    message = consumer.poll(30)
    consumer.close()
    assert message is not None
    assert message.value() == b"a line"
