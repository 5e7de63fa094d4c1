"""What a check of `tidegate doctor` found, and the judgements of this machine: pure, from plain values."""

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
    """One line of the report. `todo` says what to do; it is empty where the state is ok."""

    check: str
    state: State
    found: str
    todo: str = ""


def judge_java(version_output: str, modules: Collection[str]) -> Finding:
    """What `java -version` and `java --list-modules` print. Everything here is tested with 17."""
    first = version_output.strip().splitlines()[0] if version_output.strip() else "nothing"
    match = re.search(r'version "(?:1\.)?(\d+)', version_output)
    install = "install a JDK 17 (Debian: openjdk-17-jdk-headless), or set JAVA_HOME to one"
    if match is None:
        return Finding("Java", "fail", f"`java -version` says {first}", install)
    version = int(match[1])
    if version < JAVA_VERSION:
        return Finding("Java", "fail", f"{first}: too old", install)
    if VECTOR_MODULE not in modules:
        return Finding(
            "Java", "fail", f"{first}, without {VECTOR_MODULE}", f"Elasticsearch needs it: {install}"
        )
    if version > JAVA_VERSION:
        return Finding("Java", "warn", f"{first}: newer than what is tested", f"should it fail, {install}")
    return Finding("Java", "ok", first)


def judge_memory(available_mib: int, needed_mib: int) -> Finding:
    """needed_mib: of the local servers that don't run yet."""
    found = f"{available_mib:,} MiB available"
    if needed_mib == 0:
        return Finding("memory", "ok", f"{found}; the local servers run already")
    found += f", {needed_mib:,} MiB for the local servers that don't run yet"
    if available_mib >= needed_mib:
        return Finding("memory", "ok", found)
    todo = "free some, or lower stack.…_heap_mib and stack.…_memory_mib; servers elsewhere need none here"
    return Finding("memory", "fail" if available_mib < needed_mib / 2 else "warn", found, todo)


def judge_disk(free_gib: float, folder: str) -> Finding:
    """The disk of the state folder: Kafka's and Elasticsearch's data, and Flink's checkpoints."""
    found = f"{free_gib:.1f} GiB free for {folder}"
    if free_gib >= DISK_GIB_WANTED:
        return Finding("disk", "ok", found)
    todo = "free some, or set stack.state_dir to a folder on a larger disk"
    return Finding("disk", "warn" if free_gib >= DISK_GIB_NEEDED else "fail", found, todo)


def judge_ports(fixed: Mapping[str, int], ours: Collection[int], taken: Collection[int]) -> list[Finding]:
    """fixed: the settings that name a port. ours: of our own running servers. taken: in use by anybody."""
    if not fixed:
        return [Finding("ports", "ok", "any free ones (none is set)")]
    findings = []
    for name, port in fixed.items():
        twins = [other for other, number in fixed.items() if number == port and other != name]
        check, found = f"port {port}", f"stack.{name}"
        if twins:
            todo = "give each its own, or 0 for any free one"
            findings.append(Finding(check, "fail", f"{found} and stack.{twins[0]} are the same", todo))
        elif port in ours:
            findings.append(Finding(check, "ok", f"{found}: our own server listens"))
        elif port in taken:
            todo = f"end what listens there, or set stack.{name} to another port, or 0 for any free one"
            findings.append(Finding(check, "fail", f"{found}: another program listens", todo))
        else:
            findings.append(Finding(check, "ok", f"{found}: free"))
    return findings


def judge_packages(missing: Mapping[str, str]) -> Finding:
    """missing: package to the extra that brings it."""
    if not missing:
        return Finding("packages", "ok", "all extras are installed")
    extras = ",".join(sorted(set(missing.values())))
    names = ", ".join(sorted(missing))
    return Finding(
        "packages", "warn", f"not installed: {names}", f'for everything: pip install "tidegate[{extras}]"'
    )
