"""The follower on real files: whatever happens to a log, no line of it is lost, and the order is kept."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from tests.support.shipping import MAX_LINE_BYTES, WAIT_SECONDS, ShipWorld

FIXTURE = Path(__file__).parents[3] / "fixtures" / "shipping" / "offsets.json"


@pytest.fixture
def world(tmp_path: Path) -> ShipWorld:
    return ShipWorld(tmp_path)


def line(number: int) -> bytes:
    return b'{"line":%d}' % number


def lines(*numbers: int) -> bytes:
    return b"".join(line(number) + b"\n" for number in numbers)


def test_lines_arrive_in_their_order(world: ShipWorld) -> None:
    world.write(lines(*range(100)))
    world.drain()
    assert world.arrived == [line(number) for number in range(100)]


def test_a_half_written_line_waits_for_its_newline(world: ShipWorld) -> None:
    world.write(lines(1) + b'{"li')
    world.drain()
    assert world.arrived == [line(1)]
    world.write(b'ne":2}\n')
    world.drain()
    assert world.arrived == [line(1), line(2)]


def test_a_file_that_appears_later_is_followed(world: ShipWorld) -> None:
    world.drain()
    world.write(lines(1))
    world.drain()
    assert world.arrived == [line(1)]


def test_a_file_rotated_by_rename_loses_no_line(world: ShipWorld) -> None:
    world.write(lines(1))
    world.drain()
    world.write(lines(2))
    world.rotate_by_rename()
    world.write(lines(3))
    world.drain()
    assert world.arrived == [line(1), line(2), line(3)]


def test_what_is_written_to_a_rotated_file_is_still_read(world: ShipWorld) -> None:
    world.write(lines(1))
    world.drain()
    world.rotate_by_rename()
    world.step()
    world.write(lines(2), world.rotated(1))
    world.step()
    world.acknowledge()
    assert world.arrived == [line(1), line(2)]


def test_the_unfinished_end_of_a_rotated_file_is_a_line(world: ShipWorld) -> None:
    world.write(lines(1) + b"unfinished")
    world.step()
    world.rotate_by_rename()
    for _ in range(3):
        world.step()
    world.acknowledge()
    assert world.arrived == [line(1)]
    world.wait(WAIT_SECONDS)
    world.drain()
    assert world.arrived == [line(1), b"unfinished"]


def test_a_file_whose_name_is_gone_is_read_to_its_end(world: ShipWorld) -> None:
    world.write(lines(1))
    world.step()
    world.write(lines(2) + b"unfinished")
    world.log.unlink()
    world.drain()
    assert world.arrived == [line(1), line(2), b"unfinished"]


def test_a_truncated_file_is_read_from_its_beginning(world: ShipWorld) -> None:
    world.write(lines(1, 2, 3))
    world.drain()
    world.rotate_by_copy()
    world.write(lines(4))
    world.drain()
    assert world.arrived == [line(1), line(2), line(3), line(4)]


def test_a_truncated_file_that_is_longer_than_before_is_read_from_its_beginning(world: ShipWorld) -> None:
    world.write(lines(1))
    world.drain()
    world.rotate_by_copy()
    world.write(lines(*range(2, 60)))
    world.drain()
    assert world.arrived == [line(number) for number in range(1, 60)]


def test_a_truncated_file_with_the_same_first_lines_is_known_by_what_comes_later(world: ShipWorld) -> None:
    header = b"h" * 1000 + b"\n"
    world.write(header + header + lines(1))
    world.drain()
    world.rotate_by_copy()
    world.write(header + header + lines(2, 3))
    world.drain()
    assert world.arrived == [header[:-1], header[:-1], line(1), header[:-1], header[:-1], line(2), line(3)]


def test_what_was_not_read_before_a_truncation_is_read_from_the_copy(world: ShipWorld) -> None:
    world.write(lines(1) + b"half")
    world.drain()
    world.write(b" and half\n" + lines(2, 3) + b"unfinished")
    world.rotate_by_copy()
    world.write(lines(4))
    world.drain()
    assert world.arrived[:5] == [line(1), b"half and half", line(2), line(3), line(4)]
    assert world.arrived[5:] == [b"unfinished"]


def test_a_half_line_that_was_truncated_away_is_sent_as_it_was(world: ShipWorld) -> None:
    world.write(lines(1) + b"half")
    world.drain()
    os.truncate(world.log, 0)
    world.write(lines(2))
    world.drain()
    assert sorted(world.arrived) == sorted([line(1), b"half", line(2)])


def test_a_restart_goes_on_where_it_was(world: ShipWorld) -> None:
    world.write(lines(1, 2))
    world.drain()
    world.restart()
    world.write(lines(3))
    world.drain()
    assert world.arrived == [line(1), line(2), line(3)]


def test_what_kafka_had_not_acknowledged_is_sent_again(world: ShipWorld) -> None:
    world.write(lines(1))
    world.step()
    world.acknowledge()
    world.write(lines(2))
    world.step()
    world.restart(lost_answers=1)
    world.drain()
    assert world.arrived == [line(1), line(2), line(2)]


def test_the_offset_never_moves_over_what_is_not_acknowledged(world: ShipWorld) -> None:
    world.write(lines(*range(100)))
    for _ in range(5):
        world.step()
    second = world.flying[1]
    second.done = True
    assert world.state_of(world.log).offset == 0
    world.acknowledge(1)
    first_two = len(world.arrived) + len(second.lines)
    assert world.state_of(world.log).offset == len(lines(*range(first_two)))


def test_files_rotated_during_a_stop_are_caught_up_in_their_order(world: ShipWorld) -> None:
    world.write(lines(1))
    world.drain()
    world.restart()
    world.write(lines(2))
    world.rotate_by_rename()
    world.write(lines(3))
    world.rotate_by_rename()
    world.write(lines(4))
    world.drain()
    assert world.arrived == [line(1), line(2), line(3), line(4)]


def test_a_file_that_was_compressed_before_we_had_it_whole_goes_on_in_the_gz(world: ShipWorld) -> None:
    world.write(lines(1) + b"half")
    world.drain()
    world.restart()
    world.write(b" and half\n" + lines(*range(2, 400)))
    world.rotate_by_rename()
    world.write(lines(400))
    world.compress(1)
    world.drain()
    assert world.arrived == [line(1), b"half and half", *(line(number) for number in range(2, 401))]


def test_a_gz_that_was_truncated_by_copy_and_compressed_goes_on_there(world: ShipWorld) -> None:
    world.write(lines(1))
    world.drain()
    world.restart()
    world.write(lines(2))
    world.rotate_by_copy()
    world.write(lines(*range(3, 60)))
    world.rotate_by_copy()
    world.compress(2)
    world.compress(1)
    world.write(lines(60))
    world.drain()
    assert world.arrived == [line(number) for number in range(1, 61)]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_gz_that_was_shipped_before_it_was_compressed_is_not_sent_again(
    tmp_path: Path, restarted: bool
) -> None:
    world = ShipWorld(tmp_path, ("access.log*",))
    world.write(lines(*range(50)))
    world.rotate_by_rename()
    world.write(lines(50))
    world.drain()
    world.compress(1)
    if restarted:
        world.restart()
    world.drain()
    world.rotate_by_rename()
    world.drain()
    assert world.arrived == [line(number) for number in range(51)]


def test_a_gz_that_the_settings_name_is_shipped_once(tmp_path: Path) -> None:
    world = ShipWorld(tmp_path, ("access.log*",))
    (world.folder / "access.log.2.gz").write_bytes(gzip.compress(lines(1, 2)))
    os.utime(world.folder / "access.log.2.gz", ns=(0, 0))
    world.write(lines(3))
    world.drain()
    world.restart()
    world.drain()
    assert world.arrived == [line(1), line(2), line(3)]


def test_a_gz_that_is_still_being_written_is_waited_for(world: ShipWorld) -> None:
    world.write(lines(1))
    world.drain()
    world.restart()
    world.write(lines(*range(2, 3000)))
    world.rotate_by_rename()
    world.compress(1)
    compressed = world.folder / "access.log.1.gz"
    whole = compressed.read_bytes()
    for part in (20, len(whole) // 2, len(whole)):
        compressed.write_bytes(whole[:part])
        for _ in range(20):
            world.step()
            world.acknowledge()
            world.wait(1)
    world.drain()
    assert sorted(world.arrived) == sorted(line(number) for number in range(1, 3000))
    assert world.letters == []


def test_a_gz_that_stays_cut_is_a_dead_letter_after_what_can_be_read(tmp_path: Path) -> None:
    world = ShipWorld(tmp_path, ("*.gz",))
    written = [os.urandom(100).hex().encode() for _ in range(200)]
    whole = gzip.compress(b"".join(text + b"\n" for text in written))
    (world.folder / "access.log.1.gz").write_bytes(whole[: len(whole) // 2])
    world.drain()
    assert world.letters == []
    world.wait(60)
    world.drain()
    assert len(world.letters) == 1
    assert world.letters[0].startswith("damaged access.log.1.gz@")
    *whole_lines, cut = world.arrived
    assert whole_lines == written[: len(whole_lines)]
    assert len(whole_lines) > 50
    assert written[len(whole_lines)].startswith(cut)


def test_a_gz_that_is_not_one_is_logged_and_blocks_no_other_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = ShipWorld(tmp_path, ("*",))
    (world.folder / "access.log.1.gz").write_bytes(b"no gz at all")
    world.write(lines(1))
    world.drain()
    assert world.arrived == [line(1)]
    assert "access.log.1.gz can't be read" in caplog.text


def test_an_inode_that_another_file_has_now_is_a_new_file(world: ShipWorld) -> None:
    world.write(lines(1, 2))
    world.drain()
    world.restart()
    # The same inode with other content is what a reused inode looks like.
    world.log.write_bytes(lines(*range(10, 60)))
    world.drain()
    assert world.arrived == [line(1), line(2), *(line(number) for number in range(10, 60))]


def test_a_copy_of_a_followed_file_is_not_sent(tmp_path: Path) -> None:
    world = ShipWorld(tmp_path, ("access.log*",))
    world.write(lines(1, 2))
    world.drain()
    shutil.copy(world.log, world.rotated(1))
    world.drain()
    world.restart()
    world.drain()
    assert world.arrived == [line(1), line(2)]


def test_a_file_under_another_device_number_is_the_same_file(world: ShipWorld) -> None:
    world.write(lines(1, 2))
    world.drain()
    shutil.copy(world.log, world.folder / "moved")
    (world.folder / "moved").replace(world.log)
    world.write(lines(3))
    world.restart()
    world.drain()
    assert world.arrived == [line(1), line(2), line(3)]


def test_rotated_files_from_before_the_first_start_are_left_alone(world: ShipWorld) -> None:
    world.write(lines(1))
    world.rotate_by_rename()
    world.write(lines(2))
    world.drain()
    world.rotate_by_rename()
    world.write(lines(3))
    world.drain()
    assert world.arrived == [line(2), line(3)]


def test_a_file_that_came_and_was_rotated_between_two_looks_is_shipped(world: ShipWorld) -> None:
    world.step()
    world.write(lines(1))
    world.rotate_by_rename()
    world.write(lines(2))
    world.compress(1)
    world.drain()
    assert world.arrived == [line(1), line(2)]


def test_a_file_that_the_settings_do_not_name_any_more_is_read_to_its_end(tmp_path: Path) -> None:
    world = ShipWorld(tmp_path)
    world.write(lines(1))
    world.drain()
    world.write(lines(2))
    world.patterns = (str(world.folder / "other.log"),)
    world.restart()
    world.drain()
    world.write(lines(3))
    world.drain()
    assert world.arrived == [line(1), line(2)]


def test_the_newest_file_of_a_link_is_followed_to_the_end(tmp_path: Path) -> None:
    world = ShipWorld(tmp_path, ("current",))
    (world.folder / "current").symlink_to(world.folder / "a.log")
    world.write(lines(1), world.folder / "a.log")
    world.drain()
    world.write(lines(2), world.folder / "a.log")
    (world.folder / "current").unlink()
    (world.folder / "current").symlink_to(world.folder / "b.log")
    world.write(lines(3), world.folder / "b.log")
    world.restart()
    world.drain()
    assert sorted(world.arrived) == [line(1), line(2), line(3)]


def test_an_overlong_line_is_one_letter_and_the_rest_goes_on(world: ShipWorld) -> None:
    overlong = b"x" * (3 * MAX_LINE_BYTES)
    world.write(lines(1) + overlong + b"\n" + lines(2))
    world.drain()
    assert world.arrived == [line(1), line(2)]
    assert [letter.partition("@")[2] for letter in world.letters] == [str(len(lines(1)))]


def test_a_restart_inside_an_overlong_line_goes_on_skipping_it(world: ShipWorld) -> None:
    world.write(lines(1) + b"x" * (2 * MAX_LINE_BYTES))
    world.drain()
    world.restart()
    world.write(b"x" * MAX_LINE_BYTES + b"\n" + lines(2))
    world.drain()
    assert world.arrived == [line(1), line(2)]
    assert len(world.letters) == 1


def test_a_letter_has_the_same_id_when_it_is_written_twice(world: ShipWorld) -> None:
    world.write(lines(1) + b"x" * (2 * MAX_LINE_BYTES) + b"\n" + lines(2))
    for _ in range(30):
        world.step()
    world.restart(lost_answers=100)
    world.drain()
    assert len(world.letters) == 2
    assert len(set(world.letters)) == 1


def test_no_room_means_no_reading(world: ShipWorld) -> None:
    world.write(lines(*range(1000)))
    for _ in range(50):
        world.step(room=3)
    assert world.most_held <= 3
    world.drain()
    assert world.arrived == [line(number) for number in range(1000)]


def test_a_file_rotated_twice_while_kafka_is_away_is_shipped_when_it_is_back(world: ShipWorld) -> None:
    world.write(lines(1))
    for number in (2, 3, 4):
        world.step(room=0)
        world.rotate_by_copy() if number == 3 else world.rotate_by_rename()
        world.write(lines(number))
    world.step(room=0)
    world.compress(3)
    world.drain()
    assert world.arrived == [line(1), line(2), line(3), line(4)]


def test_a_file_rotated_away_and_removed_is_logged_as_lost(
    world: ShipWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.write(lines(1))
    world.step()
    world.restart()
    world.rotate_by_rename()
    world.rotated(1).unlink()
    world.write(lines(2))
    world.drain()
    assert world.arrived == [line(2)]
    assert "what came after byte 0 is lost" in caplog.text


def test_two_logs_that_begin_alike_are_both_shipped(tmp_path: Path) -> None:
    world = ShipWorld(tmp_path, ("*.log",))
    for name in ("a.log", "b.log"):
        world.write(lines(1, 2), world.folder / name)
    world.drain()
    assert sorted(world.arrived) == [line(1), line(1), line(2), line(2)]


def test_a_rotated_file_that_grows_again_is_read_again_where_it_ended(tmp_path: Path) -> None:
    world = ShipWorld(tmp_path, ("access.log*",))
    world.write(lines(1))
    world.rotate_by_rename()
    world.drain()
    world.write(lines(2), world.rotated(1))
    world.drain()
    assert world.arrived == [line(1), line(2)]


def test_a_file_that_fails_to_be_read_for_a_while_loses_no_line(
    world: ShipWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.write(lines(1))
    world.drain()

    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as failing:
        failing.setattr(os, "pread", broken)
        world.write(lines(2))
        world.drain()
    assert "can't be read" in caplog.text
    world.write(lines(3))
    world.drain()
    assert world.arrived == [line(1), line(2), line(3)]


def test_a_state_file_of_an_earlier_release_is_where_reading_goes_on(tmp_path: Path) -> None:
    world = ShipWorld(tmp_path, ("*.log",))
    overlong = lines(0) + b"x" * (2 * MAX_LINE_BYTES)
    saved = FIXTURE.read_text().replace("/var/log/gateway", str(world.folder))
    (world.state_folder / "offsets.json").write_text(saved)
    world.follower.close()
    world.follower = world.started()
    world.write(lines(*range(50)), world.rotated(1))
    world.write(lines(*range(50, 110)))
    world.write(overlong + b"\n" + lines(1), world.folder / "overlong.log")
    world.write(lines(*range(200, 330)), world.folder / "slow.log")
    world.drain()
    slow = 200 + len(lines(*range(200, 330))[:585].splitlines())
    expected = [line(number) for number in (*range(100, 110), 1, *range(slow, 330))]
    assert sorted(world.arrived) == sorted(expected)
    assert world.letters == []
