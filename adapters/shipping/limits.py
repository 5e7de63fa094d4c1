"""How a followed file is read: sizes, waits, and what cuts its bytes into lines or records."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.adapters.shipping.lines import LineSplitter


@dataclass(frozen=True)
class FollowLimits:
    """How files are read. Sizes in bytes, times in seconds."""

    max_line_bytes: int = 1_048_576
    chunk_bytes: int = 262_144
    rotated_wait_seconds: float = 5
    """A rotated file that hasn't grown for this long is complete."""
    splitter: type[LineSplitter] = LineSplitter
    record_wait_seconds: float = 1
    """A record that a splitter holds is complete when the file hasn't grown for this long."""

    def new_splitter(self, offset: int = 0, *, inside: bool = False, anchor: bytes = b"") -> LineSplitter:
        """A splitter of what is read from `offset` on. inside, anchor: as of LineSplitter."""
        return self.splitter(offset, self.max_line_bytes, inside=inside, anchor=anchor)

    @property
    def read_bytes(self) -> int:
        """The size of one read."""
        return min(self.chunk_bytes, self.max_line_bytes)
