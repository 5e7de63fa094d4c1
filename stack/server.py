"""What the local stack needs to know of each server. One module per server implements it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tidegate.stack.errors import StackError
from tidegate.stack.processes import Launch


@dataclass(frozen=True)
class Place:
    """Where one start of a server happens.

    folder: its own files, already made. ports: what it may listen on, by purpose.
    label: another one for every start. stack_ports: of all servers, as `SERVER.PURPOSE`.
    """

    folder: Path
    ports: Mapping[str, int]
    label: str
    stack_ports: Mapping[str, int]


class Server(Protocol):
    """One server: how it is started, and how to see that it is ready."""

    @property
    def name(self) -> str:
        """As in `tidegate up NAME`, and the name of its log and folder."""

    @property
    def ports(self) -> Mapping[str, int]:
        """The ports that it needs, by purpose; 0 means any free one."""

    def folder(self, state_dir: Path, earlier: Path | None) -> Path:
        """The folder for its files. earlier: the one that it had, where that wasn't the usual one."""

    def prepare(self, place: Place) -> Launch:
        """Get its parts, write its configuration, and say how to start it.

        Raises StackError or ArtifactUnavailable.
        """

    def problem(self, place: Place) -> str | None:
        """Why it isn't ready yet, in plain words; None when it is. Answers within two seconds."""

    def addresses(self, place: Place) -> dict[str, str]:
        """What it answers to, by name, for people. Called when it is ready."""

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """What to set so that tidegate reaches it, by group and name."""


class UsualFolder:
    """A server whose files are in the state folder, under its name."""

    name: str

    def folder(self, state_dir: Path, earlier: Path | None) -> Path:
        """`STATE_DIR/NAME`."""
        return state_dir / self.name


def run_tool(launch: Launch, what: str, timeout_seconds: float = 60) -> None:
    """Run a server's own tool to its end.

    Raises StackError with its output when it fails.
    """
    try:
        result = subprocess.run(
            launch.command,
            cwd=launch.directory,
            env=dict(os.environ) | dict(launch.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"{what} failed: {error}") from error
    if result.returncode:
        raise StackError(f"{what} failed with exit code {result.returncode}:\n{result.stdout}{result.stderr}")
