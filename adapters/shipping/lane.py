"""One name that a program writes to, and the files that were or are behind it, read oldest first.

A lane's files succeed each other: rotated ones are read to their end before the live one goes on. The lane
handles rotation, truncation, and catching up with rotations that happened between two scans.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.adapters.shipping.known_files import FoundFile, KnownFiles, is_shipped
from tidegate.adapters.shipping.limits import FollowLimits
from tidegate.adapters.shipping.lines import ANCHOR_BYTES
from tidegate.adapters.shipping.positions import FilePosition
from tidegate.adapters.shipping.rotation import Rotations
from tidegate.adapters.shipping.sources import (
    UNREADABLE,
    FileReplaced,
    PlainSource,
    Source,
    is_compressed,
    open_source,
)
from tidegate.adapters.shipping.tail import Event, Tail, TailName

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scan:
    """One scan of the file names.

    number: counts the scans, from 1. now: seconds of any steady clock.
    previous_ns: when the scan before was, by the clock of the files' times; None at the first one.
    """

    number: int
    now: float
    previous_ns: int | None


class Lane:
    """The files behind one name, in the order in which they were written.

    files: the register that all lanes share. release: takes a tail away from the lane that has it, for a file
    that was renamed from one lane's name to another's. catch_up: rotations may have happened before the first scan.
    """

    def __init__(
        self,
        base: Path,
        limits: FollowLimits,
        files: KnownFiles,
        release: Callable[[Tail], None],
        *,
        catch_up: bool = False,
    ) -> None:
        self.base = base
        self._limits = limits
        self._files = files
        self._release = release
        self._rotations = Rotations(base)
        self._tails: list[Tail] = []
        self._live: Tail | None = None
        self._catch_up = catch_up
        self._truncated = False
        """The live file may be new: what came before it has to be looked for before it is read."""
        self._loss_reported = False
        self._scan_number = 0

    @property
    def tails(self) -> list[Tail]:
        """The files that are being read, or whose last lines are not acknowledged yet, oldest first."""
        return list(self._tails)

    def scan(self, rotated: Sequence[Path], named: bool, scan: Scan) -> bool:
        """Look at the lane's file names; returns whether the lane has anything left to follow.

        rotated: the rotated files that the patterns of the settings match. named: they match the lane's own name.
        """
        self._scan_number = scan.number
        base = FoundFile.at(self.base, named=named)
        if self._live is not None and (base is None or self._live.key != base.key):
            self._live.rotated_at = scan.now
            self._live, self._catch_up = None, True
        if self._rotations.update() or self._truncated:
            self._catch_up = True
            self.check(scan.now)
        since_ns = self._newest_ns(scan)
        found = {path: FoundFile.at(path, named=True) for path in rotated}
        if self._catch_up:
            found |= {
                path: found.get(path) or FoundFile.at(path, named=False)
                for path in self._files.candidates(self.base)
            }
        if base is not None and self._live is None:
            if named and not is_compressed(self.base):
                # First: then a copy of it is known as one, and its position before a truncation is free.
                self._adopt(base, since_ns, scan.now, live=True)
            elif named or self._catch_up:
                found[self.base] = base
        self._catch_up = self._truncated = False
        for file in sorted(filter(None, found.values()), key=self._known_first):
            self._adopt(file, since_ns, scan.now, live=False)
        self._tails.sort(key=self._age)
        self._report_loss()
        if (newest_ns := self._newest_ns(scan)) is not None:
            self._files.expire(self.base, newest_ns)
        return bool(self._tails) or named or self._catch_up

    def read(self, now: float, room: Callable[[], bool]) -> Generator[tuple[Tail, Event], None, bool]:
        """What is new, a chunk of each file. A file waits until the one before it is read to its end.

        Returns whether there was `room` for all of it.
        """
        for tail in self.tails:
            if tail.ended:
                continue
            if self._truncated and tail is self._live:
                break
            if not room():
                return False
            yield from self._read_tail(tail, now)
            if not tail.at_end and not tail.ended:
                break
        return True

    def check(self, now: float) -> None:
        """Find truncated files without reading on, and open their copies before those are gone as well.

        Where there is no copy (yet), the next read finds the truncation again, and gives what is held of the file.
        """
        for tail in [tail for tail in self._tails if not tail.ended]:
            try:
                tail.check()
            except FileReplaced:
                self._continue_in_copy(tail, now)
            except OSError as error:
                self._files.report_unreadable(tail.name.path, error)

    def release(self, tail: Tail) -> None:
        """Give the tail up, where this lane has it, because another lane takes it over."""
        if tail in self._tails:
            self._tails.remove(tail)
            self._live = None if self._live is tail else self._live

    def close_settled(self) -> None:
        """Close the files that are read to their end and acknowledged."""
        for tail in self.tails:
            tail.settle()
            if not tail.settled:
                continue
            position = self._files.add_closed(tail)
            self.release(tail)
            tail.close()
            log.info("%s is shipped to its end, byte %d", position.path, position.offset)

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails:
            tail.close()
        self._tails.clear()
        self._live = None

    # Finding the lane's files

    def _age(self, tail: Tail) -> tuple[bool, int, int]:
        """Orders the files by when they were written: what is being read keeps its place."""
        if tail.read_offset == 0:
            return tail is self._live, self._scan_number, tail.source.status().st_mtime_ns
        return tail is self._live, tail.name.found_in_scan, tail.modified_ns

    def _known_first(self, file: FoundFile) -> tuple[bool, int]:
        return not self._files.has_position(file.key), file.modified_ns

    def _newest_ns(self, scan: Scan) -> int | None:
        """When the lane was last known to be written to; None where nothing is known."""
        times = [tail.modified_ns for tail in self._tails]
        if (closed_ns := self._files.newest_ns(self.base)) is not None:
            times.append(closed_ns)
        # Of a log that wasn't there at the previous scan, what was written since then is new as well.
        return max(times, default=scan.previous_ns)

    def _adopt(self, file: FoundFile, since_ns: int | None, now: float, *, live: bool) -> None:
        """Follow a file that has something to read and that no tail reads yet."""
        if (tail := self._files.tail_of(file.key)) is not None:
            self._rename(tail, file.path, live)
            return
        if not live and self._files.is_examined(file):
            unfinished = self._files.is_unfinished(file.key) and not file.named
            self._catch_up = self._catch_up or unfinished
            return
        source: Source | None = None
        try:
            source = open_source(file.path)
            tail = self._resume(file, source, since_ns, None if live else now)
        except UNREADABLE as error:
            unfinished = self._files.put_off(file, error) and not file.named
            self._catch_up = self._catch_up or unfinished
        if tail is None:
            if source is not None:
                source.close()
            return
        self._files.set_readable(file)
        self._files.add_open(tail)
        self._tails.append(tail)
        self._live = tail if live else self._live
        log.info("following %s from byte %d", tail.name.path, tail.offset)

    def _rename(self, tail: Tail, path: Path, live: bool) -> None:
        tail.name.path = path
        if not live or tail.ended:
            return
        self._release(tail)
        tail.name.lane, tail.rotated_at = self.base, None
        self._tails.append(tail)
        self._live = tail

    def _resume(
        self, file: FoundFile, source: Source, since_ns: int | None, rotated_at: float | None
    ) -> Tail | None:
        """A tail that starts at the file's position; None where nothing of the file is to be read (now)."""
        position = self._files.position_of(source) or self._files.position_of_original(self.base, source)
        if position is not None:
            if rotated_at is not None and is_shipped(position, source):
                self._files.move(position, source, file.path)
                self._files.set_examined(file)
                return None
            tail = self._new_tail(file.path, source, rotated_at, position)
            self._files.remove(position)
            return tail
        if rotated_at is not None and any(tail.is_copied_in(source) for tail in self._tails):
            return None  # a copy being made, or one of a file that is open and whole: examined again
        if not file.named and (since_ns is None or file.modified_ns < since_ns):
            self._files.set_examined(file)
            return None
        return self._new_tail(file.path, source, rotated_at)

    def _new_tail(
        self, path: Path, source: Source, rotated_at: float | None, position: FilePosition | None = None
    ) -> Tail:
        offset = position.offset if position else 0
        anchor = source.bytes_before(offset, ANCHOR_BYTES) if offset else b""
        splitter = self._limits.new_splitter(offset, inside=bool(position and position.inside), anchor=anchor)
        return Tail(TailName(self.base, path, self._scan_number), source, splitter, rotated_at)

    def _report_loss(self) -> None:
        lost = [position for position in self._files.incomplete(self.base) if position.head.size]
        if lost and not self._loss_reported and not self._catch_up:
            self._loss_reported = True
            for position in lost:
                log.warning(
                    "%s: rotated and removed before it was shipped whole; what came after byte %d is lost",
                    position.path,
                    position.offset,
                )

    # Reading them

    def _read_tail(self, tail: Tail, now: float) -> Iterator[tuple[Tail, Event]]:
        unread = tail.read_offset == 0
        try:
            events = tail.read(self._limits.read_bytes, now)
        except FileReplaced:
            yield from self._end_truncated(tail, now)
            return
        except OSError as error:
            self._files.report_unreadable(tail.name.path, error)
            tail.at_end = True  # the next files are read meanwhile
            return
        if unread and tail.read_offset and self._rotations.have_changed():
            # An empty file that was written to, copied and truncated looks like one that was only written to.
            tail.start_over(self._limits.new_splitter())
            self._truncated = True
            return
        yield from ((tail, event) for event in events)
        yield from ((tail, event) for event in tail.quiet(now, self._limits.record_wait_seconds))
        if not tail.ended and tail.is_over(now, self._limits.rotated_wait_seconds):
            yield from ((tail, event) for event in tail.end())

    # Truncation

    def _end_truncated(self, tail: Tail, now: float) -> Iterator[tuple[Tail, Event]]:
        """The file was truncated: its old content goes on in a copy or ends here, its new content begins."""
        if not self._continue_in_copy(tail, now):
            self._follow_new_content(tail, now)
            log.info("%s was truncated, and no copy of its former content was found", tail.name.path)
            yield from ((tail, event) for event in tail.end_without_file())

    def _continue_in_copy(self, tail: Tail, now: float) -> bool:
        found = self._files.open_copy_of(tail)
        if found is None:
            return False
        copy, path = found
        self._follow_new_content(tail, now)
        tail.continue_in(copy, path, now)
        self._files.add_open(tail)
        log.info("%s was truncated; the rest of its former content is read from %s", self.base, path)
        return True

    def _follow_new_content(self, tail: Tail, now: float) -> None:
        if not isinstance(tail.source, PlainSource):
            raise TypeError(f"{tail.name.path}: a compressed file can't be truncated")
        live = self._live is tail
        fresh = self._new_tail(tail.name.path, tail.source.reopened(), None if live else now)
        self._tails.insert(self._tails.index(tail) + 1, fresh)
        self._live = fresh if live else self._live
        fresh.written_not_after(tail.modified_ns)  # files written later, this one included, aren't known yet
        self._truncated = True
        self._files.add_open(fresh)
