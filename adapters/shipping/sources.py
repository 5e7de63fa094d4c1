"""Reads one file, plain or gzip'd, at uncompressed offsets; each read checks that the file is still the same."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import IO, NamedTuple

from tidegate.adapters.shipping.positions import HEAD_BYTES, Fingerprint

_SKIP_BYTES = 1_048_576


class FileKey(NamedTuple):
    """The identity of a file on its device, whatever its name."""

    device: int
    inode: int


class FileReplaced(Exception):
    """The file was truncated or rewritten: it doesn't hold what was read before."""


class FileDamaged(Exception):
    """A compressed file can't be read any further. The message gives the reason."""


class FileUnfinished(Exception):
    """A compressed file ends in the middle: it is still being written, or it was cut short."""


UNREADABLE = (OSError, FileDamaged, FileUnfinished)
"""The errors that opening a file, or looking for a position in it, may raise."""


def key_of(status: os.stat_result) -> FileKey:
    """Device and inode."""
    return FileKey(status.st_dev, status.st_ino)


def is_compressed(path: Path) -> bool:
    """Whether a file is gzip'd, by its name."""
    return path.suffix == ".gz"


class PlainSource:
    """An open file that may grow, be renamed, or be truncated while it is read."""

    compressed = False
    key: FileKey
    head: bytes

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._take_over(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def status(self) -> os.stat_result:
        """The open file's status."""
        return os.fstat(self._fd)

    def bytes_before(self, offset: int, size: int) -> bytes:
        """`size` bytes right before `offset`; fewer where the file is shorter."""
        start = max(0, offset - size)
        return os.pread(self._fd, offset - start, start)

    def read(self, offset: int, anchor: bytes, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; none at the end for now.

        anchor: what stood right before `offset` when that was read.
        Raises FileReplaced where that, or the file's first bytes, have changed.
        """
        data = os.pread(self._fd, size, offset) if size else b""
        # Checked after the read: had the file been replaced before it, these would have changed.
        head = os.pread(self._fd, HEAD_BYTES, 0)
        before = os.pread(self._fd, len(anchor), offset - len(anchor))
        if not head.startswith(self.head) or before != anchor:
            raise FileReplaced
        self.head = head
        return data

    def at_end(self, offset: int) -> bool:
        """Whether the file ends at `offset` now."""
        return os.fstat(self._fd).st_size <= offset

    def reopened(self) -> PlainSource:
        """The same file, to be read from its beginning, after its content was replaced."""
        return PlainSource.__new__(PlainSource)._take_over(os.dup(self._fd))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _take_over(self, fd: int) -> PlainSource:
        self._fd = fd
        self.key = key_of(os.fstat(fd))
        self.head = os.pread(fd, HEAD_BYTES, 0)
        return self


class GzipSource:
    """A rotated file that was compressed. It doesn't change once it is whole."""

    compressed = True

    def __init__(self, path: Path) -> None:
        """Raises OSError, FileDamaged, and FileUnfinished where its first bytes are missing yet."""
        self._path = path
        self._raw: IO[bytes] = path.open("rb")
        self.key = key_of(os.fstat(self._raw.fileno()))
        try:
            self._rewind()
            self.head = self._take(HEAD_BYTES)
            if len(self.head) < HEAD_BYTES and not self._ended:
                raise FileUnfinished(f"{path}: ends in the middle")
        except BaseException:
            self._raw.close()
            raise

    def status(self) -> os.stat_result:
        """The compressed file's status."""
        return os.fstat(self._raw.fileno())

    def whole_size(self) -> int:
        """Uncompressed bytes modulo 2^32, from the file's last four bytes (right for one gzip member)."""
        size = self.status().st_size
        return int.from_bytes(os.pread(self._raw.fileno(), 4, max(0, size - 4)), "little")

    def bytes_before(self, offset: int, size: int) -> bytes:
        """`size` bytes right before `offset`; fewer where the file is shorter.

        Reads everything before them, about 300 MB a second. Raises FileDamaged and FileUnfinished.
        """
        start = max(0, offset - size)
        if self._position > start:
            self._rewind()
        while self._position < start:
            if not self._take(min(_SKIP_BYTES, start - self._position)):
                return b""
        return self._take(offset - start)

    def read(self, offset: int, anchor: bytes, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; none at the end.

        anchor: not needed, since a compressed file isn't truncated.
        Raises FileDamaged, and FileUnfinished where there may be more later.
        """
        if self._position != offset:
            self.bytes_before(offset, len(anchor))
        return self._take(size)

    def at_end(self, offset: int) -> bool:
        """Whether `offset` is the file's end."""
        return self._ended and self._position == offset

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def _rewind(self) -> None:
        self._raw.seek(0)
        self._stream = gzip.GzipFile(fileobj=self._raw)
        self._position = 0
        self._ended = False
        self._error: Exception | None = None

    def _take(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only before the end, or before an error that the next call raises."""
        parts: list[bytes] = []
        while size > 0 and not self._ended:
            part = b""
            try:
                if self._error is None:
                    part = self._stream.read1(size)
                    self._ended = not part
            except EOFError:
                if not parts:
                    raise FileUnfinished(f"{self._path}: ends in the middle") from None
                break
            except (gzip.BadGzipFile, zlib.error) as error:
                self._error = error
            if self._error is not None:
                if not parts:
                    raise FileDamaged(f"{self._path}: {self._error}")
                break
            parts.append(part)
            self._position += len(part)
            size -= len(part)
        return b"".join(parts)


Source = PlainSource | GzipSource


def open_source(path: Path) -> Source:
    """The file for reading. Raises OSError, and for a compressed one FileDamaged and FileUnfinished."""
    return GzipSource(path) if is_compressed(path) else PlainSource(path)


def continues(source: Source, head: Fingerprint, offset: int, anchor: Fingerprint) -> bool:
    """Whether the file holds what was read up to `offset` of a file with these first and last bytes.

    Raises FileDamaged and FileUnfinished.
    """
    if not head.size or not head.begins(source.head):
        return False
    return Fingerprint.of(source.bytes_before(offset, anchor.size)) == anchor
