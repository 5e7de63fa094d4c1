"""Finds the Java program that runs the servers, the jobs and the compiler."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tidegate.artifacts.maven import ArtifactUnavailable


class JavaMissing(ArtifactUnavailable):
    """Java is missing. The message names where it was searched and, after `; `, what to do."""


def java() -> Path:
    """The Java program of JAVA_HOME if it is set, else of the PATH.

    Raises JavaMissing if there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = Path(home) / "bin" / "java" if home else Path(shutil.which("java") or "java")
    if not found.exists():
        where = f"JAVA_HOME is {home}, which has no bin/java" if home else "no `java` on the PATH"
        raise JavaMissing(f"{where}; install a JDK 17 (Debian: openjdk-17-jdk-headless), or set JAVA_HOME")
    return found.resolve()
