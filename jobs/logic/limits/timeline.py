"""One task's limits beside what its gateway saw: rows in, one timeline out. Pure: nothing here reads a clock.

Every second of the task with what was offered and admitted, and the limit and the replicas that held when it began;
between them what happened, each at its own moment; and after each limit in force how long it took from the readiness
of a replica to the first request that shows it:

    a cut    the first second, begun after the limit was applied, with a request that was refused
    a raise  the first such second that admitted more than the old limit

A limit that is replaced before has not been seen: the load never reached it. Seconds are all that the service metrics
know, so the moment of that request is its second's begin.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from tidegate.schemas.rows.limits import LimitControl, Qps, RateLimitRow, ReplicaChange
from tidegate.schemas.rows.service_metrics import Count, Ms, Row, ServiceMetricsRow
from tidegate.schemas.timestamps import Timestamp, to_epoch_ms, to_text

What = Literal["replicas", "control", "decided", "applied", "held", "failed"]
Direction = Literal["first", "cut", "raise", "same"]


class Second(Row):
    """One second of the task. `replicas` (settled) and `limit_qps` held when it began; null where unknown."""

    type: Literal["second"] = "second"
    at: Timestamp
    offered: Count
    admitted: Count
    rate_limited: Count
    latency_p99_ms: Ms | None
    replicas_seen: Count
    replicas: Count | None
    limit_qps: Qps | None


class Happening(Row):
    """What happened: replicas settled, a limit row, an operator's word."""

    type: What
    at: Timestamp
    text: str
    revision: int | None = None
    replicas: Count | None = None
    limit_qps: Qps | None = None


class Lag(Row):
    """How long a limit took. `at`: when that was clear.

    `ready_at` and `settled_at` are of the replica change that it follows; null where it follows none, as for an
    override, or for the further steps of a raise. `shown_at` null: not seen.
    """

    type: Literal["lag"] = "lag"
    at: Timestamp
    revision: int
    direction: Direction
    from_qps: Qps | None
    to_qps: Qps
    change_id: str | None
    ready_at: Timestamp | None
    settled_at: Timestamp | None
    decided_at: Timestamp
    applied_at: Timestamp
    shown_at: Timestamp | None


Entry = Second | Happening | Lag
_ORDER = {
    name: place
    for place, name in enumerate(
        ("replicas", "control", "decided", "applied", "held", "failed", "second", "lag")
    )
}


@dataclass
class Record:
    """The rows of one task, in whatever order they come; of a row that comes twice the last form.

    whole_since: from when on no limit row is missing. Before, it isn't known which limit was a change's first.
    """

    whole_since: datetime
    windows: dict[str, ServiceMetricsRow] = field(default_factory=dict)
    changes: dict[str, ReplicaChange] = field(default_factory=dict)
    limits: dict[tuple[int, str, datetime], RateLimitRow] = field(default_factory=dict)
    controls: dict[tuple[str, datetime], LimitControl] = field(default_factory=dict)

    def add(self, row: ServiceMetricsRow | ReplicaChange | RateLimitRow | LimitControl) -> None:
        """Take a row."""
        if isinstance(row, ServiceMetricsRow):
            self.windows[row.id] = row
        elif isinstance(row, ReplicaChange):
            self.changes[row.id] = row
        elif isinstance(row, RateLimitRow):
            self.limits[row.revision, row.state, row.decided_at] = row
        else:
            self.controls[row.id, row.set_at] = row

    def forget_before(self, moment: datetime) -> None:
        """Without the seconds before. What happened stays: there is little of it, and later limits follow it."""
        self.windows = {name: row for name, row in self.windows.items() if row.window_start >= moment}


def timeline(record: Record, since: datetime, until: datetime, *, ended: bool) -> list[Entry]:
    """All that is between the two moments, the second one excluded, in the order of time.

    ended: nothing more will come, so what has not been seen by now is told.
    """
    limits = _Limits(record.limits.values())
    entries: list[Entry] = [
        *_seconds(record, limits),
        *(_changed(change) for change in record.changes.values()),
        *(_limited(row) for row in record.limits.values()),
        *_said(record.controls.values()),
        *_lags(record, limits, since, until if ended else None),
    ]
    return sorted((entry for entry in entries if since <= entry.at < until), key=_place)


class Follower:
    """Tells each entry of a timeline that grows once."""

    def __init__(self) -> None:
        self._told: set[tuple[str, datetime, int | None]] = set()

    def new(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that were not told before."""
        found = [entry for entry in entries if _name(entry) not in self._told]
        self._told |= {_name(entry) for entry in found}
        return found

    def forget_before(self, moment: datetime) -> None:
        """What happened before won't be given again."""
        self._told = {name for name in self._told if name[1] >= moment}


@dataclass(frozen=True)
class _InForce:
    applied_at: datetime
    row: RateLimitRow


class _Limits:
    """The limits that were in force, in order: each from its moment until the next one's."""

    def __init__(self, rows: Iterable[RateLimitRow]) -> None:
        # A held row says what is in force too, though it may have been applied before anything that we have read.
        # An applied row of the same revision says more: it comes last.
        found = {
            row.revision: _InForce(row.applied_at, row)
            for row in sorted(rows, key=lambda row: row.state, reverse=True)
            if row.state in ("applied", "held") and row.applied_at is not None and row.limit_qps is not None
        }
        self.every = sorted(found.values(), key=lambda one: (one.applied_at, one.row.revision))
        self._moments = [one.applied_at for one in self.every]

    def at(self, moment: datetime) -> RateLimitRow | None:
        place = bisect_right(self._moments, moment)
        return self.every[place - 1].row if place else None


def _seconds(record: Record, limits: _Limits) -> Iterator[Second]:
    changes = sorted(record.changes.values(), key=lambda change: change.revision)
    settled = [change.settled_at for change in changes]
    for row in record.windows.values():
        place = bisect_right(settled, row.window_start)
        replicas = (
            changes[place - 1].replicas_after if place else (changes[0].replicas_before if changes else None)
        )
        limit = limits.at(row.window_start)
        yield Second(
            at=row.window_start,
            offered=row.requests,
            admitted=row.requests - row.rate_limited,
            rate_limited=row.rate_limited,
            latency_p99_ms=row.latency_p99_ms,
            replicas_seen=row.replicas_seen,
            replicas=replicas,
            limit_qps=limit.limit_qps if limit else None,
        )


def _changed(change: ReplicaChange) -> Happening:
    before = "unknown" if change.replicas_before is None else str(change.replicas_before)
    held = (change.settled_at - change.first_seen_at).total_seconds()
    return Happening(
        type="replicas",
        at=change.settled_at,
        text=f"ready replicas {before} -> {change.replicas_after} ({change.cause}), first seen {held:.1f} s before",
        revision=change.revision,
        replicas=change.replicas_after,
    )


def _limited(row: RateLimitRow) -> Happening:
    moment = row.applied_at if row.state == "applied" and row.applied_at else row.decided_at
    limit = (
        "no limit"
        if row.limit_qps is None
        else f"{row.limit_qps:g} qps, {row.limit_qps_per_gateway:g} a gateway, burst {row.burst}"
    )
    return Happening(
        type=row.state,
        at=moment,
        text=f"{limit}, revision {row.revision}: {row.reason}",
        revision=row.revision,
        replicas=row.replicas,
        limit_qps=row.limit_qps,
    )


def _said(controls: Iterable[LimitControl]) -> Iterator[Happening]:
    ordered = sorted(controls, key=lambda control: (control.id, control.set_at))
    for number, control in enumerate(ordered):
        whom = "all tasks: " if control.task is None else ""
        if control.paused:
            word = "paused"
        elif control.override_qps is not None:
            end = "" if control.expires_at is None else f" until {to_text(control.expires_at)}"
            word = f"override of {control.override_qps:g} qps{end}"
        else:
            word = "back to the computed limit"
        yield Happening(
            type="control",
            at=control.set_at,
            text=f"{whom}{word}, by {control.by}: {control.reason}",
            limit_qps=control.override_qps,
        )
        after = ordered[number + 1] if number + 1 < len(ordered) else None
        replaced_at = after.set_at if after is not None and after.id == control.id else None
        expires_at = control.expires_at
        if (
            control.override_qps is not None
            and expires_at is not None
            and (replaced_at is None or replaced_at > expires_at)
        ):
            yield Happening(
                type="control",
                at=expires_at,
                text=f"{whom}the override of {control.override_qps:g} qps by {control.by} has ended",
            )


def _lags(record: Record, limits: _Limits, since: datetime, end: datetime | None) -> Iterator[Lag]:
    causes = _causes(record, limits)
    windows = sorted(record.windows.values(), key=lambda row: row.window_start)
    starts = [row.window_start for row in windows]
    befores = [None, *(one.row for one in limits.every)]
    ends = [*(one.applied_at for one in limits.every[1:]), None]
    for one, before, replaced_at in zip(limits.every, befores, ends, strict=False):
        row, to_qps = one.row, one.row.limit_qps
        if row.state != "applied" or to_qps is None or one.applied_at < since:
            continue
        direction = _direction(before, to_qps)
        first = bisect_right(starts, one.applied_at - timedelta(microseconds=1))
        shown_at = _shown(windows[first:], direction, before, replaced_at)
        clear_at = shown_at or replaced_at or (None if end is None else end - timedelta(milliseconds=1))
        if direction == "same":
            clear_at = one.applied_at
        if clear_at is None:
            continue
        change = causes.get(row.revision)
        yield Lag(
            at=max(clear_at, one.applied_at),
            revision=row.revision,
            direction=direction,
            from_qps=before.limit_qps if before else None,
            to_qps=to_qps,
            change_id=change.id if change else None,
            ready_at=change.first_seen_at if change else None,
            settled_at=change.settled_at if change else None,
            decided_at=row.decided_at,
            applied_at=one.applied_at,
            shown_at=shown_at,
        )


def _direction(before: RateLimitRow | None, to_qps: float) -> Direction:
    if before is None or before.limit_qps is None:
        return "first"
    if to_qps == before.limit_qps:
        return "same"
    return "cut" if to_qps < before.limit_qps else "raise"


def _shown(
    windows: Sequence[ServiceMetricsRow],
    direction: Direction,
    before: RateLimitRow | None,
    replaced_at: datetime | None,
) -> datetime | None:
    """The begin of the first of these seconds that shows the limit, while it was in force."""
    old_qps = before.limit_qps if before else None
    for row in windows:
        if replaced_at is not None and row.window_start >= replaced_at:
            return None
        admitted_qps = (row.requests - row.rate_limited) / (row.window_end - row.window_start).total_seconds()
        if direction == "raise" and old_qps is not None:
            shows = admitted_qps > old_qps
        else:
            shows = direction != "same" and row.rate_limited > 0
        if shows:
            return row.window_start
    return None


def _causes(record: Record, limits: _Limits) -> dict[int, ReplicaChange]:
    """By revision, the change that a limit in force was the first to follow."""
    found: dict[int, ReplicaChange] = {}
    followed: set[str] = set()
    for one in limits.every:
        change = record.changes.get(one.row.change_id or "")
        if change is None or change.id in followed:
            continue
        followed.add(change.id)
        if change.settled_at >= record.whole_since:
            found[one.row.revision] = change
    return found


def _place(entry: Entry) -> tuple[int, int, int]:
    revision = 0 if isinstance(entry, Second) else entry.revision or 0
    return to_epoch_ms(entry.at), _ORDER[entry.type], revision


def _name(entry: Entry) -> tuple[str, datetime, int | None]:
    if isinstance(entry, Lag):
        # When it is seen again, later, it has been seen already.
        return entry.type, entry.applied_at, entry.revision
    return entry.type, entry.at, entry.revision if isinstance(entry, Happening) else None


def steps(lag: Lag) -> list[tuple[str, float | None]]:
    """The steps of a lag in words, each with its seconds since the step before; None: it has not happened."""
    shown = "first request over the old limit" if lag.direction == "raise" else "first refused request"
    moments = [
        ("settled", lag.settled_at),
        ("decided", lag.decided_at),
        ("applied", lag.applied_at),
        *([] if lag.direction == "same" else [(shown, lag.shown_at)]),
    ]
    begin = [("ready", lag.ready_at), *moments] if lag.ready_at else moments[1:]
    return [
        (name, None if at is None or before is None else (at - before).total_seconds())
        for (_, before), (name, at) in pairwise(begin)
    ]
