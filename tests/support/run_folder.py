"""The folder of one test run, with the stacks of all its processes; nothing of it outlives the run.

Each process of the run (pytest itself, and the workers of xdist) holds a shared lock on the folder while it lives. The
kernel counts these locks and releases the lock of a process that crashes, so the caretaker process
(`tests.support.caretaker`), which waits for the exclusive lock, takes the servers down after the last process, however
the run ends.
"""

from __future__ import annotations

import fcntl
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.support.paths import ROOT
from tidegate.schemas.settings import STACK_FILE, Settings, Stack
from tidegate.stack import local_stack
from tidegate.stack.local import LocalStack, ServerStatus
from tidegate.stack.processes import Launch, start
from tidegate.stack.server import Server

REPOSITORY = ROOT
MEMBERS_LOCK = "members.lock"
CARETAKER_LOCK = "caretaker.lock"
CARETAKER_LOG = "caretaker.log"
_REMOVED_WITHIN_SECONDS = 300.0
_LOOK_EVERY_SECONDS = 0.1
_SLOTS = 12
"""Several workers submit jobs to the one cluster."""


class RunFolder:
    """The folder of a test run, as one of its processes holds it."""

    def __init__(self, path: Path) -> None:
        """Hold the folder, which exists."""
        self.path = path
        self._held = (path / MEMBERS_LOCK).open("a")
        fcntl.flock(self._held, fcntl.LOCK_SH)

    @classmethod
    def create(cls) -> RunFolder:
        """A new folder, which other users may enter (Elasticsearch runs as one of them under root)."""
        path = Path(tempfile.mkdtemp(prefix="tidegate-tests-"))
        path.chmod(0o755)
        return cls(path)

    def stack(self, name: str) -> LocalStack:
        """The local stack of this name; starts nothing yet."""
        self._ensure_caretaker()
        settings = Settings(
            stack=Stack(state_dir=self.path / name, start_timeout_seconds=240, taskmanager_slots=_SLOTS)
        )
        return local_stack(settings)

    def leave(self) -> None:
        """This process needs the folder no longer."""
        self._held.close()

    def wait_until_removed(self) -> None:
        """Return when the caretaker has removed the folder; the processes of the run have left it.

        Raises TimeoutError with the caretaker's log.
        """
        if not (self.path / CARETAKER_LOCK).exists():  # no process has asked for a stack
            shutil.rmtree(self.path, ignore_errors=True)
            return
        deadline = time.monotonic() + _REMOVED_WITHIN_SECONDS
        while self.path.exists():
            if time.monotonic() > deadline:
                log = self.path / CARETAKER_LOG
                raise TimeoutError(
                    f"{self.path} is not removed yet: {log.read_text() if log.exists() else ''}"
                )
            time.sleep(_LOOK_EVERY_SECONDS)

    def _ensure_caretaker(self) -> None:
        """Start the caretaker, unless another process of the run has done so."""
        with (self.path / CARETAKER_LOCK).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if file.read():
                return
            command = (sys.executable, "-m", "tests.support.caretaker", str(self.path))
            process = start(Launch(command, REPOSITORY), self.path / CARETAKER_LOG, secrets.token_hex(16))
            file.write(str(process.pid))


def clean_up(path: Path) -> None:
    """Wait until every process of the run has left the folder, then end its servers and remove it."""
    with (path / MEMBERS_LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for found in sorted(path.glob(f"*/{STACK_FILE}")):
            local_stack(Settings(stack=Stack(state_dir=found.parent))).down(purge=True)
        shutil.rmtree(path)


class SharedStack:
    """The stack that all processes of a run share: a test starts servers on it and looks at them, and ends none."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack

    @property
    def state_dir(self) -> Path:
        """The state folder."""
        return self._stack.state_dir

    @property
    def settings(self) -> Settings:
        """The settings that reach the ready servers."""
        return self._stack.settings

    def add(self, server: Server) -> None:
        """Know one more server."""
        self._stack.add(server)

    def up(self, names: Iterable[str]) -> None:
        """Start these servers, unless they run. Raises as `LocalStack.up` does."""
        self._stack.up(names)

    def status(self) -> list[ServerStatus]:
        """Every server now."""
        return self._stack.status()
