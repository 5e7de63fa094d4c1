"""How topics are made, on the real Kafka."""

from __future__ import annotations

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Producer

from tests.support.kafka_messages import messages
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas import topics
from tidegate.schemas.settings import Kafka

LONG_AGO_MS = 1_700_000_000_000


def test_a_row_about_long_ago_is_kept_as_long_as_one_of_now(kafka: Kafka) -> None:
    made = (topics.SERVICE_METRICS_1S, topics.RATE_LIMITS)
    ensure_topics(kafka, made)
    producer = Producer(kafka.client_config())
    for topic in made:
        producer.produce(kafka.topic(topic), b"{}", timestamp=LONG_AGO_MS)
    assert producer.flush(30) == 0
    (row,), (limit,) = (list(messages(kafka, topic)) for topic in made)
    kind, at_ms = row.timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert at_ms > LONG_AGO_MS
    assert limit.timestamp() == (TIMESTAMP_CREATE_TIME, LONG_AGO_MS)
