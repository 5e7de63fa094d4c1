"""The task catalog in `tidegate.tasks`: what it holds, and the messages that turn it into another one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from tidegate.adapters.kafka.log import row_of, snapshot
from tidegate.adapters.kafka.writer import write
from tidegate.jobs.logic.catalog_rows import RowCatalog, rows_of
from tidegate.schemas import topics
from tidegate.schemas.catalog import Catalog
from tidegate.schemas.rows.limits import TaskRow
from tidegate.schemas.settings import Kafka

_LOG = logging.getLogger(__name__)
_NOT_COMPARED = {"published_at"}


@dataclass(frozen=True)
class Held:
    """What the topic holds, by key; None: a row that the consumers of the topic refuse."""

    rows: Mapping[str, TaskRow | None]
    catalog: Catalog


@dataclass(frozen=True)
class Change:
    """One message to write. row None: the task is removed from the catalog. before: the row that it replaces."""

    key: str
    row: TaskRow | None
    before: TaskRow | None


def read(kafka: Kafka) -> Held:
    """What the topic holds, and the catalog that it makes for those who follow it. Raises KafkaUnavailable."""
    rows: dict[str, TaskRow | None] = {}
    made = RowCatalog()
    for message in snapshot(kafka, topics.TASKS):
        key = message.key
        if message.value is None:
            rows.pop(key, None)
            made.put(key, None)
        elif (row := row_of(message, TaskRow)) is None:
            rows[key] = None
        else:
            reason = made.put(key, row)
            if reason:
                _LOG.warning("a row is left out: %s", reason)
            rows[key] = None if reason else row
    return Held(rows, made.catalog())


def plan(held: Mapping[str, TaskRow | None], wanted: Catalog, published_at: datetime) -> list[Change]:
    """What to write, in order, so that the topic holds the wanted catalog. What is there already isn't written again.

    Who follows the topic refuses a route that another task has still. So what goes comes first, then each task once
    its route is free; of tasks that wait for each other's route one leaves for a moment.
    """
    rows = {row.id: row for row in rows_of(wanted, published_at)}
    steps = [Change(key, None, before) for key, before in sorted(held.items()) if key not in rows]
    followed = RowCatalog()
    left = {}
    for key, before in held.items():
        if before is not None and key in rows:
            followed.put(key, before)
    for key, row in rows.items():
        if not _same(held.get(key), row):
            left[key] = row
    while left:
        taken = [key for key, row in left.items() if followed.put(key, row) is None]
        steps += [Change(key, left.pop(key), held.get(key)) for key in taken]
        if left and not taken:
            key = next(iter(left))
            followed.put(key, None)
            steps.append(Change(key, None, held.get(key)))
    return steps


def publish(kafka: Kafka, steps: list[Change]) -> None:
    """Write them, in order; returns when Kafka has all. Raises KafkaUnavailable and KafkaException."""
    write(
        kafka,
        topics.TASKS,
        [(step.key, None if step.row is None else step.row.model_dump_json()) for step in steps],
    )


def differences(steps: list[Change]) -> Iterator[str]:
    """What changes with these steps, a line each task."""
    last = {step.key: step for step in steps}
    for key, step in sorted(last.items()):
        if step.row is None:
            yield f"- {key}"
        elif step.before is None:
            yield f"+ {key}"
        else:
            before, after = (row.model_dump(exclude=_NOT_COMPARED) for row in (step.before, step.row))
            changed = [
                f"{name} {_shown(before[name])} -> {_shown(value)}"
                for name, value in after.items()
                if before[name] != value
            ]
            yield f"~ {key}: {', '.join(changed)}"


def _same(held: TaskRow | None, row: TaskRow) -> bool:
    return held is not None and held.model_dump(exclude=_NOT_COMPARED) == row.model_dump(
        exclude=_NOT_COMPARED
    )


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
