"""The names that log rotation gives: which file in a folder was once which."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

_COMPRESSED = ".gz"
_STAMP = re.compile(r"[.-]\d[\dT:._-]*$")


def bases_of(path: Path) -> Iterator[Path]:
    """The names under which a file with this name may have been written to, itself left out.

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
    """Under which of the known names the file was written to; its own where none fits."""
    if path in known and not _looks_rotated(path):
        return path
    return next((base for base in bases_of(path) if base in known), path)


def rotations_of(base: Path) -> list[Path]:
    """What lies beside a log file and has the name of an earlier one; nothing where the folder is gone."""
    try:
        return sorted(path for path in base.parent.iterdir() if path != base and base in bases_of(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _looks_rotated(path: Path) -> bool:
    return next(bases_of(path), None) is not None
