"""One file that is being shipped: what is read, what of that is acknowledged, and the position to save."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidegate.adapters.shipping.lines import Item, Lines, LineSplitter
from tidegate.adapters.shipping.positions import FilePosition, Fingerprint
from tidegate.adapters.shipping.sources import FileDamaged, FileKey, FileUnfinished, Source

_UNFINISHED_PATIENCE_SECONDS = 60
"""A compressed file that ends in the middle and hasn't grown for this long is damaged."""


class Receipt(Protocol):
    """Whether what was sent has been acknowledged."""

    @property
    def done(self) -> bool:
        """True once it is in Kafka."""


@dataclass(frozen=True)
class Damaged:
    """A compressed file that can't be read any further than uncompressed byte `end`."""

    end: int
    inside: bool
    anchor: bytes
    reason: str


Event = Item | Damaged


@dataclass
class TailName:
    """Where a file belongs and where it is.

    lane: the name under which the file is or was written to. path: where it is now. found_in_scan: files
    found in a later scan were written later, whatever their mtime.
    """

    lane: Path
    path: Path
    found_in_scan: int


class Tail:
    """A file, its splitter, and the receipts of what was sent of it, in the file's order.

    rotated_at: when the file left its lane's name, in seconds of any steady clock; None while it has it.
    """

    def __init__(
        self, name: TailName, source: Source, splitter: LineSplitter, rotated_at: float | None
    ) -> None:
        self.name = name
        self.source = source
        self.rotated_at = rotated_at
        self.modified_ns = self._adopted_ns = source.status().st_mtime_ns
        self.at_end = False
        self.ended = False
        self._splitter = splitter
        self._content_gone = False
        self._grown_at: float | None = None
        self._sent: deque[tuple[Event, Receipt | None]] = deque()
        self._offset, self._anchor, self._inside = splitter.offset, splitter.anchor, splitter.inside

    @property
    def offset(self) -> int:
        """The end of the last item that was read."""
        return self._splitter.offset

    @property
    def key(self) -> FileKey:
        """Which file this is."""
        return self.source.key

    @property
    def read_offset(self) -> int:
        """The end of what was read."""
        return self._splitter.read_offset

    @property
    def identity(self) -> str:
        """A short name of the file's content: the same after a rename, a copy, or a compression."""
        return Fingerprint.of(self.source.head).digest

    @property
    def read_mark(self) -> tuple[Fingerprint, int, Fingerprint]:
        """By which a copy is found: first bytes, end of the last item that was read, bytes right before it."""
        return (
            Fingerprint.of(self.source.head),
            self._splitter.offset,
            Fingerprint.of(self._splitter.anchor),
        )

    @property
    def settled(self) -> bool:
        """Read to its end, and all of it in Kafka."""
        return self.ended and not self._sent

    def read(self, size: int, now: float) -> list[Event]:
        """The events in up to `size` further bytes. Raises FileReplaced where the file was truncated."""
        offset = self._splitter.read_offset
        try:
            data = self.source.read(offset, self._splitter.last_bytes, size)
        except FileUnfinished as error:
            self.at_end = True
            return self._damaged(str(error)) if self._still(now, _UNFINISHED_PATIENCE_SECONDS) else []
        except FileDamaged as error:
            return self._damaged(str(error))
        if data:
            self._grown_at = now
            self.modified_ns = self.source.status().st_mtime_ns
        events: list[Event] = list(self._splitter.feed(data))
        if self.source.compressed:
            self.at_end = self.source.at_end(offset + len(data))
        else:
            self.at_end = len(data) < size
        return events

    def is_copied_in(self, source: Source) -> bool:
        """Whether another file begins as this one does, so that this tail has the whole of it."""
        head = self.source.head
        return bool(head) and source.key != self.key and source.head.startswith(head)

    def written_not_after(self, modified_ns: int) -> None:
        """Until it is read, the file counts as last written at this time, in ns since the epoch."""
        self.modified_ns = self._adopted_ns = modified_ns

    def quiet(self, now: float, patience: float) -> list[Event]:
        """What is complete since the file hasn't grown for `patience` seconds."""
        if self.ended or not self.at_end or not self._still(now, patience):
            return []
        return list(self._splitter.quiet())

    def start_over(self, splitter: LineSplitter) -> None:
        """Read a file again of which no event was passed on. splitter: a new one."""
        self._splitter = splitter
        self.modified_ns = self._adopted_ns

    def check(self) -> None:
        """Raise FileReplaced where the file is not the one that was read any more."""
        if not self.source.compressed:
            self.source.read(self._splitter.read_offset, self._splitter.last_bytes, 0)

    def is_over(self, now: float, patience: float) -> bool:
        """Whether a rotated file is read to its end, and hasn't grown for `patience` seconds."""
        if self.rotated_at is None or not self.at_end:
            return False
        if self.source.compressed:
            return self.source.at_end(self._splitter.read_offset)
        return now - self.rotated_at >= patience and self._still(now, patience)

    def end(self) -> list[Event]:
        """Stop reading; the unfinished last line, where there is one, counts as a line."""
        self.ended = True
        return list(self._splitter.rest())

    def end_without_file(self) -> list[Event]:
        """Stop reading, as `end`, a file whose content is gone."""
        self._content_gone = True
        return self.end()

    def continue_in(self, copy: Source, path: Path, now: float) -> None:
        """Read the rest from a copy of the file."""
        self.source.close()
        self.source, self.name.path = copy, path
        self.rotated_at = self._grown_at = now
        self.at_end = False
        self._splitter.drop_pending()

    def sent(self, event: Event, receipt: Receipt | None) -> None:
        """Record the receipt of an event; None for an event that isn't sent."""
        self._sent.append((event, receipt))

    def settle(self) -> None:
        """Move the position over the events, in order, that are acknowledged."""
        while self._sent and ((receipt := self._sent[0][1]) is None or receipt.done):
            event, _ = self._sent.popleft()
            self._offset, self._anchor = event.end, event.anchor
            self._inside = not isinstance(event, Lines) and event.inside

    def position(self) -> FilePosition:
        """How far this file is acknowledged now."""
        self.settle()
        return FilePosition(
            lane=self.name.lane,
            path=self.name.path,
            device=0 if self._content_gone else self.key.device,
            inode=0 if self._content_gone else self.key.inode,
            head=Fingerprint.of(self.source.head),
            offset=self._offset,
            anchor=Fingerprint.of(self._anchor),
            inside=self._inside,
            modified_ns=self.modified_ns,
            finished=self.settled,
        )

    def close(self) -> None:
        """Close the file."""
        self.source.close()

    def _still(self, now: float, patience: float) -> bool:
        if self._grown_at is None:
            self._grown_at = now
        return now - self._grown_at >= patience

    def _damaged(self, reason: str) -> list[Event]:
        rest = self.end()
        end = self._splitter.offset
        return [*rest, Damaged(end, self._splitter.inside, self._splitter.anchor, reason)]
