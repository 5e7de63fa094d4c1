"""What operators say of limits: the newest word of each task, and a new one into `tidegate.limit-controls`."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from pydantic import ValidationError

from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics
from tidegate.adapters.kafka.log import TopicsReader
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import LimitControl
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import Topic

_LOG = logging.getLogger(__name__)
_WAIT_SECONDS = 10.0


def newest(kafka: Kafka) -> dict[str, LimitControl]:
    """The newest word of each id. What is no control is told in the log and left out.

    Raises KafkaUnavailable.
    """
    reader = TopicsReader(kafka, [topics.LIMIT_CONTROLS])
    try:
        found: dict[str, LimitControl] = {}
        for told in reader.read({topics.LIMIT_CONTROLS: None}):
            if told.value is None:
                found.pop(told.key, None)
                continue
            try:
                row = LimitControl.model_validate_json(told.value)
            except ValidationError as error:
                wrong = error.errors(include_url=False)[0]
                _LOG.warning("the word of %r is left out: %s: %s", told.key, wrong["loc"], wrong["msg"])
                continue
            found[row.id] = row
        return found
    finally:
        reader.close()


def publish(kafka: Kafka, control: LimitControl) -> None:
    """Returns when Kafka has the word. Raises KafkaUnavailable when it hasn't in time, KafkaException when refused."""
    write(kafka, topics.LIMIT_CONTROLS, [(control.id, control.model_dump_json())])


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
            f"Kafka at {kafka.bootstrap_servers} took not all of {kafka.topic(topic)} within {_WAIT_SECONDS:g} s; "
            "check that it runs, then say it again"
        )
