"""The user's cache, where programs are kept that were built or unpacked once."""

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
    """One process at a time. The system frees the lock when this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
