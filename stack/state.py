"""The servers that `tidegate up` has started, on disk: `stack.json` in the state folder, changed under a lock.

Its key `settings` is a layer of defaults for every other command (see `tidegate.schemas.settings`), so that
they reach the local servers on their chosen ports.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidegate.schemas.settings import STACK_FILE
from tidegate.stack.errors import StackError
from tidegate.stack.processes import ProcessId

LOCK_FILE = "stack.lock"
POLL_SECONDS = 0.1


class StartedServer(BaseModel):
    """One process that `up` started.

    addresses: for people, by name. settings: those with which tidegate reaches it, by group and name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    process: ProcessId
    started_at: datetime
    ready: bool = False
    log: Path
    addresses: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)


class StackState(BaseModel):
    """The whole file.

    ports: by server and purpose; kept after `down`, so that a restarted server keeps its address.
    folders: of each server's files.
    settings: of the servers that are ready, merged; derived from `servers` when the file is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    servers: dict[str, StartedServer] = Field(default_factory=dict)
    ports: dict[str, int] = Field(default_factory=dict)
    folders: dict[str, Path] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def with_server(self, name: str, server: StartedServer | None) -> StackState:
        """The state with this server added or replaced, or removed if `server` is None."""
        servers = {other: known for other, known in self.servers.items() if other != name}
        if server is not None:
            servers[name] = server
        settings: dict[str, dict[str, Any]] = {}
        for known in servers.values():
            for group, values in known.settings.items() if known.ready else ():
                settings.setdefault(group, {}).update(values)
        return self.model_copy(update={"servers": servers, "settings": settings})


def read(state_dir: Path) -> StackState:
    """The state on disk; an empty one if nothing was ever started.

    Raises StackError if the file can't be parsed.
    """
    path = state_dir / STACK_FILE
    try:
        return StackState.model_validate_json(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return StackState()
    except (ValidationError, UnicodeDecodeError) as error:
        raise StackError(
            f"{path} is damaged or of another version of tidegate; stop the servers that it names by hand, "
            f"then remove the file ({error})"
        ) from error


def write(state_dir: Path, state: StackState) -> None:
    """Replace the state on disk atomically: a reader sees the old or the new one."""
    path = state_dir / STACK_FILE
    draft = path.with_name(path.name + ".new")
    draft.write_text(state.model_dump_json(indent=2) + "\n")
    draft.replace(path)


@contextmanager
def lock(state_dir: Path, timeout_seconds: float, waiting: Callable[[], None]) -> Iterator[None]:
    """Lock the state folder against other `up`s and `down`s. The system releases the lock when this process ends.

    waiting: called once if another process holds the lock.
    Raises StackError if the other process holds it for `timeout_seconds`.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / LOCK_FILE).open("a") as file:
        deadline = time.monotonic() + timeout_seconds
        reported = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not reported:
                    waiting()
                    reported = True
                if time.monotonic() > deadline:
                    raise StackError(
                        f"another `tidegate up` or `down` has locked {state_dir} for over "
                        f"{timeout_seconds:.0f} s; wait for it or stop it, then try again"
                    ) from None
                time.sleep(POLL_SECONDS)
        yield
