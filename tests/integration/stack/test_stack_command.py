"""`tidegate up`, `status` and `down`, as a user types them, with a real Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tidegate.schemas.settings import STACK_FILE
from tidegate.stack import processes, state

COMMAND_SECONDS = 240


class Tidegate:
    """The command line, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_dir = folder / ".tidegate"

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"COLUMNS": "200"}
        return subprocess.run(
            (sys.executable, "-m", "tidegate.cli.main", *arguments),
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def status(self) -> dict[str, dict[str, Any]]:
        """What `status --json` says, by server."""
        return {server["name"]: server for server in json.loads(self("status", "--json").stdout)}


@pytest.fixture
def tidegate(tmp_path: Path) -> Iterator[Tidegate]:
    command = Tidegate(tmp_path)
    yield command
    if (command.state_dir / STACK_FILE).exists():
        processes.stop([server.process for server in state.read(command.state_dir).servers.values()], 10)


@pytest.mark.usefixtures("kafka_server")  # its parts are there, or the test is skipped with the reason
def test_kafka_comes_up_once_and_goes_down_with_what_it_started(tidegate: Tidegate) -> None:
    first = tidegate("up", "kafka")
    assert first.returncode == 0, first.stderr
    kafka = tidegate.status()["kafka"]
    assert kafka["state"] == "running"
    assert kafka["memory_bytes"] > 0
    assert f"bootstrap server {kafka['addresses']['bootstrap server']}" in first.stdout

    second = tidegate("up", "kafka")
    assert second.returncode == 0, second.stderr
    assert "already running" in second.stdout
    assert tidegate.status()["kafka"]["pid"] == kafka["pid"]

    down = tidegate("down")
    assert down.returncode == 0, down.stderr
    assert tidegate.status()["kafka"]["state"] == "stopped"
    assert (tidegate.state_dir / "kafka" / "data").exists()

    again = tidegate("up", "kafka")
    assert again.returncode == 0, again.stderr
    assert tidegate.status()["kafka"]["addresses"] == kafka["addresses"]

    assert tidegate("down", "--purge").returncode == 0
    assert not (tidegate.state_dir / "kafka").exists()


@pytest.mark.usefixtures("kafka_server")
def test_a_kafka_that_dies_at_the_start_shows_its_log(tidegate: Tidegate) -> None:
    data = tidegate.state_dir / "kafka" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=another\nnode.id=7\n")
    up = tidegate("up", "kafka")
    assert up.returncode == 1
    assert "kafka ended with exit code" in up.stderr
    assert str(tidegate.state_dir / "logs" / "kafka.log") in up.stderr
    assert "Stored node id 7" in up.stderr
    assert tidegate.status()["kafka"]["state"] == "stopped"


def test_an_unknown_server_is_wrong_use(tidegate: Tidegate) -> None:
    up = tidegate("up", "rabbitmq")
    assert up.returncode == 2
    assert "rabbitmq" in up.stderr
    assert "kafka" in up.stderr


def test_down_in_a_fresh_folder_does_nothing(tidegate: Tidegate) -> None:
    assert tidegate("down").returncode == 0
    assert not tidegate.state_dir.exists()
