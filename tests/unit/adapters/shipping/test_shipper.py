"""The shipper's loop, as far as it needs no Kafka."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tidegate.adapters.shipping.positions import StateFolderError
from tidegate.adapters.shipping.shipper import LogShipper
from tidegate.schemas.settings import Kafka, Settings, Shipper


def settings(folder: Path) -> Settings:
    return Settings(
        kafka=Kafka(bootstrap_servers="127.0.0.1:9"),
        shipper=Shipper(files=(str(folder / "*.log"),), state_dir=folder / "state", poll_ms=1),
    )


def test_without_a_kafka_nothing_is_held_and_the_files_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"line\n" * 100_000)
    with LogShipper(settings(tmp_path)) as shipper:
        for _ in range(5):
            shipper.step(time.monotonic())
        assert shipper.bytes_held == 0
        assert not shipper.idle
    assert '"offset": 0' in (tmp_path / "state" / "offsets.json").read_text()


def test_positions_that_cannot_be_saved_are_logged_and_saved_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.log").write_bytes(b"line\n")
    with LogShipper(settings(tmp_path)) as shipper:
        with monkeypatch.context() as full:

            def fail(_: int) -> None:
                raise OSError(28, "No space left on device")

            full.setattr(os, "fsync", fail)
            shipper.step(time.monotonic())
        assert "No space left on device" in caplog.text
        assert not (tmp_path / "state" / "offsets.json").exists()
    assert (tmp_path / "state" / "offsets.json").exists()


def test_a_damaged_state_leaves_the_folder_free(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "offsets.json").write_text("{")
    for _ in range(2):
        with pytest.raises(StateFolderError, match="damaged"):
            LogShipper(settings(tmp_path))
