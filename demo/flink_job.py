"""The jobs on the local Flink cluster: handed over by `tidegate submit`, seen through Flink's REST address."""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tidegate.demo.failure import DemoFailed
from tidegate.stack import processes
from tidegate.stack.processes import Launch, ProcessId

_ENDED_BADLY = {"FAILING", "FAILED", "CANCELED", "CANCELLING", "SUSPENDED"}
_SECONDS = 180
_PATIENCE_SECONDS = 5
_LOOK_SECONDS = 0.2


def submit(
    command: Sequence[str],
    names: Sequence[str],
    rest_address: str,
    logs: Path,
    doing: Callable[[str], None] = lambda _: None,
) -> None:
    """Submit these jobs, all at once since most of it is waiting for a JVM, and wait until all of them run.

    command: `tidegate` with its settings. logs: the folder for what each submit says.
    Raises DemoFailed when one can't be submitted, has ended, or doesn't run in time.
    """
    deadline = time.monotonic() + _SECONDS
    logs.mkdir(parents=True, exist_ok=True)
    told = {name: logs / f"submit-{name}.log" for name in names}
    submitting: dict[str, ProcessId] = {}

    def start() -> None:
        for name, log in told.items():
            launch = Launch((*command, "submit", name), logs)
            submitting[name] = processes.start(launch, log, secrets.token_hex(16))

    # On a thread: an interrupt must not come between a start and the note of what was started.
    starting = ThreadPoolExecutor(1)
    try:
        starting.submit(start).result()
        while submitting:
            doing(f"submitting {' and '.join(submitting)}")
            for name, process in list(submitting.items()):
                _take_end(name, processes.ended(process), told[name], submitting)
            _wait(deadline, f"submitting {', '.join(submitting)} takes", logs)
    finally:
        starting.shutdown(wait=True)
        processes.stop(submitting.values(), _PATIENCE_SECONDS)
    doing("waiting until all of their tasks run")
    while not running(rest_address, *names):
        if found := problem(rest_address):
            raise DemoFailed(found)
        _wait(deadline, "getting all of the jobs' tasks to run takes", logs)


def running(rest_address: str, *names: str) -> bool:
    """Whether each of these jobs runs with all of its tasks. False while Flink doesn't answer."""
    found = {
        job["name"]
        for job in _jobs(rest_address)
        if job["state"] == "RUNNING" and job["tasks"]["running"] == job["tasks"]["total"] > 0
    }
    return found >= set(names)


def problem(rest_address: str) -> str | None:
    """Why a job has ended, by Flink's own words; None while all run, restart, or Flink doesn't answer."""
    for job in _jobs(rest_address):
        if job["state"] in _ENDED_BADLY:
            told = _get(rest_address, f"/jobs/{job['jid']}/exceptions?maxExceptions=1") or {}
            entries = told.get("exceptionHistory", {}).get("entries", [])
            cause = causes(entries[0]["stacktrace"]) if entries else "Flink gives no reason"
            return f"the job {job['name']} is {job['state']}: {cause}"
    return None


def causes(stack_trace: str) -> str:
    """What a Java stack trace says without where: its first line, and each cause's."""
    first, *rest = stack_trace.strip().splitlines()
    return "\n".join([first, *(line for line in rest if line.startswith("Caused by: "))])


def _take_end(name: str, code: int | None, log: Path, submitting: dict[str, ProcessId]) -> None:
    if code is None:
        return
    del submitting[name]
    if code:
        raise DemoFailed(
            f"the job {name} could not be submitted. Its log is {log}; the last lines:\n"
            f"{processes.last_lines(log)}"
        )


def _wait(deadline: float, what: str, logs: Path) -> None:
    if time.monotonic() > deadline:
        raise DemoFailed(f"{what} over {_SECONDS} s; the logs are in {logs}")
    time.sleep(_LOOK_SECONDS)


def _jobs(rest_address: str) -> list[dict[str, Any]]:
    answer = _get(rest_address, "/jobs/overview")
    return list(answer["jobs"]) if answer else []


def _get(rest_address: str, path: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://{rest_address}{path}", timeout=2) as answer:
            return dict(json.load(answer))
    except (urllib.error.URLError, TimeoutError, ConnectionError, ValueError):
        return None
