"""The line counts that the job service-metrics publishes: the newest count of each fate."""

from __future__ import annotations

from tidegate.adapters.kafka import log
from tidegate.schemas import topics
from tidegate.schemas.rows.accounting import LineCount
from tidegate.schemas.settings import Kafka


def newest(kafka: Kafka) -> dict[str, int]:
    """Lines by fate (schemas.rows.accounting.LineKind), as the topic has them now; a fate without lines is absent.

    Raises KafkaUnavailable when the topic can't be read.
    """
    rows = log.newest(kafka, topics.LINE_COUNTS, LineCount).values()
    return {row.kind: row.lines for row in sorted(rows, key=lambda row: row.kind)}


def folded_names(kafka: Kafka) -> tuple[str, ...]:
    """The first names that went into `__overflow__` (schemas.rows.accounting.LineCount.names).

    Raises KafkaUnavailable when the topic can't be read.
    """
    rows = log.newest(kafka, topics.LINE_COUNTS, LineCount).values()
    return next((row.names or () for row in rows if row.kind == "folded"), ())
