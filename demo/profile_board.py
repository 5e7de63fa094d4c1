"""Summarises task profiles and alerts for the demo's tables. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.demo.board import Group
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.timestamps import to_epoch_ms


@dataclass(frozen=True)
class AlertLine:
    """The lifecycle of one alert, in seconds since its condition began to hold; None: not yet.

    lag_s: from the end of the window that made it fire until its row could be read.
    """

    row: AlertRow
    fired_s: float | None
    resolved_s: float | None
    lag_s: float | None


class ProfileBoard:
    """Keeps the newest profile of each task, and every alert. A row that comes twice counts once."""

    def __init__(self, tasks: Sequence[Group]) -> None:
        """tasks: in the order in which they are shown."""
        self._tasks = tasks
        self._newest: dict[Group, TaskProfile] = {}
        self._alerts: dict[tuple[str, int], AlertRow] = {}
        self._lags_ms: dict[tuple[str, int], int] = {}

    def add(self, row: TaskProfile | AlertRow, now_ms: int) -> None:
        """Take in one row, in the order of its topic's partition."""
        if isinstance(row, TaskProfile):
            self._newest[row.department, row.task] = row
            return
        key = (row.alert_key, to_epoch_ms(row.started_at))
        before = self._alerts.get(key)
        if before is not None and before.observed_at >= row.observed_at:
            return
        if row.state == "firing":
            self._lags_ms.setdefault(key, now_ms - to_epoch_ms(row.observed_at))
        self._alerts[key] = row

    def profiles(self) -> list[TaskProfile]:
        """The newest of each task that has one."""
        return [self._newest[group] for group in self._tasks if group in self._newest]

    @property
    def alerts(self) -> list[AlertLine]:
        """Every alert that has fired, in the order in which they began."""
        return [
            self._line(key, row)
            for key, row in sorted(self._alerts.items(), key=lambda item: item[0][1])
            if row.fired_at is not None
        ]

    def _line(self, key: tuple[str, int], row: AlertRow) -> AlertLine:
        began_ms = to_epoch_ms(row.started_at)
        fired_s, resolved_s = (
            None if moment is None else (to_epoch_ms(moment) - began_ms) / 1000
            for moment in (row.fired_at, row.resolved_at)
        )
        lag_ms = self._lags_ms.get(key)
        return AlertLine(row, fired_s, resolved_s, None if lag_ms is None else lag_ms / 1000)
