"""What `tidegate up` has started, on disk: `stack.json` in the state folder, changed under a lock.

Its key `settings` is a layer of defaults for every other command (see `tidegate.schemas.settings`), so that
they reach the local servers on whatever ports these got.
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

    addresses: what it answers to, by name, for people. settings: what to set so that tidegate reaches it,
    by group and name.
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

    ports: by server and purpose; kept after `down`, so that a restarted server is where it was.
    folders: of servers whose files could not be in the state folder.
    settings: of the servers that are ready, merged; derived from `servers` when the file is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    servers: dict[str, StartedServer] = Field(default_factory=dict)
    ports: dict[str, int] = Field(default_factory=dict)
    folders: dict[str, Path] = Field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def with_server(self, name: str, server: StartedServer | None) -> StackState:
        """With this server added or replaced, or taken out where it is None."""
        servers = {other: known for other, known in self.servers.items() if other != name}
        if server is not None:
            servers[name] = server
        settings: dict[str, dict[str, Any]] = {}
        for known in servers.values():
            for group, values in known.settings.items() if known.ready else ():
                settings.setdefault(group, {}).update(values)
        return self.model_copy(update={"servers": servers, "settings": settings})


def read(state_dir: Path) -> StackState:
    """The state on disk; an empty one where nothing was ever started.

    Raises StackError when the file can't be understood.
    """
    path = state_dir / STACK_FILE
    try:
        return StackState.model_validate_json(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return StackState()
    except (ValidationError, UnicodeDecodeError) as error:
        raise StackError(
            f"{path} is damaged or of another version of tidegate. End the servers that it names by hand, "
            f"then remove the file. ({error})"
        ) from error


def write(state_dir: Path, state: StackState) -> None:
    """Replace the state on disk, whole: a reader sees the old or the new one."""
    path = state_dir / STACK_FILE
    draft = path.with_name(path.name + ".new")
    draft.write_text(state.model_dump_json(indent=2) + "\n")
    draft.replace(path)


@contextmanager
def lock(state_dir: Path, timeout_seconds: float, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the state folder against other `up`s and `down`s. The system frees it when this process ends.

    waiting: called once when another one has it.
    Raises StackError when the other one keeps it for `timeout_seconds`.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / LOCK_FILE).open("a") as file:
        deadline = time.monotonic() + timeout_seconds
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    waiting()
                    told = True
                if time.monotonic() > deadline:
                    raise StackError(
                        f"another `tidegate up` or `down` has been at work in {state_dir} for over "
                        f"{timeout_seconds:.0f} s; wait for it or end it, then try again"
                    ) from None
                time.sleep(POLL_SECONDS)
        yield
