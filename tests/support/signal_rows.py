"""Builders of profiles and alerts: a test names only what it is about."""

from __future__ import annotations

from typing import Any

from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.timestamps import from_epoch_ms

START_MS = 1_795_514_400_000


def profile(task: str = "chat", department: str = "vision", **fields: Any) -> TaskProfile:
    """A profile of which nothing is known but what is said here."""
    values: dict[str, Any] = {
        **dict.fromkeys(TaskProfile.model_fields),
        "id": f"{department}/{task}",
        "department": department,
        "task": task,
        "computed_at": from_epoch_ms(START_MS),
        "traffic_window_seconds": 60,
        "versions": (),
        "freshness": {},
        "stale_inputs": (),
    }
    return TaskProfile(**values | fields)


def alert(state: str = "firing", rule: str = "slow", began_ms: int = START_MS, **fields: Any) -> AlertRow:
    """An alert of task vision/chat that fired 5 s after it began, and was resolved after 60 s."""
    key = f"{rule}|vision|chat|"
    fired = None if state == "pending" else from_epoch_ms(began_ms + 5000)
    resolved = from_epoch_ms(began_ms + 60_000) if state == "resolved" else None
    values: dict[str, Any] = {
        "id": f"{key}|{began_ms}|{state}",
        "alert_key": key,
        "rule": rule,
        "level": "interface",
        "severity": "warning",
        "state": state,
        "department": "vision",
        "task": "chat",
        "replica": None,
        "value": 900.0,
        "threshold": 800.0,
        "message": "p99 of chat is 900 ms",
        "runbook_url": None,
        "labels": {},
        "silenced": False,
        "started_at": from_epoch_ms(began_ms),
        "fired_at": fired,
        "resolved_at": resolved,
        "observed_at": resolved or fired or from_epoch_ms(began_ms),
    }
    return AlertRow(**values | fields)
