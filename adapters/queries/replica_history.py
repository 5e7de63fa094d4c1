"""The newest replica change of each task: the job replica-changes starts from there without a checkpoint."""

from __future__ import annotations

from tidegate.adapters.kafka.log import row_of, snapshot
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import ReplicaChange
from tidegate.schemas.settings import Kafka


def newest(kafka: Kafka) -> dict[str, ReplicaChange]:
    """Each task's change of the highest revision, by `department/task`. An invalid message is logged and left out.

    Raises KafkaUnavailable when the topic can't be read.
    """
    found: dict[str, ReplicaChange] = {}
    for message in snapshot(kafka, topics.REPLICA_CHANGES):
        change = row_of(message, ReplicaChange) if message.value else None
        if change is None:
            continue
        key = f"{change.department}/{change.task}"
        if key not in found or change.revision >= found[key].revision:
            found[key] = change
    return found
