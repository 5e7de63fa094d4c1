"""Merges the pods' windows of a task: published once all pods of the window before have reported, or on timeout.

A pod's row that comes later makes the task's row be published again, with the same id.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tidegate.jobs.logic.resources.windows import task_row
from tidegate.schemas.rows.resources import ResourceMetricsRow
from tidegate.schemas.timestamps import to_epoch_ms

_KEPT = 4
"""The number of newest windows of each span that are kept for late pods."""

Window = tuple[str, int]
"""Span, and start (epoch, ms)."""


@dataclass
class TaskWindows:
    """The newest windows of a task. pods: by span, those of the newest published window."""

    windows: dict[Window, dict[str, ResourceMetricsRow]] = field(default_factory=dict)
    published: set[Window] = field(default_factory=set)
    pods: dict[str, frozenset[str]] = field(default_factory=dict)
    desired: int | None = None

    def observe(self, row: ResourceMetricsRow) -> ResourceMetricsRow | None:
        """Add a pod's row. Returns the task's row if it is to be published now."""
        window = (row.span, to_epoch_ms(row.window_start))
        pods = self.windows.setdefault(window, {})
        pods[row.replica or ""] = row
        before = self.pods.get(row.span)
        if window in self.published or (before is not None and before <= pods.keys()):
            return self._publish(window)
        return None

    def overdue(self, before_ms: int | None = None) -> list[ResourceMetricsRow]:
        """The rows of unpublished windows: of all, or of those that began before a moment."""
        found = [
            window
            for window in sorted(self.windows)
            if window not in self.published and (before_ms is None or window[1] < before_ms)
        ]
        return [self._publish(window) for window in found]

    @property
    def waiting(self) -> bool:
        """Whether a window is not published yet."""
        return any(window not in self.published for window in self.windows)

    def _publish(self, window: Window) -> ResourceMetricsRow:
        pods = self.windows[window]
        row = task_row(pods.values(), self.desired)
        if max(window[1], *(one[1] for one in self.windows if one[0] == window[0])) == window[1]:
            self.pods[window[0]] = frozenset(pods)
        self.published.add(window)
        newest = sorted((one for one in self.published if one[0] == window[0]), key=lambda one: one[1])
        for old in newest[:-_KEPT]:
            self.windows.pop(old, None)
            self.published.discard(old)
        return row
