"""Cuts the bytes of a container's log into blocks in which no line's end is missing, and opens their lines. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.adapters.shipping.lines import Item, LineSplitter, lines_of
from tidegate.jobs.logic.logs.envelopes import joined_end, opened_lines


class EnvelopeSplitter(LineSplitter):
    """A LineSplitter whose blocks end where no stream of a container has an unfinished line (CRI's tag P).

    The parts of a line that are longer together than `max_line_bytes` are cut between two of them.
    """

    def _feed(self, data: bytes) -> Iterator[Item]:
        if self.inside:
            newline = data.find(b"\n")
            yield from super()._feed(data if newline < 0 else data[: newline + 1])
            data = b"" if newline < 0 else data[newline + 1 :]
        held = self._take_pending() + data
        end = joined_end(held)
        if end:
            yield self._lines(held[:end])
            held = held[end:]
        while len(held) > self._max and (whole := held.rfind(b"\n", 0, self._max) + 1):
            yield self._lines(held[:whole])
            held = held[whole:]
        if len(held) <= self._max:
            self._hold(held)
            return
        end = held.find(b"\n") + 1 or len(held)
        yield self._overlong(held[:end], inside=not held.endswith(b"\n", 0, end))
        yield from self._feed(held[end:])

    def _hold(self, data: bytes) -> None:
        if data:
            self._pending.append(data)
            self._pending_bytes += len(data)


def access_lines(block: bytes) -> tuple[list[bytes], int]:
    """The access-log lines of a block, out of their envelopes, and how many empty ones were left out."""
    lines, empty = lines_of(block)
    return opened_lines(lines), empty
