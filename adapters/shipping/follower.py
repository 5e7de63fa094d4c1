"""Follows log files through rotation, truncation and compression: each line is read once and in order."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tidegate.adapters.shipping.known_files import KnownFiles
from tidegate.adapters.shipping.lane import Lane, Scan
from tidegate.adapters.shipping.limits import FollowLimits
from tidegate.adapters.shipping.positions import FilePosition
from tidegate.adapters.shipping.rotation import base_of
from tidegate.adapters.shipping.tail import Event, Tail


class Follower:
    """The files of some glob patterns, as lanes. `scan` finds them, `read` gives what is new in them.

    Every method takes `now` in seconds of any steady clock.
    """

    def __init__(
        self, patterns: Sequence[str], limits: FollowLimits, saved: Sequence[FilePosition] = ()
    ) -> None:
        self._patterns = [str(Path(pattern).expanduser().absolute()) for pattern in patterns]
        self._limits = limits
        self._files = KnownFiles(saved)
        self._lanes: dict[Path, Lane] = {}
        self._scans = 0
        self._scanned_ns: int | None = None
        for position in saved:
            self._lane(position.lane, catch_up=True)

    @property
    def tails(self) -> list[Tail]:
        """The files that are being read, or whose last lines are not acknowledged yet."""
        return [tail for lane in self._lanes.values() for tail in lane.tails]

    def positions(self) -> list[FilePosition]:
        """The position of every known file, closed or open."""
        return [*self._files.positions, *(tail.position() for tail in self.tails)]

    def scan(self, now: float, time_ns: int) -> None:
        """Look at the file names: new files, rotated ones, ones that came back.

        time_ns: by the clock of the files' times, ns since the epoch.
        """
        self._scans += 1
        scan = Scan(self._scans, now, self._scanned_ns)
        self._close_settled()
        matched = self._matched()
        known = {*matched, *self._lanes}
        rotated: dict[Path, list[Path]] = {}
        for path in matched:
            base = base_of(path, known)
            self._lane(base)
            if base != path:
                rotated.setdefault(base, []).append(path)
        for base, lane in list(self._lanes.items()):
            if not lane.scan(rotated.get(base, []), base in matched, scan):
                del self._lanes[base]
        self._scanned_ns = time_ns

    def read(self, now: float, room: Callable[[], bool]) -> Iterator[tuple[Tail, Event]]:
        """What is new, a chunk of each file in turn, for as long as there is `room`.

        The caller reports what became of each event by `Tail.sent`, before it takes the next one.
        """
        for base in list(self._lanes):
            lane = self._lanes.pop(base)
            self._lanes[base] = lane  # the lane that was read goes to the end of the queue
            if not (yield from lane.read(now, room)):
                for other in self._lanes.values():
                    other.check(now)
                return
        self._close_settled()

    def close(self) -> None:
        """Close all files."""
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    def _lane(self, base: Path, *, catch_up: bool = False) -> Lane:
        if base not in self._lanes:
            self._lanes[base] = Lane(base, self._limits, self._files, self._release, catch_up=catch_up)
        return self._lanes[base]

    def _release(self, tail: Tail) -> None:
        for lane in self._lanes.values():
            lane.release(tail)

    def _matched(self) -> set[Path]:
        matched = set()
        for pattern in self._patterns:
            # Path.glob has no pattern that starts at the root, and fails at folders that vanish meanwhile.
            for path in glob.iglob(pattern, recursive=True):  # noqa: PTH207
                matched.add(Path(os.path.realpath(path)))
        return matched

    def _close_settled(self) -> None:
        for lane in self._lanes.values():
            lane.close_settled()
