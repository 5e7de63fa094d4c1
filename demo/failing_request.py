"""Looks up one failed request by its id with `tidegate trace`, as a user would."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from tidegate.demo.failure import DemoFailed
from tidegate.demo.workspace import Workspace
from tidegate.stack import processes

_SECONDS = 60


@dataclass(frozen=True)
class LookedUp:
    """The command as a user types it, and its output."""

    command: str
    output: str


def look_up(workspace: Workspace, before_ms: int) -> LookedUp | None:
    """The newest request that failed in a replica and began before `before_ms` (epoch); None if there is none.

    Its log lines must be indexed. A request before the end of the day has seconds with rows around it.

    Raises DemoFailed if `tidegate trace` doesn't find it.
    """
    request_id = _newest_failure(workspace.access_log, before_ms)
    if request_id is None:
        return None
    result = subprocess.run(
        (*workspace.command, "trace", request_id),
        env=processes.clean_environment(),
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if result.returncode:
        raise DemoFailed(
            f"`{workspace.shown_command()} trace {request_id}` doesn't find a request of "
            f"{workspace.access_log}:\n{result.stdout}{result.stderr}"
        )
    return LookedUp(f"{workspace.shown_command()} trace {request_id}", result.stdout)


def _newest_failure(access_log: Path, before_ms: int) -> str | None:
    newest = None
    for line in _whole_lines(access_log):
        if b'"response_code":503' in line and b'"response_code_details":"via_upstream"' in line:
            failed = orjson.loads(line)
            if datetime.fromisoformat(failed["start_time"]).timestamp() * 1000 < before_ms:
                newest = str(failed["request_id"])
    return newest


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))
