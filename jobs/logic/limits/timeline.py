"""The timeline of one task: its limits beside the traffic of its gateway. Pure: nothing here reads a clock.

A timeline has an entry for each second, with the requests offered and admitted, and the limit and the replicas in
force at its start; one for each event, at its own time; and one for the lag of each limit in force, from the readiness
of a replica to the first request that shows the limit:

    a cut    the first second after the limit was applied with a rejected request
    a raise  the first such second that admitted more than the old limit

A limit that is replaced before that was never shown: the load didn't reach it. Service metrics have a resolution of a
second, so the time of that request is the start of its second.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from tidegate.schemas.rows.base import Count, Ms, Row
from tidegate.schemas.rows.limits import LimitControl, Qps, RateLimitRow, ReplicaChange
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.timestamps import Timestamp, to_epoch_ms, to_text

EventType = Literal["replicas", "control", "decided", "applied", "held", "failed"]
Direction = Literal["first", "cut", "raise", "same"]


class Second(Row):
    """One second of the task. `replicas` (settled) and `limit_qps` are those at its start; null where unknown."""

    type: Literal["second"] = "second"
    at: Timestamp
    offered: Count
    admitted: Count
    rate_limited: Count
    latency_p99_ms: Ms | None
    replicas_seen: Count
    replicas: Count | None
    limit_qps: Qps | None


class TimelineEvent(Row):
    """One event: a settled change of the replicas, a limit row, or an operator's control."""

    type: EventType
    at: Timestamp
    text: str
    revision: int | None = None
    replicas: Count | None = None
    limit_qps: Qps | None = None


class Lag(Row):
    """The time that a limit took to take effect. `at`: when that was certain.

    `ready_at` and `settled_at` are those of the replica change behind the limit; null where there is none, as for an
    override, or for the further steps of a raise. `shown_at`: the start of the second that shows the limit; null where
    none does.
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


Entry = Second | TimelineEvent | Lag
_ORDER = {
    name: place
    for place, name in enumerate(
        ("replicas", "control", "decided", "applied", "held", "failed", "second", "lag")
    )
}


@dataclass
class TimelineRows:
    """The rows of one task, in any order of arrival; of a row that arrives twice the last form.

    whole_since: from when on no limit row is missing. Before it, which limit was a change's first is unknown.
    """

    whole_since: datetime
    windows: dict[str, ServiceMetricsRow] = field(default_factory=dict)
    changes: dict[str, ReplicaChange] = field(default_factory=dict)
    limits: dict[tuple[int, str, datetime], RateLimitRow] = field(default_factory=dict)
    controls: dict[tuple[str, datetime], LimitControl] = field(default_factory=dict)

    def add(self, row: ServiceMetricsRow | ReplicaChange | RateLimitRow | LimitControl) -> None:
        """Add a row."""
        if isinstance(row, ServiceMetricsRow):
            self.windows[row.id] = row
        elif isinstance(row, ReplicaChange):
            self.changes[row.id] = row
        elif isinstance(row, RateLimitRow):
            self.limits[row.revision, row.state, row.decided_at] = row
        else:
            self.controls[row.id, row.set_at] = row

    def forget_before(self, moment: datetime) -> None:
        """Remove the seconds before this time. The few events stay, since later limits follow them."""
        self.windows = {name: row for name, row in self.windows.items() if row.window_start >= moment}


def timeline(record: TimelineRows, since: datetime, until: datetime, *, ended: bool) -> list[Entry]:
    """The entries from `since` until before `until`, in the order of time.

    ended: no row will follow, so the lag of a limit that no request has shown is included.
    """
    limits = _Limits(record.limits.values())
    entries: list[Entry] = [
        *_seconds(record, limits),
        *(_changed(change) for change in record.changes.values()),
        *(_limited(row) for row in record.limits.values()),
        *_controlled(record.controls.values()),
        *_lags(record, limits, since, until if ended else None),
    ]
    return sorted((entry for entry in entries if since <= entry.at < until), key=_place)


class EntryFilter:
    """Passes each entry of a growing timeline once."""

    def __init__(self) -> None:
        self._passed: set[tuple[str, datetime, int | None]] = set()

    def new(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries that have not passed before."""
        new = [entry for entry in entries if _name(entry) not in self._passed]
        self._passed |= {_name(entry) for entry in new}
        return new

    def forget_before(self, moment: datetime) -> None:
        """Forget the entries before this time, which the timeline no longer holds."""
        self._passed = {name for name in self._passed if name[1] >= moment}


@dataclass(frozen=True)
class _AppliedLimit:
    """A limit row, and since when its limit is in force."""

    applied_at: datetime
    row: RateLimitRow


class _Limits:
    """The limits that were in force, in order: each until the next one is applied."""

    def __init__(self, rows: Iterable[RateLimitRow]) -> None:
        # A held row holds the limit in force too, which may have been applied before the first row that is read.
        # An applied row of the same revision is more precise: it comes last.
        found = {
            row.revision: _AppliedLimit(row.applied_at, row)
            for row in sorted(rows, key=lambda row: row.state, reverse=True)
            if row.state in ("applied", "held") and row.applied_at is not None and row.limit_qps is not None
        }
        self.every = sorted(found.values(), key=lambda one: (one.applied_at, one.row.revision))
        self._moments = [one.applied_at for one in self.every]

    def at(self, moment: datetime) -> RateLimitRow | None:
        place = bisect_right(self._moments, moment)
        return self.every[place - 1].row if place else None


def _seconds(record: TimelineRows, limits: _Limits) -> Iterator[Second]:
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


def _changed(change: ReplicaChange) -> TimelineEvent:
    before = "unknown" if change.replicas_before is None else str(change.replicas_before)
    held = (change.settled_at - change.first_seen_at).total_seconds()
    return TimelineEvent(
        type="replicas",
        at=change.settled_at,
        text=f"ready replicas {before} -> {change.replicas_after} ({change.cause}), first seen {held:.1f} s before",
        revision=change.revision,
        replicas=change.replicas_after,
    )


def _limited(row: RateLimitRow) -> TimelineEvent:
    moment = row.applied_at if row.state == "applied" and row.applied_at else row.decided_at
    limit = (
        "no limit"
        if row.limit_qps is None
        else f"{row.limit_qps:g} qps, {row.limit_qps_per_gateway:g} a gateway, burst {row.burst}"
    )
    return TimelineEvent(
        type=row.state,
        at=moment,
        text=f"{limit}, revision {row.revision}: {row.reason}",
        revision=row.revision,
        replicas=row.replicas,
        limit_qps=row.limit_qps,
    )


def _controlled(controls: Iterable[LimitControl]) -> Iterator[TimelineEvent]:
    ordered = sorted(controls, key=lambda control: (control.id, control.set_at))
    for number, control in enumerate(ordered):
        scope = "all tasks: " if control.task is None else ""
        if control.paused:
            effect = "paused"
        elif control.override_qps is not None:
            end = "" if control.expires_at is None else f" until {to_text(control.expires_at)}"
            effect = f"override of {control.override_qps:g} qps{end}"
        else:
            effect = "back to the computed limit"
        yield TimelineEvent(
            type="control",
            at=control.set_at,
            text=f"{scope}{effect}, by {control.by}: {control.reason}",
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
            yield TimelineEvent(
                type="control",
                at=expires_at,
                text=f"{scope}the override of {control.override_qps:g} qps by {control.by} has ended",
            )


def _lags(record: TimelineRows, limits: _Limits, since: datetime, end: datetime | None) -> Iterator[Lag]:
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
        certain_at = shown_at or replaced_at or (None if end is None else end - timedelta(milliseconds=1))
        if direction == "same":
            certain_at = one.applied_at
        if certain_at is None:
            continue
        change = causes.get(row.revision)
        yield Lag(
            at=max(certain_at, one.applied_at),
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
    """The start of the first of these seconds that shows the limit while it is in force."""
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


def _causes(record: TimelineRows, limits: _Limits) -> dict[int, ReplicaChange]:
    """The change behind each limit in force that was the first to follow it, by revision."""
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
        # `at` may grow while the lag is the same one.
        return entry.type, entry.applied_at, entry.revision
    return entry.type, entry.at, entry.revision if isinstance(entry, TimelineEvent) else None


def steps(lag: Lag) -> list[tuple[str, float | None]]:
    """The names of a lag's steps, each with its seconds since the step before; None: the step was not seen."""
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
