"""Operators' controls of limits: the newest of each task, and a new one into `tidegate.limit-controls`."""

from __future__ import annotations

from tidegate.adapters.kafka import log
from tidegate.adapters.kafka.writer import write
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import LimitControl
from tidegate.schemas.settings import Kafka


def newest(kafka: Kafka) -> dict[str, LimitControl]:
    """The newest control of each id. A message that is not a valid one is logged and left out.

    Raises KafkaUnavailable.
    """
    return log.newest(kafka, topics.LIMIT_CONTROLS, LimitControl)


def publish(kafka: Kafka, control: LimitControl) -> None:
    """Returns when Kafka has the control. Raises KafkaUnavailable after a while, KafkaException when it is refused."""
    write(kafka, topics.LIMIT_CONTROLS, [(control.id, control.model_dump_json())])
