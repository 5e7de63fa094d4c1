"""Replaying recorded events to the limits that would have been: the job and the controller without Kafka and a clock.

Time goes from event to event, and to each time in between at which a count settles or a limit may rise. The gateway
is ideal: a decision is in force at once. So the same events give the same rows, byte for byte, in any order and any
batches: the events of one time are applied together, in an order of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from tidegate.jobs.logic.catalog_rows import RowCatalog
from tidegate.jobs.logic.limits.book import LimitBook
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.inputs import Timing
from tidegate.jobs.logic.limits.rate_limits import Pace
from tidegate.jobs.logic.limits.replay_events import RecordedEvent
from tidegate.jobs.logic.replicas.changes import Windows, next_due_ms
from tidegate.jobs.logic.replicas.task_replicas import TaskReplicas
from tidegate.schemas.catalog import Catalog
from tidegate.schemas.rows.limits import (
    GatewayRow,
    LimitControl,
    RateLimitRow,
    ReplicaChange,
    ReplicasRow,
    TaskRow,
)
from tidegate.schemas.timestamps import to_epoch_ms

TARGET = "replay"
_NEVER = -1


@dataclass(frozen=True)
class ReplaySettings:
    """The settings to replay with.

    stale_ms: of the job replica-changes. tail_ms: how long the replay continues after the last event.
    gateways: the ready pods of each gateway without an event of its own; None: unknown.
    """

    windows: Windows = field(default_factory=Windows)
    stale_ms: int = 90_000
    pace: Pace = field(default_factory=Pace)
    timing: Timing = field(default_factory=Timing)
    tail_ms: int = 120_000
    gateways: int | None = None


@dataclass(frozen=True)
class ReplayResult:
    """The rows of state `applied` and `held`, in order, and notes on what the recording lacks."""

    rows: list[RateLimitRow]
    notes: list[str]


def replay(
    events: Iterable[RecordedEvent], settings: ReplaySettings, catalog: Catalog | None = None
) -> ReplayResult:
    """Decide over recorded events.

    catalog: instead of the events' own. Settled changes count only where no event holds raw replicas. The catalog and
    the controls from before the first heartbeat count from that heartbeat on.
    """
    ordered = sorted(events, key=lambda event: event.place)
    if any(isinstance(event.row, ReplicasRow) for event in ordered):
        ordered = [event for event in ordered if not isinstance(event.row, ReplicaChange)]
    if catalog is not None:
        ordered = [event for event in ordered if not event.is_catalog]
    heartbeats = [
        event for event in ordered if isinstance(event.row, ReplicasRow | ReplicaChange | GatewayRow)
    ]
    if all(isinstance(event.row, GatewayRow) for event in heartbeats):
        return ReplayResult(
            [], ["no event holds replicas, so there is nothing to decide: record kubernetes.replicas"]
        )
    start_ms = heartbeats[0].at_ms
    run = _ReplayRun(settings, catalog, ordered, start_ms)
    for at_ms, batch in groupby(ordered, key=lambda event: max(event.at_ms, start_ms)):
        run.advance_before(at_ms)
        run.step(at_ms, list(batch))
    run.advance_before(run.last_ms + settings.tail_ms + 1)
    return ReplayResult(run.rows, list(run.notes()))


class _ReplayRun:
    """A limit book, with the job replica-changes before it and ideal gateways behind it."""

    def __init__(
        self, settings: ReplaySettings, catalog: Catalog | None, events: list[RecordedEvent], start_ms: int
    ) -> None:
        self.rows: list[RateLimitRow] = []
        self.last_ms = max(event.at_ms for event in events)
        self._settings = settings
        self._start_ms = start_ms
        self._book = LimitBook(settings.pace, settings.timing, TARGET, start_ms)
        self._catalog = RowCatalog()
        self._held: dict[str, dict[TaskKey, Limit]] = {}
        self._replicas: dict[TaskKey, TaskReplicas] = {}
        self._settles_ms: dict[TaskKey, int] = {}
        self._ready: dict[str, int] = {}
        self._observed_ms: dict[TaskKey | str, int] = {}
        # Settled changes hold no heartbeats: their source is assumed to send them all the time.
        self._assumes_heartbeats = not any(isinstance(event.row, ReplicasRow) for event in events)
        self._recorded_tasks = {
            TaskKey(event.row.department, event.row.task)
            for event in events
            if isinstance(event.row, ReplicasRow | ReplicaChange)
        }
        self._recorded_gateways = {event.row.gateway for event in events if isinstance(event.row, GatewayRow)}
        self._due_ms: int | None = start_ms
        self._silence_ms = start_ms
        self._reads_gateways = True
        self._rejected_rows: list[str] = []
        if catalog is not None:
            self._book.apply_catalog(catalog.tasks.values())

    def advance_before(self, end_ms: int) -> None:
        """Take the steps that are due before this time."""
        while (due_ms := self._next_ms()) is not None and due_ms < end_ms:
            self.step(due_ms, [])

    def step(self, at_ms: int, events: list[RecordedEvent]) -> None:
        """Apply the events of this time, and decide if they can change a limit."""
        decides = self._due_ms is not None and self._due_ms <= at_ms
        for event in events:
            decides |= self._apply(event, at_ms)
        for key in [key for key, due_ms in self._settles_ms.items() if due_ms <= at_ms]:
            self._replicas[key], changes = self._replicas[key].wait(self._settings.windows, at_ms)
            decides |= self._settled(key, changes)
        self._assume_heartbeats(at_ms)
        if self._reads_gateways or at_ms >= self._silence_ms:
            decides |= self._is_any_silent(at_ms)
        if decides or self._reads_gateways:
            self._decide(at_ms)

    def notes(self) -> Iterator[str]:
        """What the recording lacks, and rows that are not valid."""
        yield from self._rejected_rows
        tasks = set(self._book.task_keys())
        if not tasks:
            yield "no task catalog: give --catalog FILE, or record tidegate.tasks too"
            return
        if unknown := sorted(map(str, self._recorded_tasks - tasks)):
            yield f"{len(unknown)} tasks are not in the catalog: {_some(unknown)}"
        if unrecorded := sorted(map(str, tasks - self._recorded_tasks)):
            yield f"{len(unrecorded)} tasks of the catalog have no events: {_some(unrecorded)}"
        silent = sorted(name for name in self._book.gateways() if self._book.ready_pods(name) is None)
        if silent:
            yield f"no event holds the ready pods of gateway {_some(silent)}: give --gateways N"

    def _next_ms(self) -> int | None:
        moments = [self._silence_ms, *self._settles_ms.values()]
        return min(moments if self._due_ms is None else [self._due_ms, *moments])

    def _apply(self, event: RecordedEvent, at_ms: int) -> bool:
        """Apply one event. Returns whether it can change a decision."""
        row = event.row
        if isinstance(row, ReplicasRow):
            key = TaskKey(row.department, row.task)
            known = self._replicas.get(key) or TaskReplicas(row.department, row.task)
            self._replicas[key], changes = known.observe(row, self._settings.windows, self._settings.stale_ms)
            self._book.observe_heartbeat(key, at_ms)
            return self._settled(key, changes) | self._was_silent(key, at_ms)
        if isinstance(row, ReplicaChange):
            self._observed_ms[TaskKey(row.department, row.task)] = at_ms
            self._book.apply_change(row)
        elif isinstance(row, GatewayRow):
            self._book.observe_gateway(row.gateway, row.gateways_ready, at_ms)
            before, self._ready[row.gateway] = self._ready.get(row.gateway), row.gateways_ready
            return self._was_silent(row.gateway, at_ms) | (before != row.gateways_ready)
        elif isinstance(row, LimitControl):
            self._book.apply_control(row)
        elif event.is_catalog:
            self._apply_catalog(event.key, row)
        else:
            self._book.remove_control(event.key)
        return True

    def _apply_catalog(self, key: str, row: TaskRow | None) -> None:
        if reason := self._catalog.put(key, row):
            self._rejected_rows.append(f"a row of the catalog is not valid, and ignored: {reason}")
            return
        self._book.apply_catalog(self._catalog.catalog().tasks.values())
        self._reads_gateways = True

    def _settled(self, key: TaskKey, changes: list[ReplicaChange]) -> bool:
        for change in changes:
            self._book.apply_change(change)
        due_ms = next_due_ms(self._replicas[key].state, self._settings.windows)
        if due_ms is None:
            self._settles_ms.pop(key, None)
        else:
            self._settles_ms[key] = due_ms
        return bool(changes)

    def _was_silent(self, source: TaskKey | str, at_ms: int) -> bool:
        before = self._observed_ms.get(source, _NEVER)
        self._observed_ms[source] = max(before, at_ms)
        return before == _NEVER or at_ms - before > self._settings.timing.silent_ms

    def _assume_heartbeats(self, at_ms: int) -> None:
        """Send heartbeats that no event holds: of assumed gateways, and of all live sources after the last event."""
        if self._settings.gateways is not None:
            for name in self._book.gateways() - self._recorded_gateways:
                self._ready[name] = self._settings.gateways
                self._heartbeat(name, at_ms)
        if self._assumes_heartbeats:
            keys = self._book.task_keys()
            for key in keys:
                self._heartbeat(key, at_ms)
        if at_ms > self.last_ms:
            sources: list[TaskKey | str] = [*self._book.task_keys(), *self._ready]
            for source in sources:
                observed_ms = self._observed_ms.get(source, self._start_ms)
                if self.last_ms - observed_ms <= self._settings.timing.silent_ms:
                    self._heartbeat(source, at_ms)

    def _heartbeat(self, source: TaskKey | str, at_ms: int) -> None:
        self._observed_ms[source] = at_ms
        if isinstance(source, TaskKey):
            self._book.observe_heartbeat(source, at_ms)
        else:
            self._book.observe_gateway(source, self._ready[source], at_ms)

    def _is_any_silent(self, at_ms: int) -> bool:
        """Whether a source is silent now; sets when to check again."""
        timing = self._settings.timing
        every_ms = max(1, timing.alarm_ms)
        silent, wakes_ms = False, []
        sources: list[TaskKey | str] = [*self._book.task_keys(), *self._book.gateways()]
        for source in sources:
            first_ms = self._observed_ms.get(source, self._start_ms) + timing.silent_ms + 1
            silent |= first_ms <= at_ms
            alarms = (at_ms - first_ms) // every_ms + 1
            wakes_ms.append(first_ms + max(0, alarms) * every_ms)
        self._silence_ms = min(wakes_ms, default=at_ms + timing.silent_ms)
        return silent

    def _decide(self, at_ms: int) -> None:
        book = self._book
        for gateway in sorted(book.gateways() if self._reads_gateways else book.unread_gateways()):
            self._read_back(gateway, at_ms)
        self._reads_gateways = False
        while True:
            self._publish(book.decide(at_ms))
            for gateway in sorted(book.gateways()):
                if wanted := book.wanted_limits(gateway):
                    self._held.setdefault(gateway, {}).update({limit.key: limit for limit in wanted})
                    self._read_back(gateway, at_ms)
            self._due_ms = book.next_due_ms(at_ms)
            if self._due_ms is None or self._due_ms > at_ms:
                return

    def _read_back(self, gateway: str, at_ms: int) -> None:
        self._publish(self._book.observe_limits(gateway, self._held.get(gateway, {}), at_ms))

    def _publish(self, rows: list[RateLimitRow]) -> None:
        self.rows += (row for row in rows if row.state != "decided")


_WINDOW_MS = 10_000


def summary(rows: Iterable[RateLimitRow]) -> list[str]:
    """The pushes of each task, most first, and of all tasks together, a line each."""
    by_task: dict[TaskKey, list[RateLimitRow]] = {}
    held = 0
    for row in rows:
        if row.state == "applied":
            by_task.setdefault(TaskKey(row.department, row.task), []).append(row)
        held += row.state == "held"
    lines = [
        _push_counts(str(key), [pushes])
        for key, pushes in sorted(by_task.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    alarms = f"; held rows {held}" if held else ""
    return [*lines, _push_counts(f"all {len(by_task)} tasks", list(by_task.values())) + alarms]


def _push_counts(what: str, tasks: list[list[RateLimitRow]]) -> str:
    cuts = raises = 0
    for pushes in tasks:
        shares = [row.limit_qps_per_gateway or 0 for row in pushes]
        cuts += sum(after < before for before, after in pairwise(shares))
        raises += sum(after > before for before, after in pairwise(shares))
    moments_ms = sorted(to_epoch_ms(row.decided_at) for pushes in tasks for row in pushes)
    limits = [row.limit_qps or 0 for pushes in tasks for row in pushes]
    last = f", {min(limits):g} to {max(limits):g} qps, {limits[-1]:g} at the end" if len(tasks) == 1 else ""
    return (
        f"{what}: pushes {len(moments_ms)}, cuts {cuts}, raises {raises}, "
        f"at most {most_within(moments_ms, _WINDOW_MS)} in {_WINDOW_MS // 1000} s{last}"
    )


def most_within(moments_ms: list[int], window_ms: int) -> int:
    """The highest number of these times, in order, within any half-open window of this length."""
    return max(
        (bisect_left(moments_ms, start + window_ms) - index for index, start in enumerate(moments_ms)),
        default=0,
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
