"""The local servers as a whole: starts them, reports their state, stops them."""

from __future__ import annotations

import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

from tidegate.schemas.settings import STACK_FILE, Settings
from tidegate.stack import ports as loopback
from tidegate.stack import processes, state
from tidegate.stack.errors import ServerFailed, StackError, UnknownServer
from tidegate.stack.server import Place, Server
from tidegate.stack.state import StackState, StartedServer

POLL_SECONDS = 0.2
STOP_PATIENCE_SECONDS = 20
LOGS = "logs"


class Phase(StrEnum):
    """A phase of a server's start or stop during `up` and `down`."""

    WAITING = "waiting"
    PREPARING = "preparing"
    STARTING = "starting"
    READY = "ready"
    ALREADY_RUNNING = "already running"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"
    KILLED = "killed"


@dataclass(frozen=True)
class PhaseChange:
    """A server enters a phase. server: None for all of them. detail: readable text, or empty."""

    server: str | None
    phase: Phase
    detail: str = ""


class State(StrEnum):
    """The state of a server."""

    RUNNING = "running"
    STARTING = "starting"
    NOT_ANSWERING = "not answering"
    DEAD = "dead"
    STOPPED = "stopped"


@dataclass(frozen=True)
class ServerStatus:
    """One server now. memory_bytes: resident, its child processes included."""

    name: str
    state: State
    pid: int | None = None
    started_at: datetime | None = None
    memory_bytes: int | None = None
    addresses: dict[str, str] | None = None
    log: Path | None = None
    problem: str | None = None


def _silent(_: PhaseChange) -> None:
    pass


class LocalStack:
    """The servers of one state folder.

    As a context manager it stops, when it is left, the servers that this object has started, and nothing else.
    """

    def __init__(
        self,
        settings: Settings,
        servers: Sequence[Server],
        report: Callable[[PhaseChange], None] = _silent,
    ) -> None:
        """Starts nothing yet. servers: all known ones. report: called with each phase change, in this thread."""
        self._given = settings
        self._known = {server.name: server for server in servers}
        self._report = report
        self._started: set[str] = set()
        self.state_dir = settings.stack.state_dir.absolute()

    def __enter__(self) -> LocalStack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down(sorted(self._started))

    @property
    def settings(self) -> Settings:
        """The settings of this stack, with the addresses of its ready servers."""
        groups = state.read(self.state_dir).settings
        changed = {
            group: getattr(self._given, group).model_copy(update=values) for group, values in groups.items()
        }
        return self._given.model_copy(update=changed)

    @property
    def names(self) -> tuple[str, ...]:
        """Every server that this stack knows or has started."""
        return tuple(dict.fromkeys([*self._known, *state.read(self.state_dir).servers]))

    def add(self, server: Server) -> None:
        """Add a server, or replace the one of the same name."""
        self._known[server.name] = server

    def up(self, names: Iterable[str] | None = None) -> None:
        """Start these servers, or all, and wait until each is ready. A running server stays as it is.

        Raises ServerFailed if one dies or isn't ready in time (those that are ready stay up), StackError
        and ArtifactUnavailable if one can't be started at all, UnknownServer for an unknown name.
        """
        wanted = [self._server(name) for name in (self._known if names is None else names)]
        with self._locked():
            starting: dict[str, Place] = {}
            try:
                for server in wanted:
                    place = self._start_unless_running(server)
                    if place is not None:
                        starting[server.name] = place
                self._wait_until_ready(starting)
            except BaseException:
                self._end(list(starting))  # what became ready has left this dict
                raise

    def down(self, names: Iterable[str] | None = None, purge: bool = False) -> None:
        """Stop these servers, or all running ones that were started here.

        purge: also remove their data, and with all of them the whole state of this stack. Never removes
        anything that `up` didn't create.
        A name that doesn't run here is ignored. Raises StackError if a server can't be stopped.
        """
        if not self.state_dir.exists():
            return
        with self._locked():
            current = state.read(self.state_dir)
            named = list(current.servers) if names is None else list(names)
            self._end([name for name in named if name in current.servers])
            if purge:
                self._purge(named, everything=names is None)

    def kill(self, name: str) -> None:
        """Kill one server with SIGKILL, as a crash would. `up` starts it again with its data.

        Raises StackError if it isn't running.
        """
        known = state.read(self.state_dir).servers.get(name)
        if known is None or not processes.alive(known.process):
            raise StackError(f"{name} isn't running in {self.state_dir}")
        processes.signal_all([known.process], signal.SIGKILL)
        processes.stop([known.process], STOP_PATIENCE_SECONDS)

    def status(self) -> list[ServerStatus]:
        """The current status of every known server, with a check of whether it answers."""
        current = state.read(self.state_dir)
        return [self._status_of(name, current) for name in self.names]

    def _server(self, name: str) -> Server:
        try:
            return self._known[name]
        except KeyError:
            raise UnknownServer(
                f"{name!r} is not a server; the servers are {', '.join(self._known)}"
            ) from None

    def _locked(self) -> Any:
        return state.lock(
            self.state_dir,
            self._given.stack.start_timeout_seconds,
            lambda: self._report(
                PhaseChange(None, Phase.WAITING, "another tidegate is starting or stopping servers")
            ),
        )

    def _start_unless_running(self, server: Server) -> Place | None:
        """The place of a server that is starting; None if it is ready already."""
        current = state.read(self.state_dir)
        known = current.servers.get(server.name)
        if known is not None and processes.alive(known.process):
            place = self._place(server, current, known.process.mark)
            if known.ready:
                self._report(
                    PhaseChange(server.name, Phase.ALREADY_RUNNING, _joined(server.addresses(place)))
                )
                return None
            return place
        if known is not None:
            processes.stop([known.process], STOP_PATIENCE_SECONDS)  # children that it left behind
        self._report(PhaseChange(server.name, Phase.PREPARING))
        return self._start(server, current)

    def _start(self, server: Server, current: StackState) -> Place:
        folder = server.folder(self.state_dir, current.folders.get(server.name))
        folder.mkdir(parents=True, exist_ok=True)
        ports = dict(current.ports)
        for purpose, wanted in server.ports.items():
            key = f"{server.name}.{purpose}"
            ports[key] = _port(server.name, purpose, wanted, ports.get(key), set(ports.values()))
        folders = {**current.folders, server.name: folder}
        current = current.model_copy(update={"ports": ports, "folders": folders})
        mark = secrets.token_hex(16)
        place = self._place(server, current, mark)
        launch = server.prepare(place)
        log = self._log(server.name)
        log.parent.mkdir(exist_ok=True)
        process = processes.start(launch, log, mark)
        started = StartedServer(process=process, started_at=datetime.now(UTC), log=log)
        state.write(self.state_dir, current.with_server(server.name, started))
        self._started.add(server.name)
        self._report(PhaseChange(server.name, Phase.STARTING))
        return place

    def _wait_until_ready(self, starting: dict[str, Place]) -> None:
        """Wait until the dict is empty; each ready server is removed from it."""
        deadline = time.monotonic() + self._given.stack.start_timeout_seconds
        problems: dict[str, str | None] = {}
        while starting:
            for name, place in list(starting.items()):
                known = state.read(self.state_dir).servers[name]
                self._raise_if_dead(name, known)
                problem = self._known[name].problem(place)
                if problem is None:
                    self._mark_ready(name, place, known)
                    del starting[name]
                elif time.monotonic() > deadline:
                    self._raise_failed(
                        name,
                        known,
                        f"is not ready after {self._given.stack.start_timeout_seconds:.0f} s: {problem}",
                    )
                elif problems.get(name) != problem:
                    problems[name] = problem
                    self._report(PhaseChange(name, Phase.STARTING, problem))
            if starting:
                time.sleep(POLL_SECONDS)

    def _raise_if_dead(self, name: str, known: StartedServer) -> None:
        code = processes.ended(known.process)
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self._raise_failed(name, known, f"{how} while it was starting")
        if not processes.alive(known.process):
            self._raise_failed(name, known, "ended while it was starting")

    def _raise_failed(self, name: str, known: StartedServer, what: str) -> None:
        self._report(PhaseChange(name, Phase.FAILED, what))
        raise ServerFailed(name, what, known.log, processes.last_lines(known.log))

    def _mark_ready(self, name: str, place: Place, known: StartedServer) -> None:
        server = self._known[name]
        addresses = server.addresses(place)
        ready = known.model_copy(
            update={"ready": True, "addresses": addresses, "settings": server.settings(place)}
        )
        state.write(self.state_dir, state.read(self.state_dir).with_server(name, ready))
        self._report(PhaseChange(name, Phase.READY, _joined(addresses)))

    def _end(self, names: Sequence[str]) -> None:
        current = state.read(self.state_dir)
        ending = {name: current.servers[name].process for name in names if name in current.servers}
        for name in ending:
            self._report(PhaseChange(name, Phase.STOPPING))
        killed = processes.stop(ending.values(), STOP_PATIENCE_SECONDS)
        for name, process in ending.items():
            current = current.with_server(name, None)
            self._started.discard(name)
            self._report(PhaseChange(name, Phase.KILLED if process in killed else Phase.STOPPED))
        if ending:
            state.write(self.state_dir, current)

    def _purge(self, names: Iterable[str], everything: bool) -> None:
        current = state.read(self.state_dir)
        folders = dict(current.folders)
        in_use = {folders.get(name) for name in current.servers}  # Flink's two processes share one
        for name in [*folders] if everything else names:
            folder = folders.pop(name, None)
            if folder is not None and folder not in in_use and folder.exists():
                shutil.rmtree(folder)
            self._log(name).unlink(missing_ok=True)
            processes.older(self._log(name)).unlink(missing_ok=True)
        if everything:
            (self.state_dir / STACK_FILE).unlink(missing_ok=True)
        else:
            state.write(self.state_dir, current.model_copy(update={"folders": folders}))

    def _status_of(self, name: str, current: StackState) -> ServerStatus:
        known = current.servers.get(name)
        if known is None:
            return ServerStatus(name, State.STOPPED)
        base = ServerStatus(
            name, State.DEAD, known.process.pid, known.started_at, None, known.addresses, known.log
        )
        if not processes.alive(known.process):
            return replace(
                base, problem=f"it has died; its log is {known.log}; `tidegate up` starts it again"
            )
        problem = None
        if name in self._known:
            place = self._place(self._known[name], current, known.process.mark)
            problem = self._known[name].problem(place)
        waiting = State.NOT_ANSWERING if known.ready else State.STARTING
        return replace(
            base,
            state=waiting if problem else State.RUNNING,
            problem=problem,
            memory_bytes=processes.memory_bytes(known.process),
        )

    def _place(self, server: Server, current: StackState, mark: str) -> Place:
        ports = {purpose: current.ports[f"{server.name}.{purpose}"] for purpose in server.ports}
        return Place(current.folders[server.name], ports, mark[:8], current.ports)

    def _log(self, name: str) -> Path:
        return self.state_dir / LOGS / f"{name}.log"


def _port(server: str, purpose: str, wanted: int, earlier: int | None, taken: set[int]) -> int:
    if wanted:
        if not loopback.is_free(wanted):
            raise StackError(
                f"port {wanted} of {server} ({purpose}) is in use by another program; stop that program, or set "
                "another port, or 0 for any free port"
            )
        return wanted
    return earlier if earlier and loopback.is_free(earlier) else loopback.free(taken)


def _joined(addresses: dict[str, str]) -> str:
    return ", ".join(f"{name} {address}" for name, address in addresses.items())
