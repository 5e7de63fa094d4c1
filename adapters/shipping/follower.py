"""Follows log files through everything that happens to them, so that each line is read once and in order.

A *lane* is a name under which a program writes. Its files succeed each other: the older, rotated ones are
read before the live one. A file is known by device, inode and its first bytes; where it was copied or
compressed meanwhile, by its first bytes and those right before the place up to which it is read.
"""

from __future__ import annotations

import glob
import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.adapters.shipping.lines import ANCHOR_BYTES, LineSplitter
from tidegate.adapters.shipping.positions import FileState, Fingerprint
from tidegate.adapters.shipping.rotation import Rotations, base_of, rotations_of
from tidegate.adapters.shipping.sources import (
    FileDamaged,
    FileKey,
    FileReplaced,
    FileUnfinished,
    GzipSource,
    PlainSource,
    Source,
    continues,
    is_compressed,
    key_of,
    open_source,
)
from tidegate.adapters.shipping.tail import Event, Tail, TailName

log = logging.getLogger(__name__)

_FORGET_NS = 7 * 24 * 3600 * 10**9
"""A file that is no longer on disk is forgotten when its lane went on for so long."""


@dataclass(frozen=True)
class FollowLimits:
    """How files are read. Sizes in bytes, times in seconds."""

    max_line_bytes: int = 1_048_576
    chunk_bytes: int = 262_144
    rotated_wait_seconds: float = 5
    """So long a rotated file may go without growing before its end is the end."""
    splitter: type[LineSplitter] = LineSplitter
    record_wait_seconds: float = 1
    """So long what a splitter holds may go without growing before it is complete."""


@dataclass
class _Lane:
    """One name that a program writes to.

    catch_up: rotations may have happened that we haven't seen. truncated: the live file may be new, and what
    came before it has to be looked for first.
    """

    base: Path
    tails: list[Tail] = field(default_factory=list)
    live: Tail | None = None
    catch_up: bool = False
    truncated: bool = False
    told: bool = False

    def __post_init__(self) -> None:
        self.rotations = Rotations(self.base)


@dataclass(frozen=True)
class _Found:
    """A file that may have to be read: where, what, and whether the settings name it."""

    path: Path
    status: os.stat_result
    named: bool

    @property
    def version(self) -> tuple[int, int]:
        """Another one when the file has changed."""
        return self.status.st_size, self.status.st_mtime_ns


class Follower:
    """The files of some glob patterns. `scan` finds them, `read` gives what is new in them.

    Every method takes `now` in seconds of any steady clock.
    """

    def __init__(
        self, patterns: Sequence[str], limits: FollowLimits, saved: Sequence[FileState] = ()
    ) -> None:
        self._patterns = [str(Path(pattern).expanduser().absolute()) for pattern in patterns]
        self._limits = limits
        self._closed = list(saved)
        self._lanes: dict[Path, _Lane] = {}
        self._open: dict[FileKey, Tail] = {}
        self._examined: dict[FileKey, tuple[int, int]] = {}
        self._unreadable: set[Path] = set()
        self._unfinished: set[FileKey] = set()
        self._scans = 0
        self._scanned_ns: int | None = None
        for state in saved:
            self._lanes.setdefault(state.lane, _Lane(state.lane, catch_up=True))

    @property
    def tails(self) -> list[Tail]:
        """The files that are being read, or whose last lines are on their way."""
        return [tail for lane in self._lanes.values() for tail in lane.tails]

    def states(self) -> list[FileState]:
        """What to remember of every file, open or closed."""
        return [*self._closed, *(tail.state() for tail in self.tails)]

    def close(self) -> None:
        """Let go of all files."""
        for tail in self.tails:
            tail.close()
        self._open.clear()
        self._lanes.clear()

    # What there is to follow

    def scan(self, now: float, time_ns: int) -> None:
        """Look at the file names: new files, rotated ones, ones that came back.

        time_ns: by the clock that files' times are of, ns since the epoch.
        """
        self._scans += 1
        self._close_settled()
        matched = self._matched()
        known = {*matched, *self._lanes}
        rotated: dict[Path, list[Path]] = {}
        for path in matched:
            base = base_of(path, known)
            lane = self._lanes.setdefault(base, _Lane(base))
            if base != path:
                rotated.setdefault(lane.base, []).append(path)
        for lane in list(self._lanes.values()):
            self._scan_lane(lane, rotated.get(lane.base, []), lane.base in matched, now)
        self._scanned_ns = time_ns

    def _matched(self) -> set[Path]:
        matched = set()
        for pattern in self._patterns:
            # Path.glob has no pattern that starts at the root, and fails at folders that vanish meanwhile.
            for path in glob.iglob(pattern, recursive=True):  # noqa: PTH207
                matched.add(Path(os.path.realpath(path)))
        return matched

    def _scan_lane(self, lane: _Lane, rotated: Sequence[Path], named: bool, now: float) -> None:
        base = _found(lane.base, named)
        if lane.live is not None and (base is None or lane.live.key != key_of(base.status)):
            lane.live.rotated_at = now
            lane.live, lane.catch_up = None, True
        if lane.rotations.look() or lane.truncated:
            lane.catch_up = True
            self._check(lane, now)
        since_ns = self._newest_ns(lane)
        found = {path: _found(path, named=True) for path in rotated}
        if lane.catch_up:
            found |= {path: found.get(path) or _found(path, named=False) for path in self._lost(lane)}
        if base is not None and lane.live is None:
            if named and not is_compressed(lane.base):
                # First: then a copy of it is known as one, and its state before a truncation is free.
                self._adopt(lane, base, since_ns, now, live=True)
            elif named or lane.catch_up:
                found[lane.base] = base
        lane.catch_up = lane.truncated = False
        for file in sorted(filter(None, found.values()), key=self._known_first):
            self._adopt(lane, file, since_ns, now, live=False)
        lane.tails.sort(key=lambda tail: self._age(lane, tail))
        self._tell_lost(lane)
        self._forget(lane)
        if not (lane.tails or named or lane.catch_up):
            del self._lanes[lane.base]

    def _age(self, lane: _Lane, tail: Tail) -> tuple[bool, int, int]:
        """Orders a lane's files by when they were written: what is being read keeps its place."""
        if tail.read_offset == 0:
            return tail is lane.live, self._scans, tail.source.status().st_mtime_ns
        return tail is lane.live, tail.name.found_in_scan, tail.modified_ns

    def _lost(self, lane: _Lane) -> list[Path]:
        """Where rotated files of this lane may be: by a rotation's name, or by any where we know the file."""
        wanted = {
            FileKey(state.device, state.inode)
            for state in self._closed
            if state.lane == lane.base and not state.finished and state.inode
        }
        paths = rotations_of(lane.base)
        if wanted:
            try:
                entries = [entry for entry in os.scandir(lane.base.parent) if entry.is_file()]
            except OSError:
                return paths
            paths += [Path(entry.path) for entry in entries if key_of(entry.stat()) in wanted]
        return [path for path in dict.fromkeys(paths) if path != lane.base]

    def _newest_ns(self, lane: _Lane) -> int | None:
        """When something of this lane was written last that we know of; None where we know nothing."""
        times = [state.modified_ns for state in self._closed if state.lane == lane.base]
        times += [tail.modified_ns for tail in lane.tails]
        # Of a log that wasn't there at the last look, what was written since then is new as well.
        return max(times, default=self._scanned_ns)

    def _known_first(self, file: _Found) -> tuple[bool, int]:
        key = key_of(file.status)
        known = any((state.device, state.inode) == key for state in self._closed)
        return (not known, file.status.st_mtime_ns)

    def _adopt(self, lane: _Lane, file: _Found, since_ns: int | None, now: float, *, live: bool) -> None:
        """Follow a file where there is something to read in it, and nobody reads it yet."""
        key = key_of(file.status)
        if (tail := self._open.get(key)) is not None:
            self._renamed(lane, tail, file.path, live)
            return
        if not live and self._examined.get(key) == file.version:
            lane.catch_up = lane.catch_up or (key in self._unfinished and not file.named)
            return
        try:
            source = open_source(file.path)
        except (OSError, FileDamaged, FileUnfinished) as error:
            self._put_off(lane, file, error)
            return
        try:
            tail = self._resume(lane, file, source, since_ns, now if not live else None)
        except (OSError, FileDamaged, FileUnfinished) as error:
            self._put_off(lane, file, error)
            tail = None
        if tail is None:
            source.close()
            return
        self._unreadable.discard(file.path)
        self._unfinished.discard(key)
        self._open[tail.key] = tail
        lane.tails.append(tail)
        lane.live = tail if live else lane.live
        log.info("following %s from byte %d", tail.name.path, tail.offset)

    def _renamed(self, lane: _Lane, tail: Tail, path: Path, live: bool) -> None:
        tail.name.path = path
        if not live or tail.ended:
            return
        for other in self._lanes.values():
            if tail in other.tails:
                other.tails.remove(tail)
                other.live = None if other.live is tail else other.live
        tail.name.lane, tail.rotated_at = lane.base, None
        lane.tails.append(tail)
        lane.live = tail

    def _put_off(self, lane: _Lane, file: _Found, error: Exception) -> None:
        """A file that can't be read now is looked at again when it has changed."""
        self._examined[key_of(file.status)] = file.version
        if isinstance(error, FileUnfinished):
            self._unfinished.add(key_of(file.status))
            lane.catch_up = lane.catch_up or not file.named
            log.info("%s is still being compressed", file.path)
        else:
            self._tell_unreadable(file.path, error)

    def _tell_unreadable(self, path: Path, error: Exception) -> None:
        if path not in self._unreadable:
            self._unreadable.add(path)
            log.error("%s can't be read, looked at again later: %s", path, error)

    def _resume(
        self, lane: _Lane, file: _Found, source: Source, since_ns: int | None, rotated_at: float | None
    ) -> Tail | None:
        """A tail where reading has to go on; None where nothing of this file is to be read (now)."""
        state = self._state_of(source) or self._copied_from(lane, source)
        if state is not None:
            if rotated_at is not None and _is_shipped(state, source):
                self._replace(state, _moved(state, source, file.path))
                self._examined[source.key] = file.version
                return None
            tail = self._tail(lane.base, file.path, source, rotated_at, state)
            self._closed.remove(state)
            return tail
        if rotated_at is not None and any(_is_copy_of(source, tail) for tail in lane.tails):
            return None  # a copy being made, or one of a file that we have whole: looked at again
        if not file.named and (since_ns is None or file.status.st_mtime_ns < since_ns):
            self._examined[source.key] = file.version
            return None
        return self._tail(lane.base, file.path, source, rotated_at)

    def _tail(
        self,
        lane: Path,
        path: Path,
        source: Source,
        rotated_at: float | None,
        state: FileState | None = None,
    ) -> Tail:
        offset = state.offset if state else 0
        splitter = self._limits.splitter(
            offset,
            self._limits.max_line_bytes,
            inside=state.inside if state else False,
            anchor=source.bytes_before(offset, ANCHOR_BYTES) if offset else b"",
        )
        return Tail(TailName(lane, path, self._scans), source, splitter, rotated_at)

    def _state_of(self, source: Source) -> FileState | None:
        """What is remembered of this very file. A state that another file's inode has now is marked so."""
        for state in [state for state in self._closed if (state.device, state.inode) == source.key]:
            if not state.head.size:
                self._closed.remove(state)  # it was empty then, so it may be any file now
                continue
            if state.head.begins(source.head) and (
                source.compressed
                or Fingerprint.of(source.bytes_before(state.offset, state.anchor.size)) == state.anchor
            ):
                return state
            self._replace(state, state.model_copy(update={"device": 0, "inode": 0}))
        return None

    def _copied_from(self, lane: _Lane, source: Source) -> FileState | None:
        """What is remembered of the file that this one is a copy of, or its compressed form."""
        for state in reversed(self._closed):
            if state.lane != lane.base or not state.head.size or not state.head.begins(source.head):
                continue
            if state.finished and isinstance(source, GzipSource) and _same_size(state, source):
                return state
            if continues(source, state.head, state.offset, state.anchor):
                return state
        return None

    def _replace(self, old: FileState, new: FileState) -> None:
        self._closed = [new if state is old else state for state in self._closed]

    # What is in them

    def read(self, now: float, room: Callable[[], bool]) -> Iterator[tuple[Tail, Event]]:
        """What is new, a chunk of each file in turn, for as long as there is `room`.

        The caller says what became of each event by `Tail.sent`, before it takes the next one.
        """
        for base in list(self._lanes):
            lane = self._lanes.pop(base)
            self._lanes[base] = lane  # who was read goes to the end of the queue
            for tail in list(lane.tails):
                if tail.ended:
                    continue
                if lane.truncated and tail is lane.live:
                    break
                if not room():
                    for other in self._lanes.values():
                        self._check(other, now)
                    return
                yield from self._read_tail(lane, tail, now)
                if not tail.at_end and not tail.ended:
                    break  # what came after it waits
        self._close_settled()

    def _read_tail(self, lane: _Lane, tail: Tail, now: float) -> Iterator[tuple[Tail, Event]]:
        size = min(self._limits.chunk_bytes, self._limits.max_line_bytes)
        untouched = tail.read_offset == 0
        try:
            events = tail.read(size, now)
        except FileReplaced:
            yield from self._replaced(lane, tail, now)
            return
        except OSError as error:
            self._tell_unreadable(tail.name.path, error)
            tail.at_end = True  # others go on
            return
        if untouched and tail.read_offset and lane.rotations.have_changed():
            # An empty file that was written to, copied and truncated looks as one that was written to.
            tail.start_over(self._limits.splitter(0, self._limits.max_line_bytes))
            lane.truncated = True
            return
        yield from ((tail, event) for event in events)
        yield from ((tail, event) for event in tail.quiet(now, self._limits.record_wait_seconds))
        if not tail.ended and tail.is_over(now, self._limits.rotated_wait_seconds):
            yield from ((tail, event) for event in tail.end())

    def _check(self, lane: _Lane, now: float) -> None:
        """Find out, without reading on, what was truncated, and find its copy before that is gone as well.

        Where there is no copy (yet), the next read finds the same, and gives what is held of the file.
        """
        for tail in [tail for tail in lane.tails if not tail.ended]:
            try:
                tail.check()
            except FileReplaced:
                self._go_on_in_copy(lane, tail, now)
            except OSError as error:
                self._tell_unreadable(tail.name.path, error)

    def _replaced(self, lane: _Lane, tail: Tail, now: float) -> Iterator[tuple[Tail, Event]]:
        """The file was truncated: its old content goes on in a copy or ends here, its new one begins."""
        if not self._go_on_in_copy(lane, tail, now):
            self._begin_anew(lane, tail, now)
            log.info("%s was truncated, and no copy of what it held is there", tail.name.path)
            yield from ((tail, event) for event in tail.end_without_file())

    def _go_on_in_copy(self, lane: _Lane, tail: Tail, now: float) -> bool:
        found = self._copy_of(lane, tail)
        if found is None:
            return False
        copy, path = found
        self._begin_anew(lane, tail, now)
        tail.go_on_in(copy, path, now)
        self._open[tail.key] = tail
        log.info("%s was truncated; reading the rest of what it held in %s", lane.base, path)
        return True

    def _begin_anew(self, lane: _Lane, tail: Tail, now: float) -> None:
        if not isinstance(tail.source, PlainSource):
            raise TypeError(f"{tail.name.path}: a compressed file can't be truncated")
        live = lane.live is tail
        fresh = self._tail(lane.base, tail.name.path, tail.source.again(), None if live else now)
        lane.tails.insert(lane.tails.index(tail) + 1, fresh)
        lane.live = fresh if live else lane.live
        fresh.written_not_after(tail.modified_ns)  # what was written later isn't known yet, this included
        lane.truncated = True
        self._open[fresh.key] = fresh

    def _copy_of(self, lane: _Lane, tail: Tail) -> tuple[Source, Path] | None:
        for path in sorted(rotations_of(lane.base), key=is_compressed):
            try:
                if key_of(path.stat()) in self._open:
                    continue
                source = open_source(path)
            except (OSError, FileDamaged, FileUnfinished):
                continue
            try:
                if continues(source, *tail.position):
                    return source, path
            except (FileDamaged, FileUnfinished):
                pass
            source.close()
        return None

    # What is over

    def _close_settled(self) -> None:
        for lane in list(self._lanes.values()):
            for tail in list(lane.tails):
                tail.settle()
                if tail.settled:
                    self._close(lane, tail)

    def _close(self, lane: _Lane, tail: Tail) -> None:
        state = tail.state()
        self._closed.append(state)
        if state.inode:
            status = tail.source.status()
            self._examined[tail.key] = (status.st_size, status.st_mtime_ns)
        if self._open.get(tail.key) is tail:
            del self._open[tail.key]
        lane.tails.remove(tail)
        lane.live = None if lane.live is tail else lane.live
        tail.close()
        log.info("%s is shipped to its end, byte %d", tail.name.path, state.offset)

    def _forget(self, lane: _Lane) -> None:
        newest = self._newest_ns(lane)
        if newest is None:
            return
        self._closed = [
            state
            for state in self._closed
            if state.lane != lane.base or newest - state.modified_ns < _FORGET_NS or state.path.exists()
        ]

    def _tell_lost(self, lane: _Lane) -> None:
        lost = [
            state
            for state in self._closed
            if state.lane == lane.base and not state.finished and state.head.size
        ]
        if lost and not lane.told and not lane.catch_up:
            lane.told = True
            for state in lost:
                log.warning(
                    "%s: rotated and removed before it was shipped whole; what came after byte %d is lost",
                    state.path,
                    state.offset,
                )


def _found(path: Path, named: bool) -> _Found | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return _Found(path, status, named) if stat.S_ISREG(status.st_mode) else None


def _same_size(state: FileState, source: GzipSource) -> bool:
    return source.whole_size() == state.offset % 2**32


def _is_shipped(state: FileState, source: Source) -> bool:
    """Whether nothing behind the remembered offset is left in the file."""
    if not state.finished:
        return False
    if isinstance(source, GzipSource):
        return (state.device, state.inode) == source.key or _same_size(state, source)
    return source.at_end(state.offset)


def _moved(state: FileState, source: Source, path: Path) -> FileState:
    return state.model_copy(update={"path": path, "device": source.key.device, "inode": source.key.inode})


def _is_copy_of(source: Source, tail: Tail) -> bool:
    """Whether a file begins as one that is open does, which then has it whole."""
    head = tail.source.head
    return bool(head) and source.key != tail.key and source.head.startswith(head)
