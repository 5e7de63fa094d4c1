"""What the job replica-changes has said of each task last: a start without a checkpoint goes on from there."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from tidegate.adapters.kafka.client import messages
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import ReplicaChange
from tidegate.schemas.settings import Kafka

_LOG = logging.getLogger(__name__)


def newest(kafka: Kafka) -> dict[str, ReplicaChange]:
    """Each task's change of the highest revision, by `department/task`. What is no change is told and left out.

    Raises KafkaException when the topic can't be read.
    """
    found: dict[str, ReplicaChange] = {}
    for message in messages(kafka, topics.REPLICA_CHANGES):
        if not (value := message.value()):
            continue
        try:
            change = ReplicaChange.model_validate_json(value)
        except ValidationError as error:
            _LOG.warning(
                "%s-%s-%s is no replica change: %s",
                *(message.topic(), message.partition(), message.offset(), error.errors()[0]["msg"]),
            )
            continue
        key = f"{change.department}/{change.task}"
        if key not in found or change.revision >= found[key].revision:
            found[key] = change
    return found
