"""One line of a recording: an event of the limit loop, with its topic and its time.

    {"topic": "kubernetes.replicas", "value": {...the row...}}

A task that was removed from the catalog, or a control that was removed, has no row: `"value": null`, with its `key`
and the time of the removal, `at`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from tidegate.schemas import topics
from tidegate.schemas.rows.limits import GatewayRow, LimitControl, ReplicaChange, ReplicasRow, TaskRow
from tidegate.schemas.timestamps import Timestamp, from_epoch_ms, to_epoch_ms, to_text

EventRow = ReplicasRow | GatewayRow | ReplicaChange | LimitControl | TaskRow

_MODELS: dict[str, type[EventRow]] = {
    topics.TASKS.name: TaskRow,
    topics.LIMIT_CONTROLS.name: LimitControl,
    topics.GATEWAYS.name: GatewayRow,
    topics.REPLICAS.name: ReplicasRow,
    topics.REPLICA_CHANGES.name: ReplicaChange,
}
_RANKS = {name: rank for rank, name in enumerate(_MODELS)}
_MOMENT = TypeAdapter(Timestamp)
RECORDED = (topics.TASKS, topics.LIMIT_CONTROLS, topics.GATEWAYS, topics.REPLICAS, topics.REPLICA_CHANGES)

REMOVABLE = frozenset({topics.TASKS.name, topics.LIMIT_CONTROLS.name})
"""The topics whose keys can be removed."""


class BadEvent(Exception):
    """A line is not a valid event. The message begins with the wrong field."""


@dataclass(frozen=True)
class RecordedEvent:
    """One message of a topic, and its time. row None: the key is removed."""

    topic: str
    at_ms: int
    key: str
    row: EventRow | None

    @property
    def is_catalog(self) -> bool:
        """Whether the event is of the task catalog."""
        return self.topic == topics.TASKS.name

    @property
    def place(self) -> tuple[int, int, int, str]:
        """The sort key of events; equal for equal events only.

        Of two counts at one moment the more conservative one comes last, and so prevails.
        """
        conservative, row = 0, self.row
        if isinstance(row, ReplicasRow):
            conservative = -row.replicas_ready
        elif isinstance(row, GatewayRow):
            conservative = row.gateways_ready
        elif isinstance(row, ReplicaChange):
            conservative = row.revision
        text = self.key if row is None else row.model_dump_json()
        return self.at_ms, _RANKS[self.topic], conservative, text

    def to_line(self) -> str:
        """The line of a recording; `read_event` reads it."""
        if self.row is not None:
            return f'{{"topic":"{self.topic}","value":{self.row.model_dump_json()}}}'
        removed = {
            "topic": self.topic,
            "key": self.key,
            "value": None,
            "at": to_text(from_epoch_ms(self.at_ms)),
        }
        return orjson.dumps(removed).decode()


_AT: dict[type[EventRow], Callable[[Any], datetime]] = {
    TaskRow: lambda row: row.published_at,
    LimitControl: lambda row: row.set_at,
    GatewayRow: lambda row: row.observed_at,
    ReplicasRow: lambda row: row.observed_at,
    ReplicaChange: lambda row: row.settled_at,
}


def event_of(row: EventRow) -> RecordedEvent:
    """The event of a row, at the time that the row holds."""
    topic = next(name for name, model in _MODELS.items() if isinstance(row, model))
    return RecordedEvent(topic, to_epoch_ms(_AT[type(row)](row)), row.id, row)


def read_row(topic: str, value: bytes) -> EventRow:
    """The row in a message of this topic (its name without the prefix). Raises BadEvent."""
    try:
        return _MODELS[topic].model_validate_json(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise BadEvent(f"{'.'.join(map(str, ('value', *wrong['loc'])))}: {wrong['msg']}") from error


def read_event(line: bytes) -> RecordedEvent:
    """Parse a line of a recording. Raises BadEvent."""
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadEvent(f"whole line: not valid JSON: {error}") from error
    if not isinstance(fields, dict) or not fields.keys() <= {"topic", "value", "key", "at"}:
        raise BadEvent('whole line: must be {"topic": NAME, "value": {...}}')
    topic = fields.get("topic")
    if topic not in _MODELS:
        raise BadEvent(f"topic: {topic!r} is not one of {', '.join(_MODELS)}")
    if fields.get("value") is not None:
        return event_of(read_row(topic, orjson.dumps(fields["value"])))
    if topic not in REMOVABLE or "value" not in fields:
        raise BadEvent("value: missing")
    if not isinstance(fields.get("key"), str):
        raise BadEvent("key: missing: give the department/task that is removed")
    try:
        at = _MOMENT.validate_python(fields.get("at"))
    except ValidationError as error:
        raise BadEvent(f"at: {error.errors(include_url=False)[0]['msg']}") from error
    return RecordedEvent(topic, to_epoch_ms(at), fields["key"], None)
