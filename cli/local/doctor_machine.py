"""Checks this machine for `tidegate doctor`: Java, packages, memory, disk, ports."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli.local.doctor_findings import (
    Finding,
    judge_disk,
    judge_java,
    judge_memory,
    judge_packages,
    judge_ports,
)

if TYPE_CHECKING:
    from tidegate.schemas.settings import Settings, Stack
    from tidegate.stack.state import StackState

_PACKAGES = {"elasticsearch": "elasticsearch", "pyflink": "jobs", "jgo": "jobs", "psutil": "stack"}
_OUTSIDE_THE_HEAP = 1.6
"""A server's total memory per byte of its heap: measured on idle Kafka and Elasticsearch."""
_TOOL_SECONDS = 30


def check_machine(settings: Settings) -> list[Finding]:
    """Everything that needs no server."""
    from tidegate.stack.errors import StackError
    from tidegate.stack.ports import is_free
    from tidegate.stack.state import StackState, read

    missing = _missing_packages()
    findings = [check_java(), judge_packages(missing)]
    try:
        state = read(settings.stack.state_dir)
    except StackError as error:
        findings.append(Finding("state folder", "fail", str(error), "`tidegate down --purge` removes it"))
        state = StackState()
    running = set() if "psutil" in missing else _running(state)
    needed = sum(mib for server, mib in _needs_mib(settings.stack).items() if server not in running)
    findings.append(judge_memory(_available_mib(), needed))
    folder = settings.stack.state_dir.absolute()
    findings.append(judge_disk(shutil.disk_usage(_existing(folder)).free / 2**30, str(folder)))
    fixed = _fixed_ports(settings.stack)
    ours = {port for name, port in state.ports.items() if name.partition(".")[0] in running}
    taken = {port for port in fixed.values() if not is_free(port)}
    return findings + judge_ports(fixed, ours, taken)


def check_java() -> Finding:
    """Check the Java that the servers and jobs use."""
    from tidegate.artifacts.jvm import JavaMissing, java

    try:
        program = str(java())
        version = subprocess.run(
            [program, "-version"], capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False
        )
        modules = subprocess.run(
            [program, "--list-modules"], capture_output=True, text=True, timeout=_TOOL_SECONDS, check=False
        )
    except JavaMissing as error:
        what, _, todo = str(error).partition("; ")
        return Finding("Java", "fail", what, todo)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("Java", "fail", str(error), "install a JDK 17, or set JAVA_HOME to one")
    names = {line.partition("@")[0] for line in modules.stdout.split()}
    return judge_java(version.stderr + version.stdout, names)


def _missing_packages() -> dict[str, str]:
    return {name: extra for name, extra in _PACKAGES.items() if importlib.util.find_spec(name) is None}


def _running(state: StackState) -> set[str]:
    from tidegate.stack.processes import alive

    return {name for name, server in state.servers.items() if alive(server.process)}


def _fixed_ports(stack: Stack) -> dict[str, int]:
    ports = {name: value for name, value in stack if name.endswith("_port")}
    return {name: port for name, port in ports.items() if port}


def _needs_mib(stack: Stack) -> dict[str, int]:
    return {
        "kafka": int(stack.kafka_heap_mib * _OUTSIDE_THE_HEAP),
        "elasticsearch": int(stack.elasticsearch_heap_mib * _OUTSIDE_THE_HEAP),
        "flink-jobmanager": stack.jobmanager_memory_mib,
        "flink-taskmanager": stack.taskmanager_memory_mib,
    }


def _available_mib() -> int:
    """The available memory of the machine, or of this container if its limit is lower."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) // 1024
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        available = min(available, (int(limit.read_text()) - int(used.read_text())) // 2**20)
    return max(available, 0)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
