"""Builders for the controller's book: a test names only what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.jobs.logic.limits.book import LimitBook
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.inputs import Timing
from tidegate.jobs.logic.limits.rate_limits import Pace
from tidegate.schemas.catalog import ClientLimits, Slo, Task
from tidegate.schemas.rows.limits import LimitControl, RateLimitRow, ReplicaChange
from tidegate.schemas.timestamps import from_epoch_ms

START_MS = 1_795_514_400_000
CHAT = TaskKey("vision", "chat")
GATEWAY = "vision-gateway"


def task(**fields: Any) -> Task:
    """A task of 10 qps a replica, without a ceiling."""
    values: dict[str, Any] = {
        "department": CHAT.department,
        "name": CHAT.task,
        "gateway": GATEWAY,
        "route": "chat",
        "qps_per_replica": 10.0,
        "headroom": 1.0,
        "floor_qps": 1.0,
        "ceiling_qps": None,
        "burst_seconds": 1.0,
        "owner": None,
        "slo": Slo(),
        "clients": ClientLimits(),
    }
    return Task(**values | fields)


def change(replicas: int, revision: int = 1, key: TaskKey = CHAT) -> ReplicaChange:
    """A settled change."""
    moment = from_epoch_ms(START_MS)
    return ReplicaChange(
        id=f"{key.department}|{key.task}|{revision}",
        department=key.department,
        task=key.task,
        workload=f"{key.department}/service-{key.task}",
        replicas_before=None,
        replicas_after=replicas,
        cause="resync",
        first_seen_at=moment,
        settled_at=moment,
        revision=revision,
    )


def control(scope: str = str(CHAT), **fields: Any) -> LimitControl:
    """An operator's control of one task, or of all (`*`)."""
    department, _, name = scope.partition("/")
    values: dict[str, Any] = {
        "id": scope,
        "department": department if name else None,
        "task": name or None,
        "paused": False,
        "override_qps": None,
        "expires_at": None,
        "by": "ann",
        "reason": "a load test",
        "set_at": from_epoch_ms(START_MS),
    }
    return LimitControl(**values | fields)


class Play:
    """A book with a target that takes everything at once, unless `works` is false; times in ms since the start."""

    def __init__(self, *tasks: Task, pace: Pace | None = None, timing: Timing | None = None) -> None:
        self.tasks = tasks or (task(),)
        self.pace = pace or Pace()
        self.timing = timing or Timing()
        self.held: dict[str, dict[TaskKey, Limit]] = {}
        self.rows: list[RateLimitRow] = []
        self.writes = 0
        self.works = True
        self.book = self.new_book()

    def new_book(self, at_ms: int = 0) -> LimitBook:
        """Another controller's, which knows nothing yet."""
        book = LimitBook(self.pace, self.timing, "test", START_MS + at_ms)
        book.apply_catalog(self.tasks)
        return book

    def ready(self, replicas: int = 4, gateways: int = 1, at_ms: int = 0) -> Play:
        """All is known of every task."""
        for one in self.tasks:
            key = TaskKey(one.department, one.name)
            self.book.apply_change(change(replicas, key=key))
            self.book.observe_heartbeat(key, START_MS + at_ms)
            self.book.observe_gateway(one.gateway, gateways, START_MS + at_ms)
        return self.step(at_ms)

    def observe_counts(self, at_ms: int) -> None:
        """All sources speak."""
        for one in self.tasks:
            self.book.observe_heartbeat(TaskKey(one.department, one.name), START_MS + at_ms)
        for name in {one.gateway for one in self.tasks}:
            self.book.observe_gateway(name, self.book.ready_pods(name) or 1, START_MS + at_ms)

    def look(self, at_ms: int) -> None:
        """The target is read."""
        for gateway in sorted(self.book.gateways()):
            held = dict(self.held.get(gateway, {}))
            self.rows += self.book.observe_limits(gateway, held, START_MS + at_ms)

    def step(self, at_ms: int) -> Play:
        """The target is read, then decisions are made, and carried out."""
        self.look(at_ms)
        self.rows += self.book.decide(START_MS + at_ms)
        self.carry_out(at_ms)
        return self

    def carry_out(self, at_ms: int) -> None:
        """What is wanted goes to the target, and is read back."""
        for gateway in sorted(self.book.gateways()):
            wanted = self.book.wanted_limits(gateway)
            if wanted and self.works:
                self.writes += 1
                held = self.held.setdefault(gateway, {})
                for limit in wanted:
                    there = held.get(limit.key)
                    if there is None or there.revision < limit.revision or there == limit:
                        held[limit.key] = limit
        if self.works:
            self.look(at_ms)

    def limits(self, key: TaskKey = CHAT) -> list[float]:
        """What was applied, in order: qps a gateway."""
        return [
            row.limit_qps_per_gateway or 0
            for row in self.rows
            if row.state == "applied" and (row.department, row.task) == key
        ]

    def states(self) -> list[str]:
        """The states of all rows, in order."""
        return [row.state for row in self.rows]

    def in_force(self, key: TaskKey = CHAT) -> Limit | None:
        """What the target holds of a task."""
        found: Mapping[TaskKey, Limit]
        for found in self.held.values():
            if key in found:
                return found[key]
        return None
