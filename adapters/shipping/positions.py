"""What the log shipper remembers on disk: how far each file was shipped, known by content, not by name."""

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
    """The state folder can't be used. The message names it, and says what to do."""


class Fingerprint(BaseModel):
    """Some bytes of a file, as their number and a hash, so that no log content is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(0, ge=0, description="bytes")
    digest: str = ""

    @classmethod
    def of(cls, data: bytes) -> Fingerprint:
        """The fingerprint of these bytes."""
        return cls(size=len(data), digest=blake2b(data, digest_size=16).hexdigest() if data else "")

    def begins(self, data: bytes) -> bool:
        """Whether `data` starts with the bytes that this is the fingerprint of. No bytes begin anything."""
        return len(data) >= self.size and Fingerprint.of(data[: self.size]) == self


class FilePosition(BaseModel):
    """How far one file is in Kafka.

    A file is recognized by device and inode and its first bytes (`head`); one that was copied or compressed
    meanwhile by its first bytes and those right before `offset` (`anchor`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lane: Path = Field(description="the name under which the file was written to")
    path: Path = Field(description="where it was found last")
    device: int
    inode: int = Field(description="0 where no file with this content is left")
    head: Fingerprint
    offset: int = Field(ge=0, description="uncompressed bytes from the beginning; all before it is in Kafka")
    anchor: Fingerprint
    inside: bool = Field(
        False, description="offset lies inside an overlong line; what remains of it is skipped"
    )
    modified_ns: int = Field(description="the file's mtime when it was read last, ns since the epoch")
    finished: bool = Field(False, description="shipped to its end, nobody writes to it any more")


class _State(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int = Field(1, ge=1, le=1)
    files: list[FilePosition] = []


class StateFolder:
    """The state folder, held by one shipper at a time (a lock that ends with its process)."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is missing, and lock it.

        Raises StateFolderError where another shipper holds it, or it can't be written to.
        """
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StateFolderError(
                f"{folder}: {error.strerror}; set shipper.state_dir to a folder that can be written to"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise StateFolderError(
                f"{folder} is in use by another shipper (process {holder}): stop that one, or give this one "
                "its own shipper.state_dir"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def load(self) -> list[FilePosition]:
        """What was saved last; nothing on the first start. Raises StateFolderError where it is damaged."""
        path = self.folder / STATE_NAME
        try:
            return _State.model_validate_json(path.read_bytes()).files
        except FileNotFoundError:
            return []
        except ValidationError as error:
            raise StateFolderError(
                f"{path}: damaged ({error.errors()[0]['msg']}, errors: {error.error_count()}). "
                "Put back a copy, or remove it: then every file is shipped again from its beginning"
            ) from error

    def save(self, files: Sequence[FilePosition]) -> None:
        """Replace what was saved, whole or not at all, also when the machine stops in the middle."""
        temporary = self.folder / f"{STATE_NAME}.new"
        with temporary.open("wb") as out:
            out.write(_State(files=list(files)).model_dump_json(indent=1).encode())
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(self.folder / STATE_NAME)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let another shipper have the folder."""
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
