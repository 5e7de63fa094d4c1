"""Processes that outlive the command that started them: starts, identifies, measures and stops them.

Each server is started as the leader of its own session. A process is identified by its pid and its start
time, since pids are reused. The children that a dead leader left behind (a JVM whose launcher was killed) are
identified by their session and by a random mark in their environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tidegate.stack.errors import StackError

MARK_VARIABLE = "TIDEGATE_STACK_MARK"
POLL_SECONDS = 0.05

_STACK_FRAME = ("\tat ", "\t... ")


@dataclass(frozen=True)
class Launch:
    """How a server's process is started.

    user, group: numeric ids to run as; None means those of this process.
    """

    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    group: int | None = None


@dataclass(frozen=True)
class ProcessId:
    """The identity of one process: after its end, or a reboot, another process with its pid doesn't match.

    start: `BOOT-ID/CLOCK-TICKS-SINCE-BOOT` on Linux, seconds since the epoch elsewhere.
    mark: the value of TIDEGATE_STACK_MARK in its environment and in that of its children.
    """

    pid: int
    start: str
    mark: str


def start(launch: Launch, log: Path, mark: str) -> ProcessId:
    """Start the process in its own session, with its output in `log`; an earlier log is kept as `older(log)`.

    mark: random, of this start alone.
    Raises StackError when the program can't be run at all.
    """
    if log.exists():
        log.replace(older(log))
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                launch.command,
                cwd=launch.directory,
                env=clean_environment() | dict(launch.environment) | {MARK_VARIABLE: mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=launch.user,
                group=launch.group,
                extra_groups=None if launch.user is None else [],
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StackError(f"{launch.command[0]} can't be run: {error}") from error
    started = _start_of(process.pid)
    process.returncode = 0  # it outlives this object on purpose; `ended` reaps it
    return ProcessId(process.pid, started or "gone", mark)


def older(log: Path) -> Path:
    """The path of the previous start's log."""
    return log.with_name(log.name + ".1")


def alive(process: ProcessId) -> bool:
    """Whether the process itself runs. One that has ended and was started here is reaped."""
    ended(process)
    return _start_of(process.pid) == process.start


def ended(process: ProcessId) -> int | None:
    """The exit code (negative: the signal) of a process that this one started and that has just ended."""
    try:
        pid, status = os.waitpid(process.pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if pid else None


def members(process: ProcessId) -> list[psutil.Process]:
    """The process, where it runs, and all of its session, also when it has died and left them behind."""
    leader_runs = alive(process)
    return [member for member in psutil.process_iter() if _belongs(member, process, leader_runs)]


def memory_bytes(process: ProcessId) -> int:
    """Resident memory of the process and its children, pages that they share counted in each."""
    total = 0
    for member in members(process):
        try:
            total += member.memory_info().rss
        except psutil.Error:  # it has ended since
            continue
    return total


def signal_all(processes: Iterable[ProcessId], number: signal.Signals) -> None:
    """Send the signal to each process and all of its session, where they still run."""
    for process in processes:
        for member in members(process):
            try:
                member.send_signal(number)  # psutil checks that the pid wasn't reused
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied as error:
                raise StackError(
                    f"process {member.pid} belongs to another user and can't be stopped; run this as the user "
                    "who ran `tidegate up`"
                ) from error


def stop(processes: Iterable[ProcessId], patience_seconds: float) -> list[ProcessId]:
    """Stop the processes and their sessions: SIGTERM to all, SIGKILL to those that still run after `patience_seconds`.

    Returns those that had to be killed. Processes that have ended already are ignored.
    """
    processes = list(processes)
    signal_all(processes, signal.SIGTERM)
    stubborn = _wait(processes, patience_seconds)
    signal_all(stubborn, signal.SIGKILL)
    remaining = _wait(stubborn, patience_seconds)
    if remaining:
        raise StackError(f"processes {', '.join(str(process.pid) for process in remaining)} can't be stopped")
    return stubborn


def last_lines(log: Path, count: int = 20, at_most_bytes: int = 65_536) -> str:
    """The last lines of a log as text, without Java's stack frames, which would push the reason out."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - at_most_bytes))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return "(no log)"
    lines = [line for line in text.splitlines() if not line.startswith(_STACK_FRAME)]
    return "\n".join(lines[-count:]) or "(empty)"


def _wait(processes: list[ProcessId], seconds: float) -> list[ProcessId]:
    deadline = time.monotonic() + seconds
    while True:
        processes = [process for process in processes if members(process)]
        if not processes or time.monotonic() > deadline:
            return processes
        time.sleep(POLL_SECONDS)


def clean_environment() -> dict[str, str]:
    """This process' environment without tidegate's settings, which may hold secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}


_THREADS, _STARTED = 16, 18
"""Places of num_threads and starttime in /proc/PID/stat, counted from behind the state."""


def _start_of(pid: int) -> str | None:
    """The start time that distinguishes this process from any other with its pid; None if it isn't running."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _start_elsewhere(pid)
    state, *rest = stat.rpartition(")")[2].split()
    over = state == "X" or (state == "Z" and int(rest[_THREADS]) <= 1)
    return None if over else f"{boot}/{rest[_STARTED]}"


def _start_elsewhere(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if _is_over(process) else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def _is_over(process: psutil.Process) -> bool:
    """Whether it has ended completely. While other threads of a killed program still end, its ports aren't free."""
    return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1


def _belongs(member: psutil.Process, process: ProcessId, leader_runs: bool) -> bool:
    try:
        if member.pid == process.pid:
            return leader_runs
        if os.getsid(member.pid) != process.pid or _is_over(member):
            return False
        return leader_runs or member.environ().get(MARK_VARIABLE) == process.mark
    except (psutil.Error, ProcessLookupError, PermissionError):
        return False
