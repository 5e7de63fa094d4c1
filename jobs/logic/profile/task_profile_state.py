"""The stored state of the job task-profile: what is known of one task (task_profile.py), and its autoscaling.

The traffic isn't stored: it is renewed each second, and would be most of a checkpoint's cost. After a restart its
window begins with the first second that is observed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import JsonValue

from tidegate.jobs.logic.profile.autoscaling import Past, SignalMemory
from tidegate.jobs.logic.profile.sustained_capacity import Learned, Minute, Promise
from tidegate.jobs.logic.profile.task_profile import ObservedRow, TaskState
from tidegate.jobs.logic.state_format import StateFormat, StoredForm
from tidegate.schemas.rows.base import Row
from tidegate.schemas.rows.limits import RateLimitRow, ReplicasRow, TaskRow
from tidegate.schemas.rows.resources import ResourceMetricsRow

AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True)
class Scaling:
    """A task's autoscaling: what the next decision needs, and when signals were written."""

    memory: SignalMemory
    published_ms: int


@dataclass
class ProfiledTask:
    """A task in memory."""

    known: TaskState
    scaling: Scaling | None = None


@dataclass(frozen=True)
class StoredRow(StoredForm, Generic[AnyRow]):
    """The newest row of an input, and when it came by the machine's clock."""

    row: AnyRow
    at_ms: int


@dataclass(frozen=True)
class StoredMinute(StoredForm):
    """A minute of the run that is learned from. The figures are as the row has them."""

    start_ms: int
    admitted: JsonValue
    replicas: JsonValue
    latency_count: JsonValue
    p99_ms: JsonValue
    error_rate: JsonValue


@dataclass(frozen=True)
class StoredCapacity(StoredForm):
    """What one replica can take, learned. slo_*: the SLO that it was learned with; without a p99 there was none."""

    slo_p99_ms: float | None
    slo_error_rate: float | None
    run: tuple[StoredMinute, ...]
    qps_per_replica: float | None
    held_until_ms: int | None


@dataclass(frozen=True)
class StoredScaling(StoredForm):
    """The earlier decisions: moment, recommended, replicas."""

    past: tuple[tuple[int, int, int], ...]
    panic_until_ms: int
    desired: int | None
    revision: int
    published_ms: int


@dataclass(frozen=True)
class StoredTask(StoredForm):
    """Version 1. Field names are the stored form."""

    department: str
    task: str
    capacity: StoredCapacity
    replicas: StoredRow[ReplicasRow] | None
    limit: StoredRow[RateLimitRow] | None
    resources: StoredRow[ResourceMetricsRow] | None
    catalog: TaskRow | None
    observed_ms: int
    scaling: StoredScaling | None


def _store(one: ProfiledTask) -> StoredTask:
    known = one.known
    return StoredTask(
        department=known.department,
        task=known.task,
        capacity=_store_capacity(known.learned),
        replicas=_store_row(known.replicas),
        limit=_store_row(known.limit),
        resources=_store_row(known.resources),
        catalog=known.catalog,
        observed_ms=known.observed_ms,
        scaling=None if one.scaling is None else _store_scaling(one.scaling),
    )


def _restore(stored: StoredTask) -> ProfiledTask:
    known = TaskState(
        stored.department,
        stored.task,
        learned=_restore_capacity(stored.capacity),
        replicas=_restore_row(stored.replicas),
        limit=_restore_row(stored.limit),
        resources=_restore_row(stored.resources),
        catalog=stored.catalog,
        observed_ms=stored.observed_ms,
        restored=True,
    )
    return ProfiledTask(known, None if stored.scaling is None else _restore_scaling(stored.scaling))


def _store_row(observed: ObservedRow | None) -> StoredRow[AnyRow] | None:
    return None if observed is None else StoredRow(observed.row, observed.at_ms)


def _restore_row(stored: StoredRow[AnyRow] | None) -> ObservedRow | None:
    return None if stored is None else ObservedRow(stored.row, stored.at_ms)


def _store_capacity(learned: Learned) -> StoredCapacity:
    promise = learned.promise
    return StoredCapacity(
        slo_p99_ms=None if promise is None else promise.p99_ms,
        slo_error_rate=None if promise is None else promise.error_rate,
        run=tuple(
            StoredMinute(
                minute.start_ms,
                minute.admitted,
                minute.replicas,
                minute.latency_count,
                minute.p99_ms,
                minute.error_rate,
            )
            for minute in learned.run
        ),
        qps_per_replica=learned.qps_per_replica,
        held_until_ms=learned.held_until_ms,
    )


def _restore_capacity(stored: StoredCapacity) -> Learned:
    promise = None
    if stored.slo_p99_ms is not None:
        promise = Promise(stored.slo_p99_ms, stored.slo_error_rate)
    run = tuple(
        Minute(
            minute.start_ms,
            minute.admitted,  # type: ignore[arg-type]
            minute.replicas,  # type: ignore[arg-type]
            minute.latency_count,  # type: ignore[arg-type]
            minute.p99_ms,  # type: ignore[arg-type]
            minute.error_rate,  # type: ignore[arg-type]
        )
        for minute in stored.run
    )
    return Learned(promise, run, stored.qps_per_replica, stored.held_until_ms)


def _store_scaling(scaling: Scaling) -> StoredScaling:
    memory = scaling.memory
    return StoredScaling(
        past=tuple((past.at_ms, past.recommended, past.replicas) for past in memory.past),
        panic_until_ms=memory.panic_until_ms,
        desired=memory.desired,
        revision=memory.revision,
        published_ms=scaling.published_ms,
    )


def _restore_scaling(stored: StoredScaling) -> Scaling:
    past = tuple(Past(at_ms, recommended, replicas) for at_ms, recommended, replicas in stored.past)
    memory = SignalMemory(past, stored.panic_until_ms, stored.desired, stored.revision)
    return Scaling(memory, stored.published_ms)


FORMAT = StateFormat("task-profile", 1, StoredTask, _store, _restore)
