"""The user's cache for programs that were built or unpacked once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def folder(name: str) -> Path:
    """`~/.cache/tidegate/NAME`, or below XDG_CACHE_HOME."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "tidegate" / name


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes. The system releases it when this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
