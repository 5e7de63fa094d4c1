"""What all lanes know of files together: the positions of closed ones, the open ones, the ones to examine again."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.adapters.shipping.positions import FilePosition, Fingerprint
from tidegate.adapters.shipping.rotation import rotations_of
from tidegate.adapters.shipping.sources import (
    UNREADABLE,
    FileDamaged,
    FileKey,
    FileUnfinished,
    GzipSource,
    Source,
    continues,
    is_compressed,
    key_of,
    open_source,
)
from tidegate.adapters.shipping.tail import Tail

log = logging.getLogger(__name__)

_RETENTION_NS = 7 * 24 * 3600 * 10**9
"""The position of a deleted file is dropped when its lane has been written to for this long since."""


@dataclass(frozen=True)
class FoundFile:
    """A file on disk that may have to be read. named: the patterns of the settings match it."""

    path: Path
    status: os.stat_result
    named: bool

    @classmethod
    def at(cls, path: Path, *, named: bool) -> FoundFile | None:
        """The regular file of this name; None where there is none."""
        try:
            status = path.stat()
        except OSError:
            return None
        return cls(path, status, named) if stat.S_ISREG(status.st_mode) else None

    @property
    def key(self) -> FileKey:
        """Which file it is."""
        return key_of(self.status)

    @property
    def modified_ns(self) -> int:
        """The file's mtime, ns since the epoch."""
        return self.status.st_mtime_ns

    @property
    def version(self) -> tuple[int, int]:
        """Differs once the file has changed."""
        return self.status.st_size, self.status.st_mtime_ns


class KnownFiles:
    """The register of files that the lanes of one follower share.

    A file is known by device, inode and its first bytes; a copy or a compressed form of it by its first bytes
    and those right before the position up to which it is read.
    """

    def __init__(self, saved: Sequence[FilePosition] = ()) -> None:
        self._positions = list(saved)
        self._open: dict[FileKey, Tail] = {}
        self._examined: dict[FileKey, tuple[int, int]] = {}
        self._unreadable: set[Path] = set()
        self._unfinished: set[FileKey] = set()

    @property
    def positions(self) -> list[FilePosition]:
        """The positions of the files that are not open."""
        return list(self._positions)

    # Open files

    def tail_of(self, key: FileKey) -> Tail | None:
        """The tail that reads this file; None where the file is not open."""
        return self._open.get(key)

    def add_open(self, tail: Tail) -> None:
        """Register a tail under the file that it reads now."""
        self._open[tail.key] = tail

    def add_closed(self, tail: Tail) -> FilePosition:
        """Keep the position of a tail that is about to be closed, and return it."""
        position = tail.position()
        self._positions.append(position)
        if position.inode:
            status = tail.source.status()
            self._examined[tail.key] = (status.st_size, status.st_mtime_ns)
        if self._open.get(tail.key) is tail:
            del self._open[tail.key]
        return position

    def open_copy_of(self, tail: Tail) -> tuple[Source, Path] | None:
        """A rotated file of the tail's lane that holds what the tail has read, opened where no tail reads it."""
        for path in sorted(rotations_of(tail.name.lane), key=is_compressed):
            try:
                if key_of(path.stat()) in self._open:
                    continue
                source = open_source(path)
            except UNREADABLE:
                continue
            try:
                if continues(source, *tail.read_mark):
                    return source, path
            except (FileDamaged, FileUnfinished):
                pass
            source.close()
        return None

    # Files that are not read now

    def is_examined(self, file: FoundFile) -> bool:
        """Whether the file is unchanged since it was found to have nothing to read."""
        return self._examined.get(file.key) == file.version

    def is_unfinished(self, key: FileKey) -> bool:
        """Whether the file was still being compressed when it was examined."""
        return key in self._unfinished

    def set_examined(self, file: FoundFile) -> None:
        """Leave the file alone until it changes."""
        self._examined[file.key] = file.version

    def set_readable(self, file: FoundFile) -> None:
        """Record that a file could be opened."""
        self._unreadable.discard(file.path)
        self._unfinished.discard(file.key)

    def put_off(self, file: FoundFile, error: Exception) -> bool:
        """Leave a file that can't be read alone until it changes; returns whether it is still being compressed."""
        self.set_examined(file)
        if isinstance(error, FileUnfinished):
            self._unfinished.add(file.key)
            log.info("%s is still being compressed", file.path)
            return True
        self.report_unreadable(file.path, error)
        return False

    def report_unreadable(self, path: Path, error: Exception) -> None:
        """Log that a file can't be read, once until it can be read again."""
        if path not in self._unreadable:
            self._unreadable.add(path)
            log.error("%s can't be read and is tried again later: %s", path, error)

    # Positions

    def has_position(self, key: FileKey) -> bool:
        """Whether a closed file with this device and inode has a position."""
        return any((position.device, position.inode) == key for position in self._positions)

    def incomplete(self, lane: Path) -> list[FilePosition]:
        """The positions of a lane's closed files that are not shipped to their end."""
        return [position for position in self._positions if position.lane == lane and not position.finished]

    def candidates(self, lane: Path) -> list[Path]:
        """Where a lane's rotated files may be: under a rotation's name, or any name where the inode is known."""
        paths = rotations_of(lane)
        wanted = {
            FileKey(position.device, position.inode) for position in self.incomplete(lane) if position.inode
        }
        if wanted:
            try:
                entries = [entry for entry in os.scandir(lane.parent) if entry.is_file()]
            except OSError:
                return paths
            paths += [Path(entry.path) for entry in entries if key_of(entry.stat()) in wanted]
        return [path for path in dict.fromkeys(paths) if path != lane]

    def newest_ns(self, lane: Path) -> int | None:
        """When a closed file of the lane was written last, ns since the epoch; None where there is none."""
        return max((file.modified_ns for file in self._positions if file.lane == lane), default=None)

    def position_of(self, source: Source) -> FilePosition | None:
        """The position of this very file. A position whose inode another file has now loses its inode."""
        for position in [file for file in self._positions if (file.device, file.inode) == source.key]:
            if not position.head.size:
                self._positions.remove(position)  # it was empty then, so it may be any file now
                continue
            if position.head.begins(source.head) and (
                source.compressed
                or Fingerprint.of(source.bytes_before(position.offset, position.anchor.size))
                == position.anchor
            ):
                return position
            self._replace(position, position.model_copy(update={"device": 0, "inode": 0}))
        return None

    def position_of_original(self, lane: Path, source: Source) -> FilePosition | None:
        """The position of the lane's file that this one is a copy of, or its compressed form."""
        for position in reversed(self._positions):
            if position.lane != lane or not position.head.size or not position.head.begins(source.head):
                continue
            if position.finished and isinstance(source, GzipSource) and _same_size(position, source):
                return position
            if continues(source, position.head, position.offset, position.anchor):
                return position
        return None

    def move(self, position: FilePosition, source: Source, path: Path) -> None:
        """Record that the content of a closed file is now found in another file."""
        update = {"path": path, "device": source.key.device, "inode": source.key.inode}
        self._replace(position, position.model_copy(update=update))

    def remove(self, position: FilePosition) -> None:
        """Drop the position of a file that is open again."""
        self._positions.remove(position)

    def expire(self, lane: Path, newest_ns: int) -> None:
        """Drop the positions of deleted files that the lane has outlived.

        newest_ns: when the lane was written to last, ns since the epoch.
        """
        self._positions = [
            file
            for file in self._positions
            if file.lane != lane or newest_ns - file.modified_ns < _RETENTION_NS or file.path.exists()
        ]

    def _replace(self, old: FilePosition, new: FilePosition) -> None:
        self._positions = [new if position is old else position for position in self._positions]


def is_shipped(position: FilePosition, source: Source) -> bool:
    """Whether nothing in the file lies behind the position."""
    if not position.finished:
        return False
    if isinstance(source, GzipSource):
        return (position.device, position.inode) == source.key or _same_size(position, source)
    return source.at_end(position.offset)


def _same_size(position: FilePosition, source: GzipSource) -> bool:
    return source.whole_size() == position.offset % 2**32
