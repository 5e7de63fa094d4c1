"""Parts of the SQL that declares a Kafka topic as a table."""

from __future__ import annotations

from tidegate.schemas import topics
from tidegate.schemas.settings import Kafka


def sink(kafka: Kafka, topic: topics.Topic) -> str:
    """The options of a topic that is written, but for its formats."""
    return f"""'connector' = 'kafka',
          'topic' = {text(kafka.topic(topic))},
          {properties(kafka)},
          'sink.delivery-guarantee' = 'at-least-once'"""


def properties(kafka: Kafka) -> str:
    """How the Java client reaches Kafka."""
    return ",\n          ".join(
        f"{text('properties.' + key)} = {text(value)}" for key, value in kafka.java_config().items()
    )


def text(value: str) -> str:
    """A SQL text literal."""
    return "'" + value.replace("'", "''") + "'"


def dead_letters_table(name: str, kafka: Kafka) -> str:
    """The topic of dead letters as a sink."""
    return f"""
        CREATE TEMPORARY TABLE {name} (
          id STRING, topic STRING, `partition` INT, `offset` BIGINT, reason STRING, excerpt STRING, seen_at STRING
        ) WITH ({sink(kafka, topics.DEAD_LETTERS)}, 'format' = 'json')"""


def timestamp_text(column: str) -> str:
    """UTC, ISO 8601 with milliseconds and Z; the session's time zone is UTC."""
    return f"DATE_FORMAT({column}, 'yyyy-MM-dd''T''HH:mm:ss.SSS''Z''')"
