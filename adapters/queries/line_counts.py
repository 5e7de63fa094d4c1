"""What the job service-metrics says of its lines: the newest count of each fate."""

from __future__ import annotations

from tidegate.adapters.kafka.client import messages
from tidegate.schemas import topics
from tidegate.schemas.rows.accounting import LineCount
from tidegate.schemas.settings import Kafka


def newest(kafka: Kafka) -> dict[str, int]:
    """Lines by fate (schemas.rows.LineKind), as the topic has them now; absent where there are none.

    Raises KafkaException when the topic can't be read.
    """
    counts: dict[str, int] = {}
    for message in messages(kafka, topics.LINE_COUNTS):
        if value := message.value():
            row = LineCount.model_validate_json(value)
            counts[row.kind] = row.lines
    return dict(sorted(counts.items()))
