"""The shipper's positions on disk: how far each file is shipped, by content, not by name."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

HEAD_BYTES = 1024
STATE_NAME = "offsets.json"
LOCK_NAME = "lock"


class StateFolderError(Exception):
    """The state folder can't be used. The message names the folder, the reason and the remedy."""


class Fingerprint(BaseModel):
    """The size and hash of some bytes of a file: no log content is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(0, ge=0, description="bytes")
    digest: str = ""

    @classmethod
    def of(cls, data: bytes) -> Fingerprint:
        """The fingerprint of these bytes."""
        return cls(size=len(data), digest=blake2b(data, digest_size=16).hexdigest() if data else "")

    def begins(self, data: bytes) -> bool:
        """Whether `data` starts with the bytes of this fingerprint; the empty one fits any data."""
        return len(data) >= self.size and Fingerprint.of(data[: self.size]) == self


class FilePosition(BaseModel):
    """How far one file is acknowledged by Kafka.

    A file is recognized by device, inode and its first bytes (`head`); a copied or compressed one
    by its first bytes and those right before `offset` (`anchor`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lane: Path = Field(description="the name under which the file was written to")
    path: Path = Field(description="where the file was found last")
    device: int
    inode: int = Field(description="0 where no file with this content is left")
    head: Fingerprint
    offset: int = Field(ge=0, description="uncompressed bytes from the beginning; all before it is in Kafka")
    anchor: Fingerprint
    inside: bool = Field(False, description="offset lies inside an overlong line, whose remainder is skipped")
    modified_ns: int = Field(description="the file's mtime when it was read last, ns since the epoch")
    finished: bool = Field(False, description="shipped to its end, and no longer written to")


class _PositionFile(BaseModel):
    """The content of offsets.json."""

    model_config = ConfigDict(extra="forbid")

    version: int = Field(1, ge=1, le=1)
    files: list[FilePosition] = []


class StateFolder:
    """The state folder, held by one shipper at a time (a lock that ends with its process)."""

    def __init__(self, folder: Path) -> None:
        """Create the folder where it is missing, and lock it.

        Raises StateFolderError where another shipper holds it, or it can't be written to.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StateFolderError(
                f"{folder}: {error.strerror}; set shipper.state_dir to a writable folder"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise StateFolderError(
                f"{folder} is in use by another shipper (process {holder}); stop that process, or set "
                "shipper.state_dir to another folder"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def load(self) -> list[FilePosition]:
        """The positions that were saved last; none on the first start. Raises StateFolderError for a damaged file."""
        path = self.folder / STATE_NAME
        try:
            return _PositionFile.model_validate_json(path.read_bytes()).files
        except FileNotFoundError:
            return []
        except ValidationError as error:
            raise StateFolderError(
                f"{path}: damaged ({error.errors()[0]['msg']}, errors: {error.error_count()}). "
                "Restore a copy, or delete it: then every file is shipped again from its beginning"
            ) from error

    def save(self, files: Sequence[FilePosition]) -> None:
        """Replace the saved positions atomically, even if the machine stops in the middle."""
        temporary = self.folder / f"{STATE_NAME}.new"
        with temporary.open("wb") as out:
            out.write(_PositionFile(files=list(files)).model_dump_json(indent=1).encode())
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(self.folder / STATE_NAME)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Unlock the folder."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
