"""A few messages into a topic, each acknowledged by the brokers before the writer returns."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import Topic

_WAIT_SECONDS = 10.0


def write(kafka: Kafka, topic: Topic, messages: Iterable[tuple[str, str | None]]) -> None:
    """Keys and values into a topic, in order; returns when Kafka has them all.

    Raises KafkaUnavailable when it hasn't in time, KafkaException when it refuses one.
    """
    ensure_topics(kafka, [topic], _WAIT_SECONDS)
    refused: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.append(error)

    producer = Producer(
        {
            **kafka.client_config(),
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": round(_WAIT_SECONDS * 1000),
            "log_level": 2,
        }
    )
    for key, value in messages:
        while True:
            try:
                producer.produce(kafka.topic(topic), value, key, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(_WAIT_SECONDS + 1)
    if refused and refused[0].code() != KafkaError._MSG_TIMED_OUT:
        raise KafkaException(refused[0])
    if left or refused:
        raise KafkaUnavailable(
            f"Kafka at {kafka.bootstrap_servers} did not acknowledge all of {kafka.topic(topic)} within "
            f"{_WAIT_SECONDS:g} s; check that it runs, then repeat the command"
        )
