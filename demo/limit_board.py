"""Summarises limits that follow replicas for the demo's tables. Pure: `now` is passed in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.demo.board import Counts, Group
from tidegate.demo.moves import Moved
from tidegate.schemas.rows.limits import RateLimitRow, ReplicaChange, ReplicasRow
from tidegate.schemas.timestamps import to_epoch_ms

NEWEST_SECONDS = 5
"""The number of a task's newest seconds that its requests are averaged over."""
BUCKET_MS = 3000
"""A new token bucket starts full with one second's tokens; at 1.5 times the limit they last two seconds."""
ALLOWANCE_MS: Mapping[str, int] = {"left": 15_000, "became ready": 30_000}
"""The time within which a limit must follow, on a slow machine, its window included."""
_EARLIER_MS = 250
"""A poll of the replicas that began just before a move may observe it already."""
Seconds = Mapping[int, Counts]
"""Counts by the second's start (epoch, ms)."""


@dataclass(frozen=True)
class LimitLine:
    """A task whose limit tidegate sets, now. None: not known yet.

    trouble: the controller's reason for a held or failed limit, else None.
    """

    department: str
    task: str
    ready: int | None
    starting: int
    limit_qps: float | None
    offered_qps: float
    admitted_qps: float
    limited_qps: float
    trouble: str | None = None


@dataclass(frozen=True)
class Followed:
    """The effects of one move, in seconds since the move; None: not yet.

    seen_s: observed by the watcher. settled_s: settled by the job. applied_s: the gateway has the limit.
    admitted_before, admitted_after: of the limit that was in force, in the seconds before the move, and in those after
    the new limit's first bucket was used up; None where there are none.
    """

    moved: Moved
    seen_s: float | None = None
    settled_s: float | None = None
    decided_s: float | None = None
    applied_s: float | None = None
    from_qps: float | None = None
    to_qps: float | None = None
    admitted_before: float | None = None
    admitted_after: float | None = None

    def overdue(self, end_ms: int) -> bool:
        """Whether the limit should have been in force by this moment, and was not."""
        allowed_ms = ALLOWANCE_MS.get(self.moved.what)
        return allowed_ms is not None and self.applied_s is None and end_ms > self.moved.at_ms + allowed_ms


class LimitBoard:
    """Keeps the closed loop's rows of the tasks whose limit tidegate sets. A row that comes twice counts once."""

    def __init__(self, tasks: Sequence[Group]) -> None:
        """tasks: in the order in which they are shown."""
        self._tasks = tasks
        self._replicas: dict[Group, ReplicasRow] = {}
        self._changes: dict[str, ReplicaChange] = {}
        self._limits: dict[str, RateLimitRow] = {}
        self._newest: dict[Group, RateLimitRow] = {}
        self._moved: list[Moved] = []

    def add(self, row: ReplicasRow | ReplicaChange | RateLimitRow) -> None:
        """Take in one row, in the order of its topic's partition."""
        group = (row.department, row.task)
        if isinstance(row, ReplicasRow):
            self._replicas[group] = row
        elif isinstance(row, ReplicaChange):
            self._changes[row.id] = row
        else:
            self._limits[row.id] = row
            self._newest[group] = row

    def add_moves(self, moved: Sequence[Moved]) -> None:
        """Take in moves of replicas."""
        self._moved += moved

    @property
    def changes(self) -> int:
        """Settled changes of all tasks."""
        return len(self._changes)

    @property
    def limits(self) -> int:
        """Rows about limits."""
        return len(self._limits)

    @property
    def pushes(self) -> int:
        """Limits that came into force."""
        return sum(row.state == "applied" for row in self._limits.values())

    def lines(self, seconds: Mapping[Group, Seconds]) -> list[LimitLine]:
        """Each task now, with its requests in its newest seconds."""
        return [self._line(group, seconds.get(group, {})) for group in self._tasks]

    def followed(self, seconds: Mapping[Group, Seconds], end_ms: int) -> list[Followed]:
        """The effects of each move, in the order of time. end_ms: when the load ended, or now.

        Leaves out the joining of replicas that are ready since.
        """
        later = [
            (moved.department, moved.task, moved.replicas)
            for moved in self._moved
            if moved.what == "became ready"
        ]
        found = []
        for moved in self._moved:
            key = (moved.department, moved.task, moved.replicas)
            if moved.what == "joined" and key in later:
                later.remove(key)
                continue
            found.append(self._followed(moved, seconds.get((moved.department, moved.task), {}), end_ms))
        return found

    def _line(self, group: Group, seconds: Seconds) -> LimitLine:
        replicas, newest = self._replicas.get(group), self._newest.get(group)
        shown = sorted(seconds)[-NEWEST_SECONDS:]
        counts = sum((seconds[start] for start in shown), Counts())
        span = max(1, len(shown))
        in_force = self._in_force(group, math.inf)
        troubled = newest is not None and newest.state in ("held", "failed")
        return LimitLine(
            *group,
            ready=replicas.replicas_ready if replicas else None,
            starting=replicas.replicas_starting if replicas else 0,
            limit_qps=in_force.limit_qps if in_force else None,
            offered_qps=counts.requests / span,
            admitted_qps=(counts.requests - counts.rate_limited) / span,
            limited_qps=counts.rate_limited / span,
            trouble=f"{newest.state}: {newest.reason}" if newest and troubled else None,
        )

    def _followed(self, moved: Moved, seconds: Seconds, end_ms: int) -> Followed:
        group = (moved.department, moved.task)
        before = self._in_force(group, moved.at_ms)
        before_from_ms = (
            max(_applied_ms(before) if before else 0, min(seconds, default=moved.at_ms)) + BUCKET_MS
        )
        admitted_before = _admitted(seconds, before, before_from_ms, min(moved.at_ms, end_ms))
        change = self._change(moved)
        if change is None:
            return Followed(moved, admitted_before=admitted_before)
        seen_s, settled_s = (
            _after(moved, to_epoch_ms(moment)) for moment in (change.first_seen_at, change.settled_at)
        )
        first = self._first_limit(group, change)
        if first is None:
            return Followed(moved, seen_s, settled_s, admitted_before=admitted_before)
        decided_s = _after(moved, to_epoch_ms(first.decided_at))
        applied = self._limits.get(first.id.rpartition("|")[0] + "|applied")
        if applied is None:
            return Followed(
                moved, seen_s, settled_s, decided_s, to_qps=first.limit_qps, admitted_before=admitted_before
            )
        applied_ms = _applied_ms(applied)
        until_ms = min([end_ms, *self._ends(moved, applied)])
        return Followed(
            moved,
            seen_s,
            settled_s,
            decided_s,
            _after(moved, applied_ms),
            from_qps=before.limit_qps if before else None,
            to_qps=applied.limit_qps,
            admitted_before=admitted_before,
            admitted_after=_admitted(seconds, applied, applied_ms + BUCKET_MS, until_ms),
        )

    def _ends(self, moved: Moved, applied: RateLimitRow) -> list[int]:
        """The moments that end a limit's measurement: the next relevant move, and the next limit."""
        moves = [
            other.at_ms
            for other in self._moved
            if (other.department, other.task) == (moved.department, moved.task)
            and other.at_ms > moved.at_ms
            and other.what != "joined"
        ]
        limits = [
            _applied_ms(row)
            for row in self._limits.values()
            if (row.department, row.task) == (moved.department, moved.task)
            and row.state == "applied"
            and row.revision > applied.revision
        ]
        return [*moves, *limits]

    def _change(self, moved: Moved) -> ReplicaChange | None:
        """The first settled change in the move's direction since the move."""
        found = [
            change
            for change in self._changes.values()
            if (change.department, change.task) == (moved.department, moved.task)
            and to_epoch_ms(change.first_seen_at) >= moved.at_ms - _EARLIER_MS
            and change.replicas_before is not None
            and moved.what != "joined"
            and (change.replicas_after > change.replicas_before) == (moved.what == "became ready")
        ]
        return min(found, key=lambda change: change.revision, default=None)

    def _first_limit(self, group: Group, change: ReplicaChange) -> RateLimitRow | None:
        found = [
            row
            for row in self._limits.values()
            if (row.department, row.task) == group
            and row.change_id == change.id
            and row.state in ("decided", "applied")
        ]
        return min(found, key=lambda row: (row.revision, row.decided_at), default=None)

    def _in_force(self, group: Group, at_ms: float) -> RateLimitRow | None:
        """The limit that was in force at a moment."""
        found = [
            row
            for row in self._limits.values()
            if (row.department, row.task) == group and row.state == "applied" and _applied_ms(row) <= at_ms
        ]
        return max(found, key=lambda row: row.revision, default=None)


def _applied_ms(row: RateLimitRow) -> int:
    return to_epoch_ms(row.applied_at or row.decided_at)


def _after(moved: Moved, moment_ms: int) -> float:
    return max(0, moment_ms - moved.at_ms) / 1000


def _admitted(seconds: Seconds, limit: RateLimitRow | None, from_ms: int, until_ms: int) -> float | None:
    """Admitted requests of the whole seconds between two moments, as a part of what the limit allows.

    Up to the newest second that is known; None where there is none.
    """
    if limit is None or limit.limit_qps is None or not seconds:
        return None
    first = math.ceil(from_ms / 1000) * 1000
    end = min(until_ms // 1000 * 1000, max(seconds) + 1000)
    count = (end - first) // 1000
    if count <= 0:
        return None
    counted = (seconds.get(start, Counts()) for start in range(first, end, 1000))
    admitted = sum(counts.requests - counts.rate_limited for counts in counted)
    return admitted / count / limit.limit_qps
