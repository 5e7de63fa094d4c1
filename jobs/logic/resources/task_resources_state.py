"""The stored state of a task in the job resource-metrics: its pods' newest windows (task_resources.py), its timer."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.jobs.logic.resources.task_resources import TaskWindows
from tidegate.jobs.logic.state_format import StateFormat, StoredForm
from tidegate.schemas.rows.resources import ResourceMetricsRow


@dataclass
class WaitingTask:
    """A task in memory. timer: one is set."""

    known: TaskWindows
    timer: bool = False


@dataclass(frozen=True)
class StoredWindow(StoredForm):
    """A window: the rows of its pods by the pod's name. published: whether the task's row was."""

    span: str
    start_ms: int
    pods: tuple[tuple[str, ResourceMetricsRow], ...]
    published: bool


@dataclass(frozen=True)
class StoredTask(StoredForm):
    """Version 1. Field names are the stored form. pods: span, and the pods of its newest published window."""

    windows: tuple[StoredWindow, ...]
    pods: tuple[tuple[str, tuple[str, ...]], ...]
    desired: int | None
    timer: bool


def _store(one: WaitingTask) -> StoredTask:
    known = one.known
    # A bounded run forgets what was published at once, and keeps the windows.
    return StoredTask(
        windows=tuple(
            StoredWindow(*window, tuple(pods.items()), window in known.published)
            for window, pods in known.windows.items()
        ),
        pods=tuple((span, tuple(sorted(pods))) for span, pods in known.pods.items()),
        desired=known.desired,
        timer=one.timer,
    )


def _restore(stored: StoredTask) -> WaitingTask:
    known = TaskWindows(
        windows={(window.span, window.start_ms): dict(window.pods) for window in stored.windows},
        published={(window.span, window.start_ms) for window in stored.windows if window.published},
        pods={span: frozenset(pods) for span, pods in stored.pods},
        desired=stored.desired,
    )
    return WaitingTask(known, stored.timer)


FORMAT = StateFormat("resource-metrics-task", 1, StoredTask, _store, _restore)
