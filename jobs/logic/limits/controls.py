"""The limit controls that operators have set: pauses and overrides, of one task or of all."""

from __future__ import annotations

from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.schemas.rows.limits import LimitControl
from tidegate.schemas.timestamps import to_epoch_ms, to_text

ALL_TASKS = "*"
"""The id of a control that applies to every task."""


class LimitControls:
    """The newest control of each task, and of all tasks."""

    def __init__(self) -> None:
        self._by_id: dict[str, LimitControl] = {}

    def apply(self, control: LimitControl) -> None:
        """Replace the control of the same id."""
        self._by_id[control.id] = control

    def remove(self, control_id: str) -> None:
        """Remove a control; one that doesn't exist is ignored."""
        self._by_id.pop(control_id, None)

    def in_effect(self, key: TaskKey, now_ms: int) -> list[LimitControl]:
        """The controls that pause or override this task now, its own first."""
        if not self._by_id:
            return []
        named = (self._by_id.get(str(key)), self._by_id.get(ALL_TASKS))
        return [
            control
            for control in named
            if control is not None
            and (control.expires_at is None or to_epoch_ms(control.expires_at) > now_ms)
            and (control.paused or control.override_qps is not None)
        ]

    def next_expiry_ms(self, now_ms: int) -> int | None:
        """When the next control expires; None where none does."""
        expiries = (
            to_epoch_ms(control.expires_at)
            for control in self._by_id.values()
            if control.expires_at is not None
        )
        return min((expiry_ms for expiry_ms in expiries if expiry_ms > now_ms), default=None)


def describe(control: LimitControl) -> str:
    """A control in words: its scope, its effect, who set it, until when, and why."""
    scope = "all tasks are" if control.id == ALL_TASKS else "this task is"
    until = f" until {to_text(control.expires_at)}" if control.expires_at else ""
    effect = "paused" if control.paused else f"overridden to {control.override_qps:g} qps"
    return f"{scope} {effect} by {control.by}{until}: {control.reason}"
