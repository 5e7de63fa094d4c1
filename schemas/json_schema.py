"""JSON Schema of every topic's messages, for consumers that aren't written in Python."""

from __future__ import annotations

from typing import Any

from tidegate.schemas.topics import RowTopic, Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAJOR_VERSION = 1
"""Grows only when a field is renamed, removed or changes its meaning. A new field is no new version."""


def schema_id(topic: Topic) -> str:
    """The schema's `$id`: a name that stays the same wherever the file lies."""
    return f"urn:tidegate:topic:{topic.name}:v{MAJOR_VERSION}"


def file_name(topic: Topic) -> str:
    """The schema's file, named after the topic without its prefix."""
    return f"{topic.name}.schema.json"


def topic_schema(topic: RowTopic) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one message of this topic.

    It lets unknown fields pass: a newer tidegate may add some, and consumers must live with that.
    """
    schema = topic.row.model_json_schema(mode="serialization")
    _open(schema)
    return {"$schema": DIALECT, "$id": schema_id(topic)} | schema


def _open(schema: Any) -> None:
    if isinstance(schema, dict):
        if schema.get("additionalProperties") is False:
            del schema["additionalProperties"]
        for part in schema.values():
            _open(part)
    elif isinstance(schema, list):
        for part in schema:
            _open(part)
