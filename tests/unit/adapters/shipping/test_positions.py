"""The shipper's positions on disk."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.shipping.positions import (
    STATE_NAME,
    FilePosition,
    Fingerprint,
    StateFolder,
    StateFolderError,
)

FIXTURE = Path(__file__).parents[3] / "fixtures" / "shipping" / STATE_NAME


def state(offset: int = 7) -> FilePosition:
    return FilePosition(
        lane=Path("/logs/access.log"),
        path=Path("/logs/access.log.1"),
        device=1,
        inode=2,
        head=Fingerprint.of(b"head"),
        offset=offset,
        anchor=Fingerprint.of(b"end"),
        modified_ns=3,
    )


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    with StateFolder(tmp_path / "new" / "folder") as folder:
        assert folder.load() == []
        folder.save([state(1), state(2)])
        assert folder.load() == [state(1), state(2)]


def test_a_second_shipper_is_refused_with_the_process_that_has_the_folder(tmp_path: Path) -> None:
    with StateFolder(tmp_path), pytest.raises(StateFolderError) as refused:
        StateFolder(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert f"process {os.getpid()}" in str(refused.value)
    assert "shipper.state_dir" in str(refused.value)


def _hold(folder: Path, held: Connection) -> None:
    StateFolder(folder)
    held.send(True)
    held.recv()


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path, there))
    process.start()
    assert here.poll(30)
    here.recv()
    with pytest.raises(StateFolderError):
        StateFolder(tmp_path)
    process.kill()
    process.join()
    StateFolder(tmp_path).close()


def test_a_save_that_dies_in_the_middle_leaves_the_former_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StateFolder(tmp_path) as folder:
        folder.save([state(1)])

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            folder.save([state(2)])
        monkeypatch.undo()
        assert folder.load() == [state(1)]
        folder.save([state(3)])
        assert folder.load() == [state(3)]


@pytest.mark.parametrize("damaged", ["", "{", '{"version": 1, "files": [{"offset": -1}]}', '{"version": 9}'])
def test_a_damaged_state_file_is_not_an_empty_one(tmp_path: Path, damaged: str) -> None:
    (tmp_path / STATE_NAME).write_text(damaged)
    with StateFolder(tmp_path) as folder, pytest.raises(StateFolderError) as refused:
        folder.load()
    assert STATE_NAME in str(refused.value)
    assert "shipped again from its beginning" in str(refused.value)


def test_a_folder_that_is_not_writable_is_an_error_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateFolderError, match=r"shipper\.state_dir"):
        StateFolder(tmp_path / "file" / "folder")


def test_the_state_holds_no_log_content(tmp_path: Path) -> None:
    with StateFolder(tmp_path) as folder:
        folder.save([state().model_copy(update={"head": Fingerprint.of(b"secret-token")})])
        assert b"secret" not in (tmp_path / STATE_NAME).read_bytes()


def test_a_state_file_of_an_earlier_release_is_read_and_written_back_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / STATE_NAME).write_bytes(FIXTURE.read_bytes())
    with StateFolder(tmp_path) as folder:
        positions = folder.load()
        folder.save(positions)
    found = [(file.path.name, file.offset, file.inside, file.finished) for file in positions]
    assert found == [
        ("access.log.1", 590, False, True),
        ("access.log", 600, False, False),
        ("overlong.log", 2059, True, False),
        ("slow.log", 585, False, False),
    ]
    assert {file.lane for file in positions[:2]} == {Path("/var/log/gateway/access.log")}
    assert positions[0].head == Fingerprint.of(b"".join(b'{"line":%d}\n' % number for number in range(50)))
    assert (tmp_path / STATE_NAME).read_bytes() == FIXTURE.read_bytes()


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_a_fingerprint_knows_what_grew_from_it_and_nothing_else(head: bytes, more: bytes) -> None:
    assert Fingerprint.of(head).begins(head + more)
    if head:
        assert not Fingerprint.of(head).begins(head[:-1])
        assert not Fingerprint.of(head).begins(bytes([head[0] ^ 1]) + head[1:] + more)
