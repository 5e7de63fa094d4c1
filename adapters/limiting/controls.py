"""Operators' controls of limits: the newest of each task, and a new one into `tidegate.limit-controls`."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidegate.adapters.kafka import log
from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import LimitControl
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import Topic

_WAIT_SECONDS = 10.0


def newest(kafka: Kafka) -> dict[str, LimitControl]:
    """The newest control of each id. A message that is not a valid one is logged and left out.

    Raises KafkaUnavailable.
    """
    return log.newest(kafka, topics.LIMIT_CONTROLS, LimitControl)


def publish(kafka: Kafka, control: LimitControl) -> None:
    """Returns when Kafka has the control. Raises KafkaUnavailable after a while, KafkaException when it is refused."""
    write(kafka, topics.LIMIT_CONTROLS, [(control.id, control.model_dump_json())])


def write(kafka: Kafka, topic: Topic, messages: Iterable[tuple[str, str | None]]) -> None:
    """Keys and values into a topic, in order; returns when Kafka has them all.

    Raises KafkaUnavailable when not in time, KafkaException when it refuses one.
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
            f"Kafka at {kafka.bootstrap_servers} did not take all of {kafka.topic(topic)} within {_WAIT_SECONDS:g} s; "
            "check that it runs, then repeat the command"
        )
