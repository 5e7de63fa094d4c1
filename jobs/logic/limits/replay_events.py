"""One line of a recording: an event of the closed loop, its topic and its moment.

    {"topic": "kubernetes.replicas", "value": {...the row...}}

A task that was removed from the catalog, or an operator's word that was taken back whole, has no row: `"value": null`,
with its `key` and `at`, when that was.
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
"""Topics in which a key can be removed."""


class BadEvent(Exception):
    """A line is no event. The message begins with the field that is wrong."""


@dataclass(frozen=True)
class Event:
    """What a topic said at a moment. row None: what it said of this key before holds no more."""

    topic: str
    at_ms: int
    key: str
    row: EventRow | None

    @property
    def is_catalog(self) -> bool:
        """Whether it is of the task catalog."""
        return self.topic == topics.TASKS.name

    @property
    def place(self) -> tuple[int, int, int, str]:
        """Its place in the order of events; equal for equal events only.

        Of two counts of one moment the more careful one holds: it comes last.
        """
        careful, row = 0, self.row
        if isinstance(row, ReplicasRow):
            careful = -row.replicas_ready
        elif isinstance(row, GatewayRow):
            careful = row.gateways_ready
        elif isinstance(row, ReplicaChange):
            careful = row.revision
        text = self.key if row is None else row.model_dump_json()
        return self.at_ms, _RANKS[self.topic], careful, text

    def to_line(self) -> str:
        """As a line of a recording, which `read_event` reads."""
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


def event_of(row: EventRow) -> Event:
    """The event that a row tells of, at the moment that it says itself."""
    topic = next(name for name, model in _MODELS.items() if isinstance(row, model))
    return Event(topic, to_epoch_ms(_AT[type(row)](row)), row.id, row)


def read_row(topic: str, value: bytes) -> EventRow:
    """The row in a message of this topic (its name without the prefix). Raises BadEvent."""
    try:
        return _MODELS[topic].model_validate_json(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise BadEvent(f"{'.'.join(map(str, ('value', *wrong['loc'])))}: {wrong['msg']}") from error


def read_event(line: bytes) -> Event:
    """The event of a line. Raises BadEvent."""
    try:
        said = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadEvent(f"the whole: not JSON: {error}") from error
    if not isinstance(said, dict) or not said.keys() <= {"topic", "value", "key", "at"}:
        raise BadEvent('the whole: write {"topic": NAME, "value": {...}}')
    topic = said.get("topic")
    if topic not in _MODELS:
        raise BadEvent(f"topic: {topic!r} is none of {', '.join(_MODELS)}")
    if said.get("value") is not None:
        return event_of(read_row(topic, orjson.dumps(said["value"])))
    if topic not in REMOVABLE or "value" not in said:
        raise BadEvent("value: missing")
    if not isinstance(said.get("key"), str):
        raise BadEvent("key: missing: department/task that holds no more")
    try:
        at = _MOMENT.validate_python(said.get("at"))
    except ValidationError as error:
        raise BadEvent(f"at: {error.errors(include_url=False)[0]['msg']}") from error
    return Event(topic, to_epoch_ms(at), said["key"], None)
