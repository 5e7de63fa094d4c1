"""The names that log rotation gives to files, and which log each may have been."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from pathlib import Path

_COMPRESSED = ".gz"
_CLOCK_TICK_NS = 50_000_000
"""Two changes of a folder within this time may leave it with the same mtime."""
_STAMP = re.compile(r"[.-]\d[\dT:._-]*$")


def bases_of(path: Path) -> Iterator[Path]:
    """The names under which a file of this name may have been written to, except its own.

    `access.log.1`, `access.log-20261124.gz` and `access-2026-11-24.log` may each have been `access.log`.
    """
    name = path.name.removesuffix(_COMPRESSED)
    if name != path.name:
        yield path.with_name(name)
    if (bare := _STAMP.sub("", name)) not in (name, ""):
        yield path.with_name(bare)
    stem, dot, suffix = name.rpartition(".")
    if dot and (bare := _STAMP.sub("", stem)) not in (stem, ""):
        yield path.with_name(f"{bare}.{suffix}")


def base_of(path: Path, known: Collection[Path]) -> Path:
    """The known name under which the file was written to; its own name where none fits."""
    if path in known and not _looks_rotated(path):
        return path
    return next((base for base in bases_of(path) if base in known), path)


def rotations_of(base: Path) -> list[Path]:
    """The files beside a log that have the name of a rotated one; none where the folder is gone."""
    try:
        return sorted(path for path in base.parent.iterdir() if path != base and base in bases_of(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


class Rotations:
    """The rotated files of one log, listed again only when their folder may have changed."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._folder_ns: int | None = None
        self._names: frozenset[tuple[str, int]] = frozenset()

    def have_changed(self) -> bool:
        """Whether the files differ from those of the last `update`."""
        folder_ns = self._modified_ns()
        return (folder_ns is None or folder_ns != self._folder_ns) and self._list() != self._names

    def update(self) -> bool:
        """List the files again; returns whether they have changed."""
        folder_ns = self._modified_ns()
        if folder_ns is not None and folder_ns == self._folder_ns:
            return False
        before, self._names = self._names, self._list()
        self._folder_ns = folder_ns
        return self._names != before

    def _modified_ns(self) -> int | None:
        try:
            modified_ns = self._base.parent.stat().st_mtime_ns
        except OSError:
            return None
        return modified_ns if abs(time.time_ns() - modified_ns) > _CLOCK_TICK_NS else None

    def _list(self) -> frozenset[tuple[str, int]]:
        found = set()
        for path in rotations_of(self._base):
            try:
                found.add((path.name, path.stat().st_ino))
            except FileNotFoundError:
                continue
        return frozenset(found)


def _looks_rotated(path: Path) -> bool:
    return next(bases_of(path), None) is not None
