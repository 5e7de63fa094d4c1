"""A command of tidegate as a user runs it: a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from tidegate.stack.processes import clean_environment

COMMAND = (sys.executable, "-m", "tidegate.cli.main")


def with_settings(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The command with these settings, by dotted name, before its own arguments."""
    return (*COMMAND, *(part for name, value in settings.items() for part in ("--set", f"{name}={value}")))


def run_command(
    settings: Mapping[str, str], *arguments: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """To its end, which must be with this exit code."""
    done = subprocess.run(
        [*with_settings(settings), *arguments],
        env=clean_environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == code, done.stderr
    return done
