"""Cuts the bytes of a growing log into blocks of whole records: a message and its stack trace. Pure: no files."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.adapters.shipping.lines import Item, LineSplitter
from tidegate.jobs.logic.logs.records import RecordJoiner


class RecordSplitter(LineSplitter):
    """A LineSplitter whose blocks end where a record does.

    The last record is held until another one begins, or until the file is quiet. A record that is longer than
    `max_line_bytes` is cut between its lines.
    """

    def __init__(self, offset: int, max_line_bytes: int, inside: bool = False, anchor: bytes = b"") -> None:
        super().__init__(offset, max_line_bytes, inside, anchor)
        self._reset_joiner()

    def quiet(self) -> list[Item]:
        """The last record, which ends where the file ends for now."""
        held = self._take_pending()
        whole = held.rfind(b"\n") + 1
        self._hold(held[whole:])
        self._reset_joiner()
        return [self._lines(held[:whole])] if whole else []

    def drop_pending(self) -> None:
        """Drop what is held, because it is read again from `offset`."""
        super().drop_pending()
        self._reset_joiner()

    def _reset_joiner(self) -> None:
        self._joiner = RecordJoiner()
        self._joined_bytes = 0
        """How many of the held bytes the joiner has examined."""

    def _feed(self, data: bytes) -> Iterator[Item]:
        if self.inside:
            newline = data.find(b"\n")
            yield from super()._feed(data if newline < 0 else data[: newline + 1])
            data = b"" if newline < 0 else data[newline + 1 :]
        held = self._take_pending() + data
        begin = self._last_begin(held)
        if begin:
            yield self._lines(held[:begin])
            held = held[begin:]
            self._joined_bytes -= begin
        while len(held) > self._max and (whole := held.rfind(b"\n", 0, self._max) + 1):
            yield self._lines(held[:whole])
            held = held[whole:]
            self._reset_joiner()
        if len(held) <= self._max:
            self._hold(held)
            return
        end = held.find(b"\n") + 1 or len(held)
        yield self._overlong(held[:end], inside=not held.endswith(b"\n", 0, end))
        self._reset_joiner()
        yield from self._feed(held[end:])

    def _last_begin(self, held: bytes) -> int:
        """Where the last record begins in the held bytes."""
        begin, at = 0, self._joined_bytes
        while (newline := held.find(b"\n", at)) >= 0:
            if self._joiner.begins(held[at:newline].removesuffix(b"\r")):
                begin = at
            at = newline + 1
        self._joined_bytes = at
        return begin

    def _hold(self, data: bytes) -> None:
        if data:
            self._pending.append(data)
            self._pending_bytes += len(data)
