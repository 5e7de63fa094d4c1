"""Plays a scenario's moves: replicas leave and join at set times of the day, and become ready after their warm-up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from tidegate.demo.director import Director
from tidegate.demo.scenario import Move, Scenario

What = Literal["left", "joined", "became ready"]


@dataclass(frozen=True)
class Moved:
    """A completed move of several replicas of a task, at a moment (epoch, ms)."""

    at_ms: int
    department: str
    task: str
    what: What
    replicas: int


@dataclass(frozen=True)
class _Act:
    """Replicas of one task that move together. at: part of the day that is over then."""

    at: float
    joins: bool
    department: str
    task: str
    names: tuple[str, ...]

    def moved(self, what: What, now_ms: int) -> Moved:
        return Moved(now_ms, self.department, self.task, what, len(self.names))


class Moves:
    """One scenario's moves, each made once."""

    def __init__(self, scenario: Scenario, director: Director) -> None:
        self._director = director
        self._warm_up_ms = round(scenario.warm_up_seconds * 1000)
        self._acts = list(_acts(scenario))
        self._warming: list[tuple[int, _Act]] = []

    def step(self, fraction: float, now_ms: int) -> list[Moved]:
        """Make the moves that are due. fraction: how much of the day is over."""
        moved = []
        for due_ms, act in list(self._warming):
            if now_ms >= due_ms:
                self._warming.remove((due_ms, act))
                self._director.ready(*act.names)
                moved.append(act.moved("became ready", now_ms))
        while self._acts and fraction >= self._acts[0].at:
            act = self._acts.pop(0)
            if act.joins:
                self._director.join(*act.names)
                self._warming.append((now_ms + self._warm_up_ms, act))
            else:
                self._director.leave(*act.names)
            moved.append(act.moved("joined" if act.joins else "left", now_ms))
        return moved


def _acts(scenario: Scenario) -> Iterator[_Act]:
    task_of = {replica.name: task for task, replica in scenario.replicas()}

    def act_of(move: Move) -> tuple[float, bool, str, str]:
        task = task_of[move.replica]
        return move.at, move.joins, task.department, task.name

    for act, together in groupby(sorted(scenario.moves, key=act_of), key=act_of):
        yield _Act(*act, tuple(move.replica for move in together))
