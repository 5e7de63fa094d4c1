"""When the demo's replicas leave, join and get ready, and what is in the files of gateway and replicas then."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from tidegate.demo.director import Director
from tidegate.demo.envoy_config import Files
from tidegate.demo.moves import Moved, Moves
from tidegate.demo.scenario import DEMO, Move, Scenario
from tidegate.demo.upstreams import Readiness

ADDRESSES = {replica.name: f"127.0.0.1:{7000 + n}" for n, (_, replica) in enumerate(DEMO.replicas())}
NAMES = ("translate-3", "translate-4")


class Played:
    """A scenario's moves on files in a folder."""

    def __init__(self, folder: Path, scenario: Scenario = DEMO) -> None:
        self._folder = folder
        self._files = Files(folder)
        self.moves = Moves(scenario, Director(scenario, self._files, ADDRESSES, folder))

    def moves_at(self, fraction: float, now_ms: int) -> list[tuple[str, int]]:
        """What a step says."""
        return [(moved.what, moved.replicas) for moved in self.moves.step(fraction, now_ms)]

    def listed(self) -> set[str]:
        """The replicas of translate that the gateway knows."""
        task = next(task for task in DEMO.tasks if task.name == "translate")
        content = json.loads(self._files.endpoints(task, task.versions[0]).read_text())
        (endpoints,) = content["resources"][0]["endpoints"]
        ports = {
            one["endpoint"]["address"]["socket_address"]["port_value"] for one in endpoints["lb_endpoints"]
        }
        return {name for name, address in ADDRESSES.items() if int(address.rpartition(":")[2]) in ports}

    def unready(self) -> list[str]:
        """The replicas that say so."""
        return list(json.loads((self._folder / "unready.json").read_text()))


def test_replicas_leave_together_and_only_once(tmp_path: Path) -> None:
    played = Played(tmp_path)
    assert played.moves_at(0.29, 1000) == []
    assert played.moves.step(0.31, 2000) == [Moved(2000, "assistants", "translate", "left", 2)]
    assert played.listed() == {"translate-1", "translate-2"}
    assert played.moves_at(0.4, 3000) == []


def test_who_joins_is_listed_at_once_and_ready_when_warm(tmp_path: Path) -> None:
    played = Played(tmp_path)
    played.moves_at(0.31, 0)
    assert played.moves_at(0.6, 10_000) == [("joined", 2)]
    assert played.listed() == {f"translate-{n}" for n in range(1, 5)}
    assert played.unready() == sorted(NAMES)
    assert played.moves_at(0.61, 13_999) == []
    assert played.moves_at(0.62, 14_000) == [("became ready", 2)]
    assert played.unready() == []
    assert played.moves_at(1.0, 99_000) == []


def test_a_day_that_is_looked_at_late_has_all_its_moves_in_order(tmp_path: Path) -> None:
    played = Played(tmp_path)
    assert played.moves_at(1.0, 0) == [("left", 2), ("joined", 2)]
    assert played.moves_at(1.0, 4000) == [("became ready", 2)]


def test_moves_of_different_moments_are_distinguished(tmp_path: Path) -> None:
    moves = (Move(0.1, NAMES[0], joins=False), Move(0.2, NAMES[1], joins=False))
    played = Played(tmp_path, replace(DEMO, moves=moves))
    assert played.moves_at(0.15, 0) == [("left", 1)]
    assert played.moves_at(0.25, 0) == [("left", 1)]
    assert played.listed() == {"translate-1", "translate-2"}


def test_a_file_of_the_unready_that_is_half_written_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "unready.json"
    readiness = Readiness(path)
    assert readiness.ready("chat-1")
    for at, (text, ready) in {1: ('["chat-1"]', False), 2: ("", False), 3: ("[]", True)}.items():
        path.write_text(text)
        os.utime(path, (at, at))
        assert readiness.ready("chat-1") is ready
