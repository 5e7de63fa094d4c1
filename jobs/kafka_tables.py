"""Parts of the SQL that declares a Kafka topic as a table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from tidegate.schemas import topics
from tidegate.schemas.rows.accounting import DeadLetter
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


def columns_of(model: type[BaseModel]) -> dict[str, str]:
    """A row's columns and their SQL types, in the model's order, for Flink's format json.

    Raises TypeError for a field whose values have no SQL type.
    """
    schema = model.model_json_schema(mode="serialization")
    return _columns(schema, schema.get("$defs", {}))


def _columns(schema: Mapping[str, Any], models: Mapping[str, Any]) -> dict[str, str]:
    return {name: _sql_type(name, field, models) for name, field in schema["properties"].items()}


def _sql_type(name: str, field: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        kinds = [one for one in field["anyOf"] if one.get("type") != "null"]
        if len(kinds) == 1:
            return _sql_type(name, kinds[0], models)
    elif "$ref" in field:
        parts = _columns(models[field["$ref"].rpartition("/")[2]], models)
        return f"ROW<{', '.join(f'`{part}` {sql_type}' for part, sql_type in parts.items())}>"
    elif field["type"] == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"MAP<STRING, {_sql_type(name, field['additionalProperties'], models)}>"
    elif field["type"] == "array":
        return f"ARRAY<{_sql_type(name, field['items'], models)}>"
    elif field["type"] == "integer" and "const" in field:
        return "INT"
    elif found := _SQL_TYPES.get(field["type"]):
        return found
    raise TypeError(f"{name}: no SQL type for {field}; add one to columns_of")


_SQL_TYPES = {"string": "STRING", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN"}


def column_list(columns: Mapping[str, str]) -> str:
    """The columns of a CREATE TABLE; names are quoted, since some are SQL's own words."""
    return ",\n          ".join(f"`{name}` {sql_type}" for name, sql_type in columns.items())


def text(value: str) -> str:
    """A SQL text literal."""
    return "'" + value.replace("'", "''") + "'"


def dead_letters_table(name: str, kafka: Kafka) -> str:
    """The topic of dead letters as a sink."""
    return f"""
        CREATE TEMPORARY TABLE {name} (
          {column_list(_LETTER_TYPES)}
        ) WITH ({sink(kafka, topics.DEAD_LETTERS)}, 'format' = 'json')"""


_LETTER_TYPES = columns_of(DeadLetter) | {"partition": "INT"}  # as Kafka's metadata have it


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
