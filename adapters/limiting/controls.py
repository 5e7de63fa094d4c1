"""What operators say of limits: the newest word of each task, and a new one into `tidegate.limit-controls`."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from tidegate.adapters.kafka.log import TopicsReader
from tidegate.adapters.kafka.writer import write
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import LimitControl
from tidegate.schemas.settings import Kafka

_LOG = logging.getLogger(__name__)


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
