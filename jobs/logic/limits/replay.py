"""Recorded events to the limits that would have been: what the job and the controller do, without Kafka and a clock.

Time goes from event to event, and to each moment in between at which a count settles or a limit may rise. The gateway
is an ideal one: what is decided is in force in the same moment. So the same events give the same rows, byte for byte,
in whatever order or batches they come: those of one moment are heard together, in an order of their own.
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
from tidegate.jobs.logic.limits.replay_events import Event
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
class Trial:
    """The settings that are tried.

    stale_ms: of the job replica-changes. tail_ms: how long it goes on after the last event.
    gateways: ready pods of each gateway that the events say nothing of; None: nothing is known of them.
    """

    windows: Windows = field(default_factory=Windows)
    stale_ms: int = 90_000
    pace: Pace = field(default_factory=Pace)
    timing: Timing = field(default_factory=Timing)
    tail_ms: int = 120_000
    gateways: int | None = None


@dataclass(frozen=True)
class Replayed:
    """The rows of state `applied` and `held`, in order, and what people should know of how they came about."""

    rows: list[RateLimitRow]
    notes: list[str]


def replay(events: Iterable[Event], trial: Trial, catalog: Catalog | None = None) -> Replayed:
    """The limits that would have been.

    catalog: in place of the events' own. Settled changes count only where no event tells of raw replicas.
    What the catalog and operators said before any source spoke counts from there on.
    """
    ordered = sorted(events, key=lambda event: event.place)
    if any(isinstance(event.row, ReplicasRow) for event in ordered):
        ordered = [event for event in ordered if not isinstance(event.row, ReplicaChange)]
    if catalog is not None:
        ordered = [event for event in ordered if not event.is_catalog]
    spoken = [event for event in ordered if isinstance(event.row, ReplicasRow | ReplicaChange | GatewayRow)]
    if all(isinstance(event.row, GatewayRow) for event in spoken):
        return Replayed([], ["no event tells of replicas: there is nothing to decide"])
    start_ms = spoken[0].at_ms
    stage = _Stage(trial, catalog, ordered, start_ms)
    for at_ms, batch in groupby(ordered, key=lambda event: max(event.at_ms, start_ms)):
        stage.go_on_before(at_ms)
        stage.step(at_ms, list(batch))
    stage.go_on_before(stage.last_ms + trial.tail_ms + 1)
    return Replayed(stage.rows, list(stage.notes()))


class _Stage:
    """A book, the job before it and the gateways behind it."""

    def __init__(self, trial: Trial, catalog: Catalog | None, events: list[Event], start_ms: int) -> None:
        self.rows: list[RateLimitRow] = []
        self.last_ms = max(event.at_ms for event in events)
        self._trial = trial
        self._start_ms = start_ms
        self._book = LimitBook(trial.pace, trial.timing, TARGET, start_ms)
        self._catalog = RowCatalog()
        self._held: dict[str, dict[TaskKey, Limit]] = {}
        self._replicas: dict[TaskKey, TaskReplicas] = {}
        self._settles_ms: dict[TaskKey, int] = {}
        self._ready: dict[str, int] = {}
        self._heard_ms: dict[TaskKey | str, int] = {}
        # Settled changes say nothing of who is alive meanwhile: the source is taken to be.
        self._all_alive = not any(isinstance(event.row, ReplicasRow) for event in events)
        self._told_tasks = {
            TaskKey(event.row.department, event.row.task)
            for event in events
            if isinstance(event.row, ReplicasRow | ReplicaChange)
        }
        self._told_gateways = {event.row.gateway for event in events if isinstance(event.row, GatewayRow)}
        self._due_ms: int | None = start_ms
        self._silence_ms = start_ms
        self._look = True
        self._refused: list[str] = []
        if catalog is not None:
            self._book.apply_catalog(catalog.tasks.values())

    def go_on_before(self, end_ms: int) -> None:
        """All that happens by itself before this moment."""
        while (due_ms := self._next_ms()) is not None and due_ms < end_ms:
            self.step(due_ms, [])

    def step(self, at_ms: int, events: list[Event]) -> None:
        """Hear what happens at this moment, and decide where that can change anything."""
        decides = self._due_ms is not None and self._due_ms <= at_ms
        for event in events:
            decides |= self._take(event, at_ms)
        for key in [key for key, due_ms in self._settles_ms.items() if due_ms <= at_ms]:
            self._replicas[key], changes = self._replicas[key].wait(self._trial.windows, at_ms)
            decides |= self._settled(key, changes)
        self._speak(at_ms)
        if self._look or at_ms >= self._silence_ms:
            decides |= self._listen(at_ms)
        if decides or self._look:
            self._decide(at_ms)

    def notes(self) -> Iterator[str]:
        """What people should know of it."""
        yield from self._refused
        tasks = set(self._book.task_keys())
        if not tasks:
            yield "no task catalog: give --catalog FILE, or record tidegate.tasks too"
            return
        if strangers := sorted(map(str, self._told_tasks - tasks)):
            yield f"{len(strangers)} tasks are not in the catalog: {_some(strangers)}"
        if unheard := sorted(map(str, tasks - self._told_tasks)):
            yield f"nothing is told of {len(unheard)} tasks of the catalog: {_some(unheard)}"
        silent = sorted(name for name in self._book.gateways() if self._book.ready_pods(name) is None)
        if silent:
            yield f"nothing is told of the pods of gateway {_some(silent)}: give --gateways N"

    def _next_ms(self) -> int | None:
        moments = [self._silence_ms, *self._settles_ms.values()]
        return min(moments if self._due_ms is None else [self._due_ms, *moments])

    def _take(self, event: Event, at_ms: int) -> bool:
        """Hear of one event. Returns whether it can change a decision."""
        row = event.row
        if isinstance(row, ReplicasRow):
            key = TaskKey(row.department, row.task)
            known = self._replicas.get(key) or TaskReplicas(row.department, row.task)
            self._replicas[key], changes = known.hear(row, self._trial.windows, self._trial.stale_ms)
            self._book.observe_heartbeat(key, at_ms)
            return self._settled(key, changes) | self._was_silent(key, at_ms)
        if isinstance(row, ReplicaChange):
            self._heard_ms[TaskKey(row.department, row.task)] = at_ms
            self._book.apply_change(row)
        elif isinstance(row, GatewayRow):
            self._book.observe_gateway(row.gateway, row.gateways_ready, at_ms)
            before, self._ready[row.gateway] = self._ready.get(row.gateway), row.gateways_ready
            return self._was_silent(row.gateway, at_ms) | (before != row.gateways_ready)
        elif isinstance(row, LimitControl):
            self._book.apply_control(row)
        elif event.is_catalog:
            self._use(event.key, row)
        else:
            self._book.remove_control(event.key)
        return True

    def _use(self, key: str, row: TaskRow | None) -> None:
        if reason := self._catalog.put(key, row):
            self._refused.append(f"the catalog's row is refused: {reason}")
            return
        self._book.apply_catalog(self._catalog.catalog().tasks.values())
        self._look = True

    def _settled(self, key: TaskKey, changes: list[ReplicaChange]) -> bool:
        for change in changes:
            self._book.apply_change(change)
        due_ms = next_due_ms(self._replicas[key].state, self._trial.windows)
        if due_ms is None:
            self._settles_ms.pop(key, None)
        else:
            self._settles_ms[key] = due_ms
        return bool(changes)

    def _was_silent(self, who: TaskKey | str, at_ms: int) -> bool:
        before = self._heard_ms.get(who, _NEVER)
        self._heard_ms[who] = max(before, at_ms)
        return before == _NEVER or at_ms - before > self._trial.timing.silent_ms

    def _speak(self, at_ms: int) -> None:
        """Who is taken to be alive speaks: gateways that are assumed, and after the end all who weren't silent."""
        if self._trial.gateways is not None:
            for name in self._book.gateways() - self._told_gateways:
                self._ready[name] = self._trial.gateways
                self._alive(name, at_ms)
        if self._all_alive:
            keys = self._book.task_keys()
            for key in keys:
                self._alive(key, at_ms)
        if at_ms > self.last_ms:
            whos: list[TaskKey | str] = [*self._book.task_keys(), *self._ready]
            for who in whos:
                if self.last_ms - self._heard_ms.get(who, self._start_ms) <= self._trial.timing.silent_ms:
                    self._alive(who, at_ms)

    def _alive(self, who: TaskKey | str, at_ms: int) -> None:
        self._heard_ms[who] = at_ms
        if isinstance(who, TaskKey):
            self._book.observe_heartbeat(who, at_ms)
        else:
            self._book.observe_gateway(who, self._ready[who], at_ms)

    def _listen(self, at_ms: int) -> bool:
        """Whether a source is silent now; sets when to listen again."""
        timing = self._trial.timing
        every_ms = max(1, timing.alarm_ms)
        silent, wakes_ms = False, []
        sources: list[TaskKey | str] = [*self._book.task_keys(), *self._book.gateways()]
        for who in sources:
            first_ms = self._heard_ms.get(who, self._start_ms) + timing.silent_ms + 1
            silent |= first_ms <= at_ms
            alarms = (at_ms - first_ms) // every_ms + 1
            wakes_ms.append(first_ms + max(0, alarms) * every_ms)
        self._silence_ms = min(wakes_ms, default=at_ms + timing.silent_ms)
        return silent

    def _decide(self, at_ms: int) -> None:
        book = self._book
        for gateway in sorted(book.gateways() if self._look else book.unread_gateways()):
            self._find(gateway, at_ms)
        self._look = False
        while True:
            self._tell(book.decide(at_ms))
            for gateway in sorted(book.gateways()):
                if wanted := book.wanted_limits(gateway):
                    self._held.setdefault(gateway, {}).update({limit.key: limit for limit in wanted})
                    self._find(gateway, at_ms)
            self._due_ms = book.next_due_ms(at_ms)
            if self._due_ms is None or self._due_ms > at_ms:
                return

    def _find(self, gateway: str, at_ms: int) -> None:
        self._tell(self._book.observe_limits(gateway, self._held.get(gateway, {}), at_ms))

    def _tell(self, rows: list[RateLimitRow]) -> None:
        self.rows += (row for row in rows if row.state != "decided")


_WINDOW_MS = 10_000


def summary(rows: Iterable[RateLimitRow]) -> list[str]:
    """What came of it, in lines: each task's pushes, most first, and those of all together."""
    by_task: dict[TaskKey, list[RateLimitRow]] = {}
    held = 0
    for row in rows:
        if row.state == "applied":
            by_task.setdefault(TaskKey(row.department, row.task), []).append(row)
        held += row.state == "held"
    lines = [
        _told(str(key), [pushes])
        for key, pushes in sorted(by_task.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    alarms = f"; told as held: {held}" if held else ""
    return [*lines, _told(f"all {len(by_task)} tasks", list(by_task.values())) + alarms]


def _told(what: str, tasks: list[list[RateLimitRow]]) -> str:
    cuts = raises = 0
    for pushes in tasks:
        shares = [row.limit_qps_per_gateway or 0 for row in pushes]
        cuts += sum(after < before for before, after in pairwise(shares))
        raises += sum(after > before for before, after in pairwise(shares))
    moments_ms = sorted(to_epoch_ms(row.decided_at) for pushes in tasks for row in pushes)
    limits = [row.limit_qps or 0 for pushes in tasks for row in pushes]
    last = f", {min(limits):g} to {max(limits):g} qps, at last {limits[-1]:g}" if len(tasks) == 1 else ""
    return (
        f"{what}: pushes {len(moments_ms)}, cuts {cuts}, raises {raises}, "
        f"at most {most_within(moments_ms, _WINDOW_MS)} in {_WINDOW_MS // 1000} s{last}"
    )


def most_within(moments_ms: list[int], window_ms: int) -> int:
    """The most of these moments, in order, that any window of this length holds (half open)."""
    return max(
        (bisect_left(moments_ms, start + window_ms) - index for index, start in enumerate(moments_ms)),
        default=0,
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
