"""Commands of tidegate, as a user runs them or within this process."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tidegate.cli import app_context
from tidegate.cli.main import app
from tidegate.stack.processes import clean_environment

__all__ = ["COMMAND", "clean_environment", "run_command", "run_here", "with_settings"]

COMMAND = (sys.executable, "-m", "tidegate.cli.main")
"""The start of a command in a process of its own, for what is signalled, killed, or starts servers."""


def with_settings(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The command with these settings, by dotted name, before its own arguments."""
    return (*COMMAND, *_assignments(settings))


def run_command(settings: Mapping[str, str], *arguments: str, code: int = 0) -> CompletedProcess[str]:
    """Run a command with these settings within this process. It must end with this exit code."""
    return run_here(*_assignments(settings), *arguments, code=code)


def run_here(
    *arguments: str,
    code: int | None = 0,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> CompletedProcess[str]:
    """Run a command to its end within this process: a process of its own takes a second to import everything.

    Args:
        arguments: those behind `tidegate`.
        code: the exit code that it must have; None for any.
        folder: the working directory.
        environment: variables beside those of this process.
    """
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), _logging_to(err):
        patch.setattr(sys, "argv", ["tidegate", *arguments])
        if folder is not None:
            patch.chdir(folder)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        found = app_context.run(app)
    done = CompletedProcess(("tidegate", *arguments), found, _text(out), _text(err))
    assert code is None or found == code, done.stderr
    return done


def _assignments(settings: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(part for name, value in settings.items() for part in ("--set", f"{name}={value}"))


@contextmanager
def _logging_to(stream: io.TextIOWrapper) -> Iterator[None]:
    """What a command logs is on its stderr. pytest has handlers of its own, so logging.basicConfig adds none."""
    root = logging.getLogger()
    handler, level = logging.StreamHandler(stream), root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
