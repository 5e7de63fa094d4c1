"""The log of a simulated model: one file per replica, in the format of Python's, Java's or a JSON logger.

A model logs its start, and each request that failed (with a stack trace), took three times as long as usual, or lost
its client. Each record but the first has the request id and the trace id that the gateway sent with the request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tidegate.demo.scenario import LogStyle, Replica, Task

SLOW_TIMES = 3
"""A request that takes at least this many times the task's median is slow."""
_TRACEPARENT_PARTS = 4
_ROTATE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Ids:
    """The ids of a request from its head; "-" for a missing one."""

    request: str
    trace: str

    @staticmethod
    def of_headers(headers: Iterable[tuple[bytes, bytes]]) -> Ids:
        """The ids in a request's `x-request-id` and `traceparent`; names are lower-case."""
        found = {name: value.decode("latin-1") for name, value in headers}
        parent = found.get(b"traceparent", "").split("-")
        trace = parent[1] if len(parent) == _TRACEPARENT_PARTS else "-"
        return Ids(found.get(b"x-request-id", "-"), trace)


class ModelLog:
    """One replica's log file, appended to. Each record is one write, so that a reader never sees a partial line.

    A large file is rotated; only one rotated file is kept.
    """

    def __init__(
        self, folder: Path, task: Task, replica: Replica, now: Callable[[], datetime] | None = None
    ) -> None:
        """folder: of all models' logs; this one is `DEPARTMENT/TASK/REPLICA.log` below it."""
        path = folder / task.department / task.name / f"{replica.name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._task = task
        self._now = now or (lambda: datetime.now(UTC))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def started(self, address: str) -> None:
        """Log that the model listens at `ip:port`."""
        self._write("INFO", f"serving {self._task.name} on {address}")

    def failed(self, ids: Ids, took_ms: float) -> None:
        """Log a failed request."""
        self._write("ERROR", f"inference failed after {took_ms:.0f} ms", ids, "failed")

    def slow(self, ids: Ids, took_ms: float) -> None:
        """Log a slow request."""
        usual = self._task.latency.median_ms
        self._write("WARN", f"slow inference: {took_ms:.0f} ms, usually {usual:.0f} ms", ids)

    def client_left(self, ids: Ids, waited_ms: float) -> None:
        """Log a request whose client left."""
        self._write("WARN", f"the client left after {waited_ms:.0f} ms", ids, "client_left")

    def _write(self, severity: str, message: str, ids: Ids | None = None, trace: str | None = None) -> None:
        stack = _STACKS[self._task.log_style][trace].format(module=_module(self._task)) if trace else None
        self._file.write(_record(self._task, self._now(), severity, message, ids, stack).encode())
        if self._file.tell() >= _ROTATE_BYTES:
            self._file.close()
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
            self._file = self._path.open("ab", buffering=0)


def _record(task: Task, at: datetime, severity: str, message: str, ids: Ids | None, stack: str | None) -> str:
    prefix = "" if ids is None else f"request_id={ids.request} trace_id={ids.trace} "
    below = "" if stack is None else f"\n{stack}"
    match task.log_style:
        case "python":
            level = "WARNING" if severity == "WARN" else severity
            time = f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d}"
            return f"{time} {level} {_module(task)}.server {prefix}{message}{below}\n"
        case "java":
            time = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
            return f"{time} {severity:5} [worker-1] ai.{_module(task)}.Server - {prefix}{message}{below}\n"
        case "json":
            fields = {"timestamp": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", "level": severity.lower(), "msg": message}
            if ids is not None:
                fields |= {"request_id": ids.request, "trace_id": ids.trace}
            if stack is not None:
                fields["stack"] = stack
            return json.dumps(fields) + "\n"


def _module(task: Task) -> str:
    return task.name.replace("-", "_")


_PYTHON = {
    "failed": """\
Traceback (most recent call last):
  File "/srv/{module}/server.py", line 88, in infer
    features = self.store.rows(request.keys)
  File "/srv/{module}/feature_store.py", line 41, in rows
    return self.pool.call("rows", keys, deadline=0.02)
  File "/srv/{module}/pool.py", line 19, in call
    raise StoreUnavailable(f"{{self.address}} gave no answer within {{deadline}} s")
{module}.pool.StoreUnavailable: features-2:9000 gave no answer within 0.02 s""",
    "client_left": """\
Traceback (most recent call last):
  File "/srv/{module}/server.py", line 97, in infer
    await stream.write(tokens)
ConnectionResetError: [Errno 104] Connection reset by peer""",
}
_STACKS: dict[LogStyle, dict[str, str]] = {
    "python": _PYTHON,
    "json": _PYTHON,
    "java": {
        "failed": """\
ai.{module}.InferenceException: no batch could be made
\tat ai.{module}.Batcher.next(Batcher.java:64)
\tat ai.{module}.Server.infer(Server.java:131)
Caused by: java.util.concurrent.TimeoutException: no slot within 20 ms
\tat ai.{module}.Slots.take(Slots.java:38)
\t... 2 more""",
        "client_left": """\
java.io.IOException: Broken pipe
\tat java.base/sun.nio.ch.SocketDispatcher.write0(Native Method)
\tat java.base/sun.nio.ch.SocketChannelImpl.write(SocketChannelImpl.java:532)
\tat ai.{module}.Server.answer(Server.java:158)""",
    },
}
"""Simulated stack traces by event."""
