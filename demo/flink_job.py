"""Submits the demo's jobs to the local Flink cluster with `tidegate submit`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tidegate.demo.failure import DemoFailed
from tidegate.jobs import cluster
from tidegate.stack import processes
from tidegate.stack.processes import Launch, ProcessId

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
    """Submit these jobs in parallel, since each mostly waits for a JVM, and wait until all of them run.

    command: `tidegate` with its settings. logs: the folder for the output of each submission.
    Raises DemoFailed if a job can't be submitted, has ended, or doesn't run in time.
    """
    deadline = time.monotonic() + _SECONDS
    logs.mkdir(parents=True, exist_ok=True)
    outputs = {name: logs / f"submit-{name}.log" for name in names}
    submitting: dict[str, ProcessId] = {}

    def start() -> None:
        for name, log in outputs.items():
            launch = Launch((*command, "submit", name), logs)
            submitting[name] = processes.start(launch, log, secrets.token_hex(16))

    # In a thread: an interrupt must not separate the start of a process from its registration.
    starting = ThreadPoolExecutor(1)
    try:
        starting.submit(start).result()
        while submitting:
            doing(f"submitting {' and '.join(submitting)}")
            for name, process in list(submitting.items()):
                _take_end(name, processes.ended(process), outputs[name], submitting)
            _wait(deadline, f"the submission of {', '.join(submitting)} takes", logs)
    finally:
        starting.shutdown(wait=True)
        processes.stop(submitting.values(), _PATIENCE_SECONDS)
    doing("waiting until all of their tasks run")
    while not cluster.running(rest_address, *names):
        if found := cluster.problem(rest_address):
            raise DemoFailed(found)
        _wait(deadline, "the start of the jobs' tasks takes", logs)


def _take_end(name: str, code: int | None, log: Path, submitting: dict[str, ProcessId]) -> None:
    if code is None:
        return
    del submitting[name]
    if code:
        raise DemoFailed(
            f"job {name} can't be submitted. Its log is {log}; the last lines:\n{processes.last_lines(log)}"
        )


def _wait(deadline: float, what: str, logs: Path) -> None:
    if time.monotonic() > deadline:
        raise DemoFailed(f"{what} over {_SECONDS} s; see the logs in {logs}")
    time.sleep(_LOOK_SECONDS)
