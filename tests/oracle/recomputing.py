"""The whole recomputation: raw lines in, expected rows and every line's fate out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.oracle.folding import Fold, by_name_in_every_second
from tests.oracle.identity import OVERFLOW
from tests.oracle.lines import Dead, Position, RawLine, Reason, Request, Skipped, read
from tests.oracle.settings import OracleSettings
from tests.oracle.windows import Row, rows_of

Kind = Literal["counted", "late", "dead", "skipped", "tcp"]
KINDS: tuple[Kind, ...] = ("counted", "late", "dead", "skipped", "tcp")


@dataclass(frozen=True)
class Fate:
    """What became of a line; `reason` and `detail` are for dead ones."""

    kind: Kind
    reason: Reason | None = None
    detail: str = ""


@dataclass(frozen=True)
class Expected:
    """What a job must have written for some lines."""

    rows: Mapping[str, Row]
    fates: Mapping[Position, Fate]
    folded: int
    """Counted lines whose department, task or version is __overflow__."""

    def counts(self) -> dict[Kind, int]:
        """Lines by fate; all kinds are there."""
        found = Counter(fate.kind for fate in self.fates.values())
        return {kind: found[kind] for kind in KINDS}

    def positions(self, kind: Kind) -> frozenset[Position]:
        """Where the lines of one fate stand."""
        return frozenset(position for position, fate in self.fates.items() if fate.kind == kind)


def recompute(
    lines: Sequence[RawLine],
    settings: OracleSettings | None = None,
    late: Collection[Position] = frozenset(),
    fold: Fold = by_name_in_every_second,
) -> Expected:
    """The rows and fates that the design asks for.

    late: which lines the job found late (from `tidegate.late`); `unlawful_lateness` says whether it may have.
    A dead or skipped line keeps its fate even if it stands there.

    Raises ValueError when two lines stand at one position.
    """
    settings = settings or OracleSettings()
    late = frozenset(late)
    fates: dict[Position, Fate] = {}
    counted: list[Request] = []
    for line in lines:
        if line.position in fates:
            raise ValueError(f"{line.position}: two lines at one position")
        found = read(line, settings)
        if isinstance(found, Dead):
            fates[line.position] = Fate("dead", found.reason, found.detail)
        elif isinstance(found, Skipped):
            fates[line.position] = Fate("tcp" if found.tcp else "skipped")
        elif line.position in late:
            fates[line.position] = Fate("late")
        else:
            fates[line.position] = Fate("counted")
            counted.append(found)
    tasks = fold(counted, settings.max_tasks_per_department)
    folded = sum(
        OVERFLOW in (request.department, task, request.version)
        for request, task in zip(counted, tasks, strict=True)
    )
    return Expected(rows_of(counted, tasks, settings), fates, folded)


def compare_fates(
    expected: Expected, late: Collection[Position], dead: Mapping[Position, str], counts: Mapping[str, int]
) -> list[str]:
    """Differences of late lines, dead letters (position to reason) and counters from what was expected."""
    expected_late, expected_dead = expected.positions("late"), expected.positions("dead")
    problems = [
        f"{position}: late, expected {_fate(expected, position)}"
        for position in sorted(set(late) - expected_late)
    ]
    problems += [f"{position}: not late, expected late" for position in sorted(expected_late - set(late))]
    problems += [
        f"{position}: dead letter ({reason}), expected {_fate(expected, position)}"
        for position, reason in sorted(dead.items())
        if position not in expected_dead or expected.fates[position].reason != Reason.of(reason)
    ]
    problems += [
        f"{position}: no dead letter, expected {_fate(expected, position)}"
        for position in sorted(expected_dead - dead.keys())
    ]
    problems += [
        f"lines {kind}: job {counts.get(kind, 0)}, oracle {lines}"
        for kind, lines in {**expected.counts(), "folded": expected.folded}.items()
        if counts.get(kind, 0) != lines
    ]
    return problems


def _fate(expected: Expected, position: Position) -> str:
    fate = expected.fates.get(position)
    if fate is None:
        return "nothing: no such line"
    return f"{fate.kind} ({fate.reason}: {fate.detail})" if fate.reason else fate.kind
