"""The stored state of the job replica-changes: one task's replicas (task_replicas.py) and its timer."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.jobs.logic.replicas.changes import Seen, State
from tidegate.jobs.logic.replicas.sources import SourceState
from tidegate.jobs.logic.replicas.task_replicas import TaskReplicas
from tidegate.jobs.logic.state_format import StateFormat, StoredForm
from tidegate.schemas.rows.limits import Source


@dataclass
class SettlingTask:
    """A task in memory. timer: when the one that is set fires, and which moment of the source's time that is."""

    known: TaskReplicas
    timer: tuple[int, int] | None = None


@dataclass(frozen=True)
class StoredTask(StoredForm):
    """Version 1. Field names are the stored form. seen: moment and count; timer: as of SettlingTask."""

    department: str
    task: str
    workload: str
    source: Source | None
    spoke_ms: int
    settled: int | None
    revision: int
    seen: tuple[tuple[int, int], ...]
    now_ms: int
    observed_ms: int
    timer: tuple[int, int] | None


def _store(one: SettlingTask) -> StoredTask:
    known, state = one.known, one.known.state
    return StoredTask(
        department=known.department,
        task=known.task,
        workload=known.workload,
        source=known.source.source,
        spoke_ms=known.source.spoke_ms,
        settled=state.settled,
        revision=state.revision,
        seen=tuple((seen.at_ms, seen.replicas) for seen in state.seen),
        now_ms=state.now_ms,
        observed_ms=state.observed_ms,
        timer=one.timer,
    )


def _restore(stored: StoredTask) -> SettlingTask:
    seen = tuple(Seen(at_ms, replicas) for at_ms, replicas in stored.seen)
    known = TaskReplicas(
        stored.department,
        stored.task,
        stored.workload,
        SourceState(stored.source, stored.spoke_ms),
        State(stored.settled, stored.revision, seen, stored.now_ms, stored.observed_ms),
    )
    return SettlingTask(known, stored.timer)


FORMAT = StateFormat("replica-changes", 1, StoredTask, _store, _restore)
