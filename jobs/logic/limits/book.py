"""The limits of a whole fleet: events go to the tasks that they concern, and the rows to publish come back.

Times are epoch milliseconds, and given, so the same events give the same limits, live or replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from tidegate.jobs.logic.limits.controls import LimitControls
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.explanation import explain
from tidegate.jobs.logic.limits.inputs import GatewayState, Session, Situation, Timing
from tidegate.jobs.logic.limits.pushed import PushedLimit, key_of
from tidegate.jobs.logic.limits.rate_limits import Pace, Push
from tidegate.jobs.logic.limits.task_limit import TaskLimit
from tidegate.schemas.catalog import Task
from tidegate.schemas.rows.limits import LimitControl, RateLimitRow, ReplicaChange


class LimitBook:
    """One controller's view of all tasks, their gateways, and the controls of operators.

    The controller, `replay-limits`, `--dry-run` and `--explain` all decide with it.
    """

    def __init__(self, pace: Pace, timing: Timing, target: str, started_ms: int) -> None:
        """target: its name in the rows. started_ms: the silence of a source that never sent anything counts from it."""
        self._session = Session(pace, timing, target, started_ms)
        self._tasks: dict[TaskKey, Task] = {}
        self._limits: dict[TaskKey, TaskLimit] = {}
        self._gateways: dict[str, GatewayState] = {}
        self._controls = LimitControls()

    # Events

    def apply_catalog(self, tasks: Iterable[Task]) -> None:
        """Decide of these tasks from now on, and of no others. A task that is removed keeps its limit in force."""
        self._tasks = {key_of(task): task for task in tasks}

    def restore(self, row: RateLimitRow) -> None:
        """Take a task's newest published row; to be called before the target is read."""
        self._limit(TaskKey(row.department, row.task)).restore(row)

    def apply_change(self, change: ReplicaChange) -> None:
        """Take a settled change of a task's ready replicas; one that isn't newer than the known one is ignored."""
        self._limit(TaskKey(change.department, change.task)).apply_change(change)

    def observe_heartbeat(self, key: TaskKey, at_ms: int) -> None:
        """Take a heartbeat of the source of a task's replicas."""
        self._limit(key).observe_heartbeat(at_ms)

    def observe_gateway(self, name: str, ready: int, at_ms: int) -> None:
        """Take the number of a gateway's ready pods; an observation older than the known one is ignored."""
        self._gateways[name] = self._gateway(name).with_ready(ready, at_ms)

    def apply_control(self, control: LimitControl) -> None:
        """Take an operator's control, in place of the one of the same id."""
        self._controls.apply(control)

    def remove_control(self, control_id: str) -> None:
        """Remove an operator's control."""
        self._controls.remove(control_id)

    def observe_limits(
        self, gateway: str, limits: Mapping[TaskKey, Limit], now_ms: int
    ) -> list[RateLimitRow]:
        """Take the limits that a gateway holds. Returns the rows of the pushes that are in force now.

        Nothing is decided of a task before the first time.
        """
        self._gateways[gateway] = replace(self._gateway(gateway), unreachable=None)
        rows = [
            self._limit(key).observe_limit(limits.get(key), situation)
            for key, situation in self._situations(now_ms, gateway)
        ]
        return [row for row in rows if row is not None]

    def observe_rejection(
        self, key: TaskKey, revision: int, reason: str, newer: int | None, now_ms: int
    ) -> list[RateLimitRow]:
        """Take the target's rejection of a revision. newer: the target's revision, where that is the reason.

        A task that has left the catalog meanwhile is ignored.
        """
        if key not in self._tasks:
            return []
        situation = self._situation(key, now_ms)
        row = self._limit(key).observe_rejection(revision, reason, newer, situation)
        return [] if row is None else [row]

    def observe_failure(self, gateway: str, reason: str, now_ms: int) -> list[RateLimitRow]:
        """Take a failed read or write of a gateway.

        It is published at once of a push under way, and of a task whose limit has never been read; of the other
        tasks once it lasts as long as a silence.
        """
        self._gateways[gateway] = self._gateway(gateway).with_failure(reason, now_ms)
        rows = [
            self._limit(key).observe_failure(reason, situation)
            for key, situation in self._situations(now_ms, gateway)
        ]
        return [row for row in rows if row is not None]

    # Decisions

    def decide(self, now_ms: int) -> list[RateLimitRow]:
        """Decide of every task. Returns the rows to publish; the limits to push are `wanted_limits`."""
        rows, raised = [], set()
        for key, situation in self._situations(now_ms):
            limit = self._limit(key)
            row = limit.decide(situation)
            if row is None:
                continue
            rows.append(row)
            if row.state == "decided" and limit.state.raises:
                raised.add(situation.gateway.name)
        for name in raised:
            self._gateways[name] = replace(self._gateway(name), raised_ms=now_ms)
        return rows

    def ended_holds(self, now_ms: int) -> list[RateLimitRow]:
        """The `applied` row once more of each task whose published hold has ended since the last call.

        The row is the same as before, so that the newest row of a task is never one of a hold that is over.
        """
        ended = sorted(key for key, limit in self._limits.items() if limit.hold_has_ended)
        rows = [
            self._limit(key).end_hold(self._situation(key, now_ms)) for key in ended if key in self._tasks
        ]
        return [row for row in rows if row is not None]

    def wanted_limits(self, gateway: str) -> list[Limit]:
        """The pushes under way at a gateway, without those of paused tasks: cuts first, the deepest first."""
        limits = [self._limit(key) for key, task in self._tasks.items() if task.gateway == gateway]
        pushes = [(pushed, limit.state.applied) for limit in limits if (pushed := limit.wanted) is not None]
        return [pushed.limit for pushed, _ in sorted(pushes, key=lambda pair: _change_factor(*pair))]

    def next_due_ms(self, now_ms: int) -> int | None:
        """When to decide again though no event arrives; None where only an event can change anything."""
        due = []
        for key, situation in self._situations(now_ms):
            decision = self._limit(key).decision(situation)
            if isinstance(decision, Push):
                return now_ms
            due.append(decision.until_ms)
        due.append(self._controls.next_expiry_ms(now_ms))
        return min((due_ms for due_ms in due if due_ms is not None), default=None)

    def explain(self, key: TaskKey, now_ms: int) -> list[str]:
        """Why the task's limit is what it is, in lines. Raises KeyError for a task that isn't in the catalog."""
        return explain(self._limit(key).explained(self._situation(key, now_ms)))

    # What is known

    def task_keys(self) -> list[TaskKey]:
        """The catalog's tasks."""
        return list(self._tasks)

    def gateway_of(self, key: TaskKey) -> str:
        """The gateway of a task. Raises KeyError for a task that isn't in the catalog."""
        return self._tasks[key].gateway

    def gateways(self) -> set[str]:
        """The gateways of the catalog's tasks."""
        return {task.gateway for task in self._tasks.values()}

    def unread_gateways(self) -> set[str]:
        """The gateways with a task of which nothing is decided yet, since the gateway's limit isn't known."""
        return {task.gateway for key, task in self._tasks.items() if not self._limit(key).state.read_back}

    def ready_pods(self, gateway: str) -> int | None:
        """How many pods of a gateway are ready; None where that is unknown."""
        return self._gateway(gateway).ready

    def _limit(self, key: TaskKey) -> TaskLimit:
        """The limit of a task; events may come before the catalog's entry."""
        if key not in self._limits:
            self._limits[key] = TaskLimit(self._session)
        return self._limits[key]

    def _gateway(self, name: str) -> GatewayState:
        return self._gateways.get(name) or GatewayState(name)

    def _situations(self, now_ms: int, gateway: str | None = None) -> Iterator[tuple[TaskKey, Situation]]:
        """The situation of each task of the catalog, or of one gateway."""
        for key, task in self._tasks.items():
            if gateway in (None, task.gateway):
                yield key, self._situation(key, now_ms)

    def _situation(self, key: TaskKey, now_ms: int) -> Situation:
        task = self._tasks[key]
        controls = self._controls.in_effect(key, now_ms)
        return Situation(now_ms, task, self._gateway(task.gateway), controls)


def _change_factor(pushed: PushedLimit, applied: PushedLimit | None) -> float:
    """The pushed limit as a multiple of the one in force; 1 where none is in force."""
    if applied is None:
        return 1.0
    return pushed.push.limit_qps_per_gateway / applied.push.limit_qps_per_gateway
