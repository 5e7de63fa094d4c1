"""One lane alone: which file is read next, and what becomes of rotated and truncated ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tidegate.adapters.shipping.known_files import KnownFiles
from tidegate.adapters.shipping.lane import Lane, Scan
from tidegate.adapters.shipping.limits import FollowLimits
from tidegate.adapters.shipping.lines import Lines
from tidegate.adapters.shipping.positions import FilePosition
from tidegate.adapters.shipping.tail import Event, Tail

WAIT_SECONDS = 5.0
LIMITS = FollowLimits(max_line_bytes=100, chunk_bytes=10, rotated_wait_seconds=WAIT_SECONDS)


@dataclass(frozen=True)
class Receipt:
    """Of what Kafka has, or hasn't."""

    done: bool


class LaneOf:
    """The lane of `access.log` in a folder, its register, and the tails that it wanted released."""

    def __init__(
        self, folder: Path, saved: Sequence[FilePosition] = (), name: str = "access.log", **options: bool
    ) -> None:
        self.path = folder / name
        self.files = KnownFiles(saved)
        self.released: list[Tail] = []
        self.lane = Lane(self.path, LIMITS, self.files, self.released.append, **options)
        self._scans = 0

    def scan(self, *rotated: Path, named: bool = True, now: float = 0) -> bool:
        self._scans += 1
        return self.lane.scan(rotated, named, Scan(self._scans, now, previous_ns=None))

    def read(
        self, *, now: float = 0, room: bool = True, done: bool = True
    ) -> tuple[list[tuple[str, bytes]], bool]:
        """Each block with its file's name, and whether there was room; `done`: Kafka acknowledges at once."""
        blocks: list[tuple[str, bytes]] = []
        complete: list[bool] = []

        def reading() -> Iterator[tuple[Tail, Event]]:
            complete.append((yield from self.lane.read(now, lambda: room)))

        for tail, event in reading():
            assert isinstance(event, Lines)
            blocks.append((tail.name.path.name, event.block))
            tail.sent(event, Receipt(done))
        return blocks, complete[0]

    def read_all(self, *, now: float = 0) -> list[tuple[str, bytes]]:
        blocks: list[tuple[str, bytes]] = []
        for _ in range(30):
            self.scan(now=now)
            blocks += self.read(now=now)[0]
        return blocks

    def rotated(self, number: int = 1) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[LaneOf]:
    made = LaneOf(tmp_path)
    yield made
    made.lane.close()


def test_a_lane_has_nothing_to_follow_when_its_name_is_gone_and_no_file_is_open(lane: LaneOf) -> None:
    assert lane.scan(named=True), "the settings name it, so it may come"
    assert not lane.scan(named=False)
    lane.path.write_bytes(b"1\n")
    assert lane.scan(named=True)
    lane.path.unlink()
    assert lane.scan(named=False), "its file is still open"
    lane.read(now=WAIT_SECONDS)
    lane.read(now=3 * WAIT_SECONDS)
    lane.lane.close_settled()
    assert not lane.scan(named=False)


def test_the_live_file_waits_until_the_rotated_one_is_read_to_its_end(lane: LaneOf) -> None:
    lane.path.write_bytes(b"old 00001\nold 00002\n")
    lane.scan()
    lane.path.rename(lane.rotated())
    lane.path.write_bytes(b"new 00001\n")
    lane.scan()
    reads = [lane.read()[0] for _ in range(3)]
    assert reads[0] == [("access.log.1", b"old 00001\n")]
    assert reads[1] == [("access.log.1", b"old 00002\n")]
    assert ("access.log", b"new 00001\n") in reads[2]
    assert [tail.name.path.name for tail in lane.lane.tails] == ["access.log.1", "access.log"]


def test_without_room_nothing_is_read_and_the_caller_learns_it(lane: LaneOf) -> None:
    lane.path.write_bytes(b"1\n")
    lane.scan()
    assert lane.read(room=False) == ([], False)
    assert lane.read() == ([("access.log", b"1\n")], True)


def test_an_empty_lane_needs_no_room(lane: LaneOf) -> None:
    lane.scan()
    assert lane.read(room=False) == ([], True)


def test_a_file_leaves_the_lane_once_all_of_it_is_acknowledged(lane: LaneOf) -> None:
    lane.path.write_bytes(b"1\n")
    lane.scan()
    lane.path.unlink()
    lane.scan()
    for now in (0, WAIT_SECONDS, 2 * WAIT_SECONDS):
        lane.read(now=now, done=False)
    lane.lane.close_settled()
    assert [tail.ended for tail in lane.lane.tails] == [True]
    assert lane.files.positions == []


def test_the_position_of_a_closed_file_is_kept_in_the_register(lane: LaneOf) -> None:
    lane.path.write_bytes(b"1\n2\n")
    lane.scan()
    lane.path.rename(lane.rotated())
    for now in (0, WAIT_SECONDS, 2 * WAIT_SECONDS):
        lane.scan(lane.rotated(), now=now)
        lane.read(now=now)
    lane.lane.close_settled()
    [position] = lane.files.positions
    assert (position.path, position.offset, position.finished) == (lane.rotated(), 4, True)
    assert lane.lane.tails == []


def test_a_truncated_file_goes_on_in_its_copy_before_its_new_content(lane: LaneOf) -> None:
    lane.path.write_bytes(b"1\n")
    assert lane.read_all() == [("access.log", b"1\n")]
    with lane.path.open("ab") as out:
        out.write(b"2\n")
    shutil.copy(lane.path, lane.rotated())
    lane.path.write_bytes(b"3\n")
    assert lane.read_all() == [("access.log.1", b"2\n"), ("access.log", b"3\n")]


def test_a_truncated_file_without_a_copy_ends_with_the_unfinished_line_that_was_read(lane: LaneOf) -> None:
    lane.path.write_bytes(b"1\nhal")
    assert lane.read_all() == [("access.log", b"1\n")]
    os.truncate(lane.path, 0)
    with lane.path.open("ab") as out:
        out.write(b"2\n")
    assert lane.read_all() == [("access.log", b"hal"), ("access.log", b"2\n")]


def test_a_check_opens_the_copy_of_a_truncated_file_without_reading_it(lane: LaneOf) -> None:
    lane.path.write_bytes(b"1\n")
    lane.read_all()
    with lane.path.open("ab") as out:
        out.write(b"2\n")
    shutil.copy(lane.path, lane.rotated())
    lane.path.write_bytes(b"3\n")
    lane.lane.check(0)
    lane.rotated().unlink()
    assert [block for _, block in lane.read_all()] == [b"2\n", b"3\n"]


def test_a_lane_that_catches_up_goes_on_in_the_rotated_file_and_then_in_the_live_one(tmp_path: Path) -> None:
    before = LaneOf(tmp_path)
    before.path.write_bytes(b"1\n2\n")
    before.read_all()
    saved = [tail.position() for tail in before.lane.tails]
    before.lane.close()
    with before.path.open("ab") as out:
        out.write(b"3\n")
    before.path.rename(before.rotated())
    before.path.write_bytes(b"4\n")
    after = LaneOf(tmp_path, saved, catch_up=True)
    assert after.read_all() == [("access.log.1", b"3\n"), ("access.log", b"4\n")]
    after.lane.close()


def test_a_loss_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = LaneOf(tmp_path)
    before.path.write_bytes(b"1\n")
    before.read_all()
    saved = [tail.position() for tail in before.lane.tails]
    before.lane.close()
    before.path.unlink()
    after = LaneOf(tmp_path, saved, catch_up=True)
    after.read_all()
    assert caplog.text.count("what came after byte 2 is lost") == 1


def test_a_file_that_is_renamed_to_another_lane_s_name_is_asked_from_the_lane_that_has_it(
    tmp_path: Path,
) -> None:
    first = LaneOf(tmp_path)
    second = LaneOf(tmp_path, name="other.log")
    second.lane = Lane(second.path, LIMITS, first.files, first.lane.release)
    first.path.write_bytes(b"1\n")
    first.read_all()
    first.path.rename(second.path)
    second.scan()
    assert first.lane.tails == []
    [tail] = second.lane.tails
    assert (tail.name.lane, tail.name.path, tail.rotated_at) == (second.path, second.path, None)
    assert second.read_all() == []
    with second.path.open("ab") as out:
        out.write(b"2\n")
    assert second.read_all() == [("other.log", b"2\n")]
    second.lane.close()
