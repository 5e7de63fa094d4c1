"""Cuts the bytes of a growing file into whole lines, in memory bounded by the longest line. Pure: no files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

EXCERPT_BYTES = 4096
ANCHOR_BYTES = 64


@dataclass(frozen=True)
class Lines:
    """Whole lines, as they stand in the file from byte `start` up to byte `end`, terminators included.

    Only the last line of a finished file may lack its terminator. `anchor`: the bytes right before `end`.
    """

    start: int
    end: int
    block: bytes
    anchor: bytes


@dataclass(frozen=True)
class Overlong:
    """A line longer than allowed, from byte `start`; `excerpt` is its beginning.

    `end` is how far the file was read; `inside` is true where the line goes on there.
    """

    start: int
    end: int
    excerpt: bytes
    inside: bool
    anchor: bytes


@dataclass(frozen=True)
class Skipped:
    """The continuation, up to `end`, of an overlong line that is already reported."""

    end: int
    inside: bool
    anchor: bytes


Item = Lines | Overlong | Skipped


class LineSplitter:
    """Cuts what is read from one file, in order, into items.

    `offset` is the end of the last item: where to read again after a restart. Bytes behind it are an
    unfinished line, held here (at most `max_line_bytes` of them) until its newline comes.
    """

    def __init__(self, offset: int, max_line_bytes: int, inside: bool = False, anchor: bytes = b"") -> None:
        self.offset = offset
        self.inside = inside
        self.anchor = anchor
        self._max = max_line_bytes
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    @property
    def read_offset(self) -> int:
        """Where the bytes for the next `feed` begin in the file."""
        return self.offset + self._pending_bytes

    @property
    def last_bytes(self) -> bytes:
        """Up to ANCHOR_BYTES right before `read_offset`, by which the file is recognized."""
        tail = self.anchor
        for part in self._pending:
            tail = (tail + part[-ANCHOR_BYTES:])[-ANCHOR_BYTES:]
        return tail

    def feed(self, data: bytes) -> list[Item]:
        """The items that `data`, the file's bytes at `read_offset`, completes."""
        items: list[Item] = []
        # In pieces of at most a line's limit: then only the line that a piece continues can be too long.
        for start in range(0, len(data), self._max):
            piece = data[start : start + self._max] if len(data) > self._max else data
            items.extend(self._feed(piece))
        return items

    def rest(self) -> list[Item]:
        """The unfinished line, as an item: only for a file that is no longer written to."""
        block = self._take_pending()
        return [self._lines(block)] if block else []

    def quiet(self) -> list[Item]:
        """What is complete once the file hasn't grown for a while: no line is; a subclass may hold records."""
        return []

    def drop_pending(self) -> None:
        """Drop the unfinished line, because it is read again from `offset`."""
        self._take_pending()

    def _feed(self, data: bytes) -> Iterator[Item]:
        if self.inside:
            newline = data.find(b"\n")
            skipped, data = (data, b"") if newline < 0 else (data[: newline + 1], data[newline + 1 :])
            self.inside = newline < 0
            self._advance(skipped)
            yield Skipped(self.offset, self.inside, self.anchor)
        elif self._pending:
            newline = data.find(b"\n")
            if self._pending_bytes + (len(data) if newline < 0 else newline) > self._max:
                yield self._overlong(data if newline < 0 else data[: newline + 1], inside=newline < 0)
                data = b"" if newline < 0 else data[newline + 1 :]
        whole = data.rfind(b"\n") + 1
        if whole:
            rest = data[whole:]
            yield self._lines(b"".join((self._take_pending(), memoryview(data)[:whole])))  # copied once
            data = rest
        if data:
            self._pending.append(data)
            self._pending_bytes += len(data)

    def _overlong(self, more: bytes, inside: bool) -> Overlong:
        start, line = self.offset, self._take_pending()
        self.inside = inside
        self._advance(line)
        self._advance(more)
        excerpt = (line[:EXCERPT_BYTES] + more)[:EXCERPT_BYTES]
        return Overlong(start, self.offset, excerpt, inside, self.anchor)

    def _lines(self, block: bytes) -> Lines:
        start = self.offset
        self._advance(block)
        return Lines(start, self.offset, block, self.anchor)

    def _take_pending(self) -> bytes:
        block = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        return block

    def _advance(self, data: bytes) -> None:
        self.offset += len(data)
        self.anchor = (self.anchor + data[-ANCHOR_BYTES:])[-ANCHOR_BYTES:]


def lines_of(block: bytes) -> tuple[list[bytes], int]:
    """The lines of a block without their ends (LF or CRLF), and how many empty ones were left out."""
    lines = block.split(b"\n")
    rest = lines.pop()  # not empty only at the end of a file; a CR at its end is not part of a line's end
    if b"\r" in block:
        lines = [line.removesuffix(b"\r") for line in lines]
    if rest:
        lines.append(rest)
    if all(lines):
        return lines, 0
    filled = [line for line in lines if line]
    return filled, len(lines) - len(filled)


def offset_of(line: bytes, block: bytes, after: int = 0) -> int:
    """Where a line begins in the block, searched from byte `after` on; -1 where it isn't found."""
    at = block.find(line, after)
    while at > 0 and block[at - 1] != 0x0A:
        at = block.find(line, at + 1)
    return at
