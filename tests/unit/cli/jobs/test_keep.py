"""Which jobs a keeper submits, and when: timelines of what a cluster says."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tidegate.cli.jobs.keep import Keeper
from tidegate.jobs.cluster import Job, newest_checkpoint

NAMES = ("service-metrics", "alerts")


def job(name: str, state: str = "RUNNING", running: int = 1) -> Job:
    return Job(name, f"id-{name}", state, running, 1)


class World:
    """A keeper with a clock, and what it submitted."""

    def __init__(self, taken: bool = True) -> None:
        self.now = 0.0
        self.submitted: list[str] = []
        self._taken = taken
        self._stop = threading.Event()
        self._keeper = Keeper("127.0.0.1:1", NAMES, self._submit, lambda: self.now)

    def look(self, *found: Job) -> list[str]:
        """What is submitted once the cluster says this."""
        self.submitted.clear()
        self._keeper.look(found, self._stop)
        return list(self.submitted)

    def silence(self) -> list[str]:
        self.submitted.clear()
        self._keeper.look(None, self._stop)
        return list(self.submitted)

    def _submit(self, name: str, stop: threading.Event) -> bool:
        self.submitted.append(name)
        return self._taken


def test_what_the_cluster_does_not_have_is_submitted_once() -> None:
    world = World()
    assert world.look() == list(NAMES)
    assert world.look(*map(job, NAMES)) == []


@pytest.mark.parametrize("state", ["INITIALIZING", "CREATED", "RESTARTING", "RECONCILING", "CANCELLING"])
def test_a_job_that_has_not_ended_is_not_submitted_again(state: str) -> None:
    assert World().look(job("service-metrics", state, running=0), job("alerts")) == []


@pytest.mark.parametrize("state", ["FINISHED", "CANCELED", "FAILED"])
def test_a_job_that_has_ended_is_submitted_again_though_the_cluster_still_lists_it(state: str) -> None:
    assert World().look(job("service-metrics", state, running=0), job("alerts")) == ["service-metrics"]


def test_an_ended_run_beside_one_that_goes_on_changes_nothing() -> None:
    world = World()
    assert world.look(job("service-metrics", "CANCELED"), job("service-metrics"), job("alerts")) == []


def test_other_jobs_of_the_cluster_are_let_alone() -> None:
    assert World().look(*map(job, NAMES), job("somebody-elses", "FAILED")) == []


def test_nothing_is_submitted_while_the_cluster_does_not_answer() -> None:
    world = World()
    assert world.silence() == []
    assert world.look() == list(NAMES)


@pytest.mark.parametrize("taken", [True, False])
def test_one_that_is_refused_or_ends_at_once_is_tried_less_and_less_often(taken: bool) -> None:
    world = World(taken)
    tries = []
    for second in range(600):
        world.now = float(second)
        if world.look(job("alerts")):
            tries.append(second)
    assert 8 < len(tries) < 30
    assert tries[0] == 0
    assert 30 <= tries[-1] - tries[-2] <= 61


def test_one_that_ran_meanwhile_is_submitted_at_once() -> None:
    world = World()
    for second in range(0, 600, 5):
        world.now = float(second)
        world.look(job("alerts"))
    world.look(*map(job, NAMES))
    world.now += 61
    assert world.look(job("alerts")) == ["service-metrics"]
    world.now += 3
    assert world.look(job("alerts")) == ["service-metrics"]


def checkpoint(folder: Path, run: str, number: int, at: int, *, whole: bool = True) -> Path:
    made = folder / run / f"chk-{number}"
    made.mkdir(parents=True)
    if whole:
        metadata = made / "_metadata"
        metadata.touch()
        os.utime(metadata, (at, at))
    return made


def test_the_newest_checkpoint_is_the_newest_whole_one_of_any_run(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "no such job") is None
    checkpoint(tmp_path, "a" * 32, 900, at=1000)
    newest = checkpoint(tmp_path, "b" * 32, 7, at=2000)
    checkpoint(tmp_path, "b" * 32, 8, at=3000, whole=False)
    (tmp_path / ("b" * 32) / "shared").mkdir()
    assert newest_checkpoint(tmp_path) == newest
