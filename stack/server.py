"""The interface of a server of the local stack. One module per server implements it."""

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
    """The folder and ports of one start of a server.

    folder: for its files; exists already. ports: the ports to listen on, by purpose.
    label: unique to this start. stack_ports: of all servers, as `SERVER.PURPOSE`.
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
        """The folder for its files. earlier: its previous folder, if that wasn't the usual one."""

    def prepare(self, place: Place) -> Launch:
        """Resolve its files, write its configuration, and return how to start it.

        Raises StackError or ArtifactUnavailable.
        """

    def problem(self, place: Place) -> str | None:
        """The reason why it isn't ready yet, as text; None if it is ready. Returns within two seconds."""

    def addresses(self, place: Place) -> dict[str, str]:
        """Its addresses for people, by name. Called when it is ready."""

    def settings(self, place: Place) -> dict[str, dict[str, Any]]:
        """The settings with which tidegate reaches it, by group and name."""


class UsualFolder:
    """A server with its files in the state folder, under its name."""

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
