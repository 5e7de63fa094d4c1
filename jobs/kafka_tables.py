"""Parts of the SQL that declares a Kafka topic as a table."""

from __future__ import annotations

from datetime import UTC, datetime

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


def messages_table(
    name: str,
    kafka: Kafka,
    topic: topics.Topic,
    group: str,
    *,
    bounded: bool,
    look_back_seconds: float | None = None,
    keyed: bool = False,
) -> str:
    """A topic as a source of untouched messages; keyed: with their keys, `message_key`.

    bounded: all that is in it now. look_back_seconds: a start without a checkpoint reads so far back; None: all of it.
    """
    if bounded:
        start = "'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'"
    elif look_back_seconds is None:
        start = "'scan.startup.mode' = 'earliest-offset'"
    else:
        since_ms = int((datetime.now(UTC).timestamp() - look_back_seconds) * 1000)
        start = f"'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = '{since_ms}'"
    return f"""
        CREATE TEMPORARY TABLE {name} (
          {"message_key STRING," if keyed else ""}
          message BYTES,
          kafka_partition INT METADATA FROM 'partition' VIRTUAL,
          kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
          kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL
        ) WITH (
          'connector' = 'kafka',
          'topic' = {text(kafka.topic(topic))},
          {properties(kafka)},
          'properties.group.id' = {text(group)},
          {start},
          'scan.topic-partition-discovery.interval' = '1 min',
          {_RAW_KEYED if keyed else "'format' = 'raw'"}
        )"""


_RAW_KEYED = """'key.format' = 'raw',
          'key.fields' = 'message_key',
          'value.format' = 'raw',
          'value.fields-include' = 'EXCEPT_KEY'"""


def messages_sink(name: str, kafka: Kafka, topic: topics.Topic) -> str:
    """A topic as a sink of ready-made messages, (message_key, message)."""
    return f"""
        CREATE TEMPORARY TABLE {name} (message_key STRING, message STRING) WITH (
          {sink(kafka, topic)},
          {_RAW_KEYED}
        )"""
