"""A folder with a log that is written, rotated and compressed, a shipper, and a Kafka in memory.

Everything around the follower is the test's: the clock, the times of files, and when Kafka acknowledges.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.adapters.shipping.follower import Follower
from tidegate.adapters.shipping.limits import FollowLimits
from tidegate.adapters.shipping.lines import Lines, Overlong, lines_of
from tidegate.adapters.shipping.positions import FilePosition, StateFolder
from tidegate.adapters.shipping.tail import Damaged, Event, Receipt, Tail

WAIT_SECONDS = 5.0
MAX_LINE_BYTES = 1024
CHUNK_BYTES = 100
FIRST_TIME_NS = 1_790_000_000 * 10**9


@dataclass
class Sent:
    """What is on its way to Kafka."""

    lines: list[bytes] = field(default_factory=list)
    letter: str | None = None
    done: bool = False


class ShipWorld:
    """The log is `access.log`. Times in seconds of a clock that moves only by `wait` and by writing."""

    def __init__(self, folder: Path, patterns: tuple[str, ...] = ("access.log",)) -> None:
        self.folder = folder / "logs"
        self.folder.mkdir()
        self.log = self.folder / "access.log"
        self.patterns = tuple(str(self.folder / pattern) for pattern in patterns)
        self.now = 0.0
        self.arrived: list[bytes] = []
        self.letters: list[str] = []
        self.flying: deque[Sent] = deque()
        self.state_folder = folder / "state"
        self.follower = self.started()
        self.most_held = 0

    # Who writes the log

    def write(self, data: bytes, path: Path | None = None) -> None:
        with (path or self.log).open("ab") as out:
            out.write(data)
        self._touch(path or self.log)

    def rotate_by_rename(self) -> None:
        """access.log becomes access.log.1, and that .2 and so on; a new file is begun."""
        self._make_room()
        self.log.rename(self.rotated(1))
        self.log.touch()
        self._touch(self.log)

    def rotate_by_copy(self) -> None:
        """access.log is copied to access.log.1 and emptied."""
        self._make_room()
        shutil.copy(self.log, self.rotated(1))
        self._touch(self.rotated(1))
        os.truncate(self.log, 0)
        self._touch(self.log)

    def compress(self, number: int) -> None:
        """access.log.N becomes access.log.N.gz, with the time of the file that it was."""
        plain = self.rotated(number)
        status = plain.stat()
        compressed = plain.with_name(plain.name + ".gz")
        compressed.write_bytes(gzip.compress(plain.read_bytes()))
        os.utime(compressed, ns=(status.st_atime_ns, status.st_mtime_ns))
        plain.unlink()

    def rotated(self, number: int) -> Path:
        return self.folder / f"access.log.{number}"

    def rotations(self) -> list[int]:
        """Numbers of the rotated files that aren't compressed."""
        return [int(path.suffix[1:]) for path in self.folder.glob("access.log.*") if path.suffix != ".gz"]

    # The shipper

    def step(self, room: int = 10_000) -> None:
        """One look at the files, and one chunk of each, while less than `room` is on its way."""
        self.follower.scan(self.now, FIRST_TIME_NS + int(self.now * 1e9))
        for tail, event in self.follower.read(self.now, lambda: len(self.flying) < room):
            tail.sent(event, self._send(event, tail))
            self.most_held = max(self.most_held, len(self.flying))

    def acknowledge(self, count: int | None = None) -> None:
        """Kafka has the first `count` of what is on its way; all of it by default."""
        for _ in range(len(self.flying) if count is None else min(count, len(self.flying))):
            self._take(self.flying.popleft())

    def restart(self, *, lost_answers: int = 0) -> None:
        """The shipper dies; Kafka has more messages than were acknowledged to it. It starts from what was saved."""
        with StateFolder(self.state_folder) as folder:
            folder.save(self.follower.positions())
            self.follower.close()
            for sent in list(self.flying)[:lost_answers]:
                self._take(sent)
        self.flying.clear()
        self.follower = self.started()

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def drain(self) -> None:
        """Everything is read and acknowledged, and what is finished is found to be so."""
        unchanged = 0
        for _ in range(2000):
            before = (self._offsets(), len(self.arrived), len(self.letters))
            self.step()
            self.acknowledge()
            self.wait(WAIT_SECONDS / 4)
            after = (self._offsets(), len(self.arrived), len(self.letters))
            unchanged = unchanged + 1 if before == after else 0
            if (
                unchanged > MAX_LINE_BYTES // CHUNK_BYTES + 3
            ):  # so many chunks may pass before a line is whole
                return
        raise AssertionError("the shipper finds no end")

    def state_of(self, path: Path) -> FilePosition:
        return next(state for state in self.follower.positions() if state.path == path)

    def started(self) -> Follower:
        """A follower that goes on from what was saved."""
        limits = FollowLimits(MAX_LINE_BYTES, CHUNK_BYTES, WAIT_SECONDS)
        with StateFolder(self.state_folder) as folder:
            return Follower(self.patterns, limits, folder.load())

    def _send(self, event: Event, tail: Tail) -> Receipt | None:
        if isinstance(event, Lines):
            sent = Sent(lines=lines_of(event.block)[0])
        elif isinstance(event, Overlong):
            sent = Sent(letter=f"overlong {tail.identity}@{event.start}")
        elif isinstance(event, Damaged):
            sent = Sent(letter=f"damaged {tail.name.path.name}@{event.end}")
        else:
            return None
        self.flying.append(sent)
        return sent

    def _take(self, sent: Sent) -> None:
        sent.done = True
        self.arrived.extend(sent.lines)
        if sent.letter is not None:
            self.letters.append(sent.letter)

    def _offsets(self) -> list[tuple[Path, int, bool]]:
        return [(state.path, state.offset, state.finished) for state in self.follower.positions()]

    def _make_room(self) -> None:
        files = sorted(self.folder.glob("access.log.*"), key=lambda path: -int(path.name.split(".")[2]))
        for path in files:
            _, _, number, *rest = path.name.split(".")
            path.rename(path.with_name(".".join(["access.log", str(int(number) + 1), *rest])))

    def _touch(self, path: Path) -> None:
        self.now += 0.001
        time_ns = FIRST_TIME_NS + int(self.now * 1e9)
        os.utime(path, ns=(time_ns, time_ns))
