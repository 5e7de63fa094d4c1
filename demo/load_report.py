"""The progress of the load: written by the clients' process, read by the demo's."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

Phase = Literal["day", "draining", "closing", "ended"]
Outcome = Literal["answered", "limited", "failed", "lost", "gave_up", "broken"]


@dataclass(frozen=True)
class TaskReport:
    """The requests to one task. `sent` is the sum of the others and of those still open.

    answered: 2xx. limited: 429. failed: 5xx. lost: 404. gave_up: the client left first. broken: the gateway
    closed the connection without an answer.
    """

    department: str
    task: str
    sent: int = 0
    answered: int = 0
    limited: int = 0
    failed: int = 0
    lost: int = 0
    gave_up: int = 0
    broken: int = 0


@dataclass(frozen=True)
class LoadReport:
    """All tasks, at one moment.

    fraction: how much of the day has been played, 0 to 1.
    skipped: requests not sent since too many were open.
    cut_off_ms: set once every request has ended: all of them ended before this whole second (ms since the
    epoch), and every closing request starts after it.
    """

    phase: Phase
    fraction: float
    tasks: tuple[TaskReport, ...]
    skipped: int = 0
    cut_off_ms: int | None = None

    @property
    def sent(self) -> int:
        return sum(task.sent for task in self.tasks)

    def write(self, path: Path) -> None:
        """Replace the file in one step."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_bytes(_ADAPTER.dump_json(self))
        draft.replace(path)

    @staticmethod
    def read(path: Path) -> LoadReport | None:
        """The newest report; None before the first one."""
        try:
            return _ADAPTER.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None


_ADAPTER = TypeAdapter(LoadReport)
