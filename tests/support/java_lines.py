"""Reads access-log lines with the job's Java reader, without Flink's cluster."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyflink

from tidegate.artifacts import coordinates, maven
from tidegate.artifacts.jvm import java
from tidegate.jobs import functions

_SOURCE = Path(__file__).parent / "java" / "ReadLines.java"


class JavaLine(NamedTuple):
    """A line as the job reads it. kind: as of AccessLogLine (0 request, 1 skipped, 2 dead)."""

    kind: int
    event_ms: int
    reason: str


def read_in_java(lines: Sequence[bytes]) -> list[JavaLine]:
    """What the job's reader makes of each line, in one run of Java (2 s)."""
    flink = sorted((Path(pyflink.__file__).parent / "lib").glob("*.jar"))
    with tempfile.TemporaryDirectory() as classes:
        path = os.pathsep.join(map(str, [functions.jar(), *flink]))
        compiler = [str(java()), "-jar", str(maven.file(coordinates.JAVA_COMPILER)), "-17", "-proc:none"]
        subprocess.run([*compiler, "-classpath", path, "-d", classes, str(_SOURCE)], check=True)
        data = struct.pack(">i", len(lines)) + b"".join(struct.pack(">i", len(line)) + line for line in lines)
        run = [str(java()), "-cp", os.pathsep.join([classes, path]), "io.tidegate.flink.ReadLines"]
        # One package in two places: the jar's classes and the test's are loaded by the same loader.
        shown = subprocess.run(run, input=data, capture_output=True, check=True).stdout.decode()
    found = [row.split("\t") for row in shown.splitlines()]
    return [JavaLine(int(kind), int(event_ms), reason) for kind, event_ms, reason in found]
