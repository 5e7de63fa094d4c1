"""The findings of `tidegate doctor`, and the pure functions that judge this machine."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]

JAVA_VERSION = 17
DISK_GIB_WANTED, DISK_GIB_NEEDED = 10.0, 2.0
VECTOR_MODULE = "jdk.incubator.vector"


@dataclass(frozen=True)
class Finding:
    """One line of the report. `todo` is the suggested fix, empty if the state is ok."""

    check: str
    state: State
    found: str
    todo: str = ""


def judge_java(version_output: str, modules: Collection[str]) -> Finding:
    """Judge the output of `java -version` and `java --list-modules`. Everything is tested with Java 17."""
    first = version_output.strip().splitlines()[0] if version_output.strip() else "nothing"
    match = re.search(r'version "(?:1\.)?(\d+)', version_output)
    install = "install a JDK 17 (Debian: openjdk-17-jdk-headless), or set JAVA_HOME to one"
    if match is None:
        return Finding("Java", "fail", f"`java -version` prints {first}", install)
    version = int(match[1])
    if version < JAVA_VERSION:
        return Finding("Java", "fail", f"{first}: too old", install)
    if VECTOR_MODULE not in modules:
        return Finding(
            "Java", "fail", f"{first}, without {VECTOR_MODULE}", f"Elasticsearch needs it: {install}"
        )
    if version > JAVA_VERSION:
        return Finding("Java", "warn", f"{first}: newer than the tested version", f"if it fails, {install}")
    return Finding("Java", "ok", first)


def judge_memory(available_mib: int, needed_mib: int) -> Finding:
    """Judge the memory. needed_mib: of the local servers that don't run yet."""
    found = f"{available_mib:,} MiB available"
    if needed_mib == 0:
        return Finding("memory", "ok", f"{found}; the local servers are running already")
    found += f", {needed_mib:,} MiB for the local servers that don't run yet"
    if available_mib >= needed_mib:
        return Finding("memory", "ok", found)
    todo = "free some, or lower stack.…_heap_mib and stack.…_memory_mib; remote servers need none on this machine"
    return Finding("memory", "fail" if available_mib < needed_mib / 2 else "warn", found, todo)


def judge_disk(free_gib: float, folder: str) -> Finding:
    """Judge the disk of the state folder, with Kafka's and Elasticsearch's data and Flink's checkpoints."""
    found = f"{free_gib:.1f} GiB free for {folder}"
    if free_gib >= DISK_GIB_WANTED:
        return Finding("disk", "ok", found)
    todo = "free some, or set stack.state_dir to a folder on a larger disk"
    return Finding("disk", "warn" if free_gib >= DISK_GIB_NEEDED else "fail", found, todo)


def judge_ports(fixed: Mapping[str, int], ours: Collection[int], taken: Collection[int]) -> list[Finding]:
    """Judge the ports. fixed: set in the settings. ours: of our running servers. taken: in use by any program."""
    if not fixed:
        return [Finding("ports", "ok", "any free ports (the settings name none)")]
    findings = []
    for name, port in fixed.items():
        twins = [other for other, number in fixed.items() if number == port and other != name]
        check, found = f"port {port}", f"stack.{name}"
        if twins:
            todo = "set a different port for each, or 0 for any free port"
            findings.append(Finding(check, "fail", f"{found} and stack.{twins[0]} are the same", todo))
        elif port in ours:
            findings.append(Finding(check, "ok", f"{found}: tidegate's own server listens on it"))
        elif port in taken:
            todo = f"stop that program, or set stack.{name} to another port, or 0 for any free port"
            findings.append(Finding(check, "fail", f"{found}: another program listens on it", todo))
        else:
            findings.append(Finding(check, "ok", f"{found}: free"))
    return findings


def judge_packages(missing: Mapping[str, str]) -> Finding:
    """Judge the Python packages. missing: package to the extra that installs it."""
    if not missing:
        return Finding("packages", "ok", "all extras are installed")
    extras = ",".join(sorted(set(missing.values())))
    names = ", ".join(sorted(missing))
    return Finding(
        "packages", "warn", f"not installed: {names}", f'for all features: pip install "tidegate[{extras}]"'
    )
