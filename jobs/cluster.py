"""A Flink cluster, asked at its REST address, and the checkpoints that its jobs have left."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ENDED = {"FINISHED", "FAILED", "CANCELED", "SUSPENDED"}
_ENDED_BADLY = {"FAILING", "FAILED", "CANCELED", "CANCELLING", "SUSPENDED"}


@dataclass(frozen=True)
class Job:
    """One run of a job, as the JobManager lists it. `running` of `tasks` tasks run."""

    name: str
    identifier: str
    state: str
    running: int
    tasks: int

    @property
    def ended(self) -> bool:
        """It never goes on. One that restarts or waits for a TaskManager has not ended."""
        return self.state in _ENDED

    @property
    def runs(self) -> bool:
        """All of its tasks do."""
        return self.state == "RUNNING" and self.running == self.tasks > 0


def jobs(rest_address: str) -> list[Job] | None:
    """Every run that the JobManager knows of; None while it doesn't answer."""
    answer = _get(rest_address, "/jobs/overview")
    if answer is None:
        return None
    return [
        Job(one["name"], one["jid"], one["state"], one["tasks"]["running"], one["tasks"]["total"])
        for one in answer["jobs"]
    ]


def running(rest_address: str, *names: str) -> bool:
    """Whether each of these jobs runs with all of its tasks. False while Flink doesn't answer."""
    return {job.name for job in jobs(rest_address) or () if job.runs} >= set(names)


def problem(rest_address: str) -> str | None:
    """Why a job has ended, by Flink's own words; None while all run, restart, or Flink doesn't answer."""
    for job in jobs(rest_address) or ():
        if job.state in _ENDED_BADLY:
            return f"the job {job.name} is {job.state}: {why(rest_address, job)}"
    return None


def why(rest_address: str, job: Job) -> str:
    """The cause that Flink reports for the end of this run."""
    answer = _get(rest_address, f"/jobs/{job.identifier}/exceptions?maxExceptions=1") or {}
    entries = answer.get("exceptionHistory", {}).get("entries", [])
    return causes(entries[0]["stacktrace"]) if entries else "Flink gives no reason"


def causes(stack_trace: str) -> str:
    """A Java stack trace without its places: its first line, and each cause's."""
    first, *rest = stack_trace.strip().splitlines()
    return "\n".join([first, *(line for line in rest if line.startswith("Caused by: "))])


def absent(names: Iterable[str], found: Iterable[Job]) -> list[str]:
    """Which of these jobs have no run that goes on."""
    alive = {job.name for job in found if not job.ended}
    return [name for name in names if name not in alive]


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of one job, whichever run of it made it; None where there is none.

    folder: the job's own below `Settings.checkpoint_dir`.
    """
    # Flink writes `_metadata` last, so a checkpoint that has it is whole.
    found = [path for path in folder.glob("*/chk-*/_metadata") if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent if found else None


def _get(rest_address: str, path: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://{rest_address}{path}", timeout=2) as answer:
            return dict(json.load(answer))
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError):
        return None
