"""The rate-limit controller's memory and mind, without any input or output.

It is told what happens (changes of replicas and gateways, the catalog, an operator's word, what a target holds or
refuses), and says which limits to push and which rows to publish. Times are epoch milliseconds, and given, so the same
events give the same limits, live or replayed.

A task has at most one push under way (`pending`). Until the target has been seen to hold it, only a lower limit takes
its place, or the same one where the catalog has another route or other clients by now; so a raise is always measured
from a limit that is really in force.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import (
    Capacity,
    Hold,
    InForce,
    Pace,
    Push,
    TokenBucket,
    burst_of,
    decide,
    token_bucket,
)
from tidegate.schemas.catalog import Task
from tidegate.schemas.rows.limits import LimitControl, LimitState, RateLimitRow, ReplicaChange
from tidegate.schemas.timestamps import from_epoch_ms, to_epoch_ms, to_text

ALL_TASKS = "*"
_SHORTEST_CLIENT_QPS = 0.01
_VARYING = re.compile(r"0x[0-9a-f]+|\d+\.\d+")
"""What differs from one try to the next in the words of a client: addresses of objects, seconds that were left."""


@dataclass(frozen=True)
class Timing:
    """When nothing new is news too. All in ms.

    silent_ms: a source that said nothing for so long is silent. alarm_ms: what holds is told again after so long.
    raises_together_ms: a gateway's limits rise no more often. Envoy fills the buckets of all routes with every change
    of its routes, so each push lets every task of the gateway have one more burst.
    """

    silent_ms: int = 90_000
    alarm_ms: int = 300_000
    raises_together_ms: int = 5_000


@dataclass(frozen=True)
class Pushed:
    """A push: under way, or in force."""

    push: Push
    limit: Limit
    change_id: str | None
    decided_ms: int
    applied_ms: int | None = None

    def in_force(self) -> InForce:
        """As the decision sees it."""
        push = self.push
        return InForce(
            push.replicas,
            push.gateways,
            push.limit_qps_per_gateway,
            push.burst,
            self.decided_ms if self.applied_ms is None else self.applied_ms,
        )


@dataclass
class _Known:
    """What is known of one task beside its catalog entry.

    row: what was said of it last, before this controller was there. read: what the target holds has been seen since.
    acted: this controller has acted on what it read; what earlier ones said counts no longer. said: the last row.
    told: when each reason was told.
    """

    replicas: int | None = None
    change_id: str | None = None
    change_revision: int = 0
    heard_ms: int | None = None
    revision: int = 0
    row: RateLimitRow | None = None
    read: bool = False
    acted: bool = False
    paused: bool = False
    said: RateLimitRow | None = None
    pending: Pushed | None = None
    applied: Pushed | None = None
    drift: str | None = None
    told: dict[LimitState, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Gateway:
    ready: int
    heard_ms: int


@dataclass(frozen=True)
class _Away:
    """A gateway that can be neither read nor written, since when, and why."""

    since_ms: int
    reason: str


class LimitBook:
    """One controller's view of all tasks."""

    def __init__(self, pace: Pace, timing: Timing, target: str, started_ms: int) -> None:
        """target: its name in the rows. started_ms: from when on silence is counted of what never spoke."""
        self._pace = pace
        self._timing = timing
        self._target = target
        self._started_ms = started_ms
        self._tasks: dict[TaskKey, Task] = {}
        self._known: dict[TaskKey, _Known] = {}
        self._gateways: dict[str, _Gateway] = {}
        self._controls: dict[str, LimitControl] = {}
        self._raised_ms: dict[str, int] = {}
        self._away: dict[str, _Away] = {}
        self._over: set[TaskKey] = set()

    # What happens

    def use_catalog(self, tasks: Iterable[Task]) -> None:
        """From now on these tasks, and no others. A task that goes keeps the limit that it has."""
        self._tasks = {TaskKey(task.department, task.name): task for task in tasks}
        for key in self._tasks:
            self._known.setdefault(key, _Known())

    def restore(self, row: RateLimitRow) -> None:
        """What this or an earlier controller last said of a task; to be called before anything is read of it."""
        known = self._of(TaskKey(row.department, row.task))
        if known.read or known.acted or row.revision < known.revision:
            return
        known.revision, known.row, known.said = row.revision, row, row
        if not known.change_revision:  # a settled change says more, and may have been read before
            known.replicas, known.change_id = row.replicas, row.change_id

    def change(self, change: ReplicaChange) -> None:
        """A settled change; one that is older than what is known says nothing."""
        known = self._of(TaskKey(change.department, change.task))
        if change.revision <= known.change_revision:
            return
        known.change_revision = change.revision
        known.replicas = change.replicas_after
        known.change_id = change.id

    def hear(self, key: TaskKey, at_ms: int) -> None:
        """The source has spoken of this task."""
        known = self._of(key)
        known.heard_ms = max(at_ms, known.heard_ms or 0)

    def gateway(self, name: str, ready: int, at_ms: int) -> None:
        """So many pods of a gateway are ready; an older word than the last one says nothing."""
        known = self._gateways.get(name)
        if known is None or at_ms >= known.heard_ms:
            self._gateways[name] = _Gateway(ready, at_ms)

    def control(self, control: LimitControl) -> None:
        """An operator's word, in place of the one before."""
        self._controls[control.id] = control

    def no_control(self, name: str) -> None:
        """An operator's word is taken back whole. name: its id."""
        self._controls.pop(name, None)

    def found(self, gateway: str, limits: Mapping[TaskKey, Limit], now_ms: int) -> list[RateLimitRow]:
        """What a gateway holds: pushes that are in force now, and what somebody else has changed.

        Nothing is decided of a task before the first time.
        """
        rows = []
        self._away.pop(gateway, None)
        for key, task in self._of_gateway(gateway):
            known, there = self._known[key], limits.get(key)
            if not known.read:
                known.read = known.acted = True
                self._resume(key, task, known, there, now_ms)
            if there is None:
                if known.pending is None and known.applied is not None:
                    known.drift = f"drift: the limit of revision {known.applied.limit.revision} was gone"
                continue
            known.revision = max(known.revision, there.revision)
            if known.pending is not None:
                if there == known.pending.limit:
                    rows.append(self._applied(key, task, known, known.pending, now_ms))
                elif there.revision > known.pending.limit.revision:
                    self._take_over(task, known, there, now_ms)
            elif known.applied is not None:
                known.drift = None if there == known.applied.limit else _drift(there, known.applied)
            else:
                self._take_over(task, known, there, now_ms)
        return rows

    def unread(self) -> set[str]:
        """The gateways with a task of which nothing is decided yet, since what the gateway holds isn't known."""
        return {task.gateway for key, task in self._tasks.items() if not self._known[key].read}

    def refused(
        self, key: TaskKey, revision: int, reason: str, newer: int | None, now_ms: int
    ) -> list[RateLimitRow]:
        """The target didn't take this revision. newer: the one that it has, where that is the reason."""
        known = self._known.get(key)
        if known is None or known.pending is None or known.pending.limit.revision != revision:
            return []
        row = self._tell(key, known, "failed", reason, now_ms, known.pending)
        if newer is not None:
            # Somebody is ahead of us: what is there has to be read before anything is decided anew.
            known.revision = max(known.revision, newer)
            known.read, known.acted, known.row = False, True, None
            known.pending, known.applied, known.drift = None, None, None
        return [row] if row else []

    def failed(self, gateway: str, reason: str, now_ms: int) -> list[RateLimitRow]:
        """The target couldn't be written or read: what is under way stays so.

        Told at once of what is under way, and of what can't begin since nothing has been read yet; of the others when
        it lasts as long as a silence.
        """
        before = self._away.get(gateway)
        self._away[gateway] = _Away(now_ms if before is None else before.since_ms, reason)
        rows: list[RateLimitRow | None] = []
        for key, _ in self._of_gateway(gateway):
            known = self._known[key]
            if known.pending is not None:
                rows.append(self._tell(key, known, "failed", reason, now_ms, known.pending))
            elif not known.read:
                rows.append(self._tell_unread(key, known, reason, now_ms))
        return [row for row in rows if row]

    # What follows

    def decide(self, now_ms: int) -> list[RateLimitRow]:
        """Decide of every task; the rows to publish. What to push is then in `wanted`."""
        rows: list[RateLimitRow | None] = []
        raised: set[str] = set()
        for key, task in self._tasks.items():
            known = self._known[key]
            known.paused = any(control.paused for control in self._controls_of(key, now_ms))
            decision = self._decision(key, task, known, now_ms)
            if isinstance(decision, Push):
                if _raises(decision, known):
                    raised.add(task.gateway)
                if known.drift is not None and known.drift != decision.reason:
                    decision = replace(decision, reason=f"{decision.reason}; {known.drift}")
                known.revision += 1
                limit = self._limit(key, task, decision, known.revision)
                known.pending = Pushed(decision, limit, known.change_id, now_ms)
                known.drift = None
                known.told = {}
                rows.append(self._row(key, task, known, "decided", decision.reason, now_ms, known.pending))
            else:
                rows.append(self._alarm(key, task, known, now_ms))
        self._raised_ms |= dict.fromkeys(raised, now_ms)
        return [row for row in rows if row]

    def no_longer_held(self) -> list[RateLimitRow]:
        """Once more the `applied` row of each task that was told as held and isn't since the last time.

        The row is the same as before, so that the newest row of a task is never one of a hold that is over.
        """
        over, self._over = self._over, set()
        rows = []
        for key in sorted(over & self._tasks.keys()):
            known = self._known[key]
            if (applied := known.applied) is not None and known.pending is None:
                reason = applied.push.reason
                rows.append(
                    self._row(key, self._tasks[key], known, "applied", reason, applied.decided_ms, applied)
                )
        return rows

    def wanted(self, gateway: str) -> list[Limit]:
        """The pushes under way at a gateway, but of tasks that are paused: cuts first, the deepest first."""
        pending = [
            (
                known.pending.push.limit_qps_per_gateway / known.applied.push.limit_qps_per_gateway,
                known.pending,
            )
            if known.applied
            else (1.0, known.pending)
            for key, _ in self._of_gateway(gateway)
            if (known := self._known[key]).pending is not None and not known.paused
        ]
        return [pushed.limit for _, pushed in sorted(pending, key=lambda one: one[0])]

    def keys(self) -> list[TaskKey]:
        """The catalog's tasks."""
        return list(self._tasks)

    def gateway_of(self, key: TaskKey) -> str:
        """The gateway of a task. Raises KeyError for no such task."""
        return self._tasks[key].gateway

    def gateways(self) -> set[str]:
        """The gateways of the catalog's tasks."""
        return {task.gateway for task in self._tasks.values()}

    def ready_gateways(self, gateway: str) -> int | None:
        """How many pods of a gateway are ready; None where nothing is known."""
        known = self._gateways.get(gateway)
        return None if known is None else known.ready

    def next_due_ms(self, now_ms: int) -> int | None:
        """When to decide again though nothing happens; None: when something happens."""
        due = []
        for key, task in self._tasks.items():
            decision = self._decision(key, task, self._known[key], now_ms)
            if isinstance(decision, Push):
                return now_ms
            if decision.until_ms is not None:
                due.append(decision.until_ms)
        due += [
            to_epoch_ms(control.expires_at)
            for control in self._controls.values()
            if control.expires_at is not None and to_epoch_ms(control.expires_at) > now_ms
        ]
        return min(due, default=None)

    def explain(self, key: TaskKey, now_ms: int) -> list[str]:
        """Why the task's limit is what it is: numbers and events, a line each. Raises KeyError for no such task."""
        task, known = self._tasks[key], self._known[key]
        gateway = self._gateways.get(task.gateway)
        capacity = _capacity(task)
        lines = [
            f"{key}, route {task.route!r} of gateway {task.gateway}",
            f"  catalog: {task.qps_per_replica:g} qps a replica, headroom {task.headroom:g}, "
            f"floor {task.floor_qps:g}, ceiling {'none' if task.ceiling_qps is None else f'{task.ceiling_qps:g}'}, "
            f"burst {task.burst_seconds:g} s",
            f"  ready replicas: {'unknown' if known.replicas is None else known.replicas}"
            + (f", by change {known.change_id}" if known.change_id else "")
            + (f"; the source spoke {_ago(known.heard_ms, now_ms)}"),
            f"  ready gateways: {'unknown' if gateway is None else gateway.ready}"
            + ("" if gateway is None else f", heard {_ago(gateway.heard_ms, now_ms)}"),
        ]
        if known.replicas is not None and gateway is not None and gateway.ready:
            whole = capacity.limit_qps(known.replicas)
            lines.append(
                f"  should be: {known.replicas} x {task.qps_per_replica:g} x {task.headroom:g} = {whole:g} qps, "
                f"/ {gateway.ready} gateways = {whole / gateway.ready:g} a gateway"
            )
        if known.applied:
            push = known.applied.push
            lines.append(
                f"  in force: {push.limit_qps_per_gateway:g} qps a gateway, burst {push.burst}, revision "
                f"{known.applied.limit.revision}, since {_moment(known.applied.applied_ms)} ({push.reason})"
            )
        else:
            lines.append("  in force: no limit of ours")
        if known.pending:
            lines.append(
                f"  under way: {known.pending.push.limit_qps_per_gateway:g} qps a gateway, revision "
                f"{known.pending.limit.revision}, since {_moment(known.pending.decided_ms)} "
                f"({known.pending.push.reason})"
            )
        if known.said:
            said = known.said
            lines.append(
                f"  last told: {said.state}, revision {said.revision}, {to_text(said.decided_at)} ({said.reason})"
            )
        for control in self._controls_of(key, now_ms):
            lines.append(f"  operator: {_spoken(control)}")
        if away := self._away.get(task.gateway):
            lines.append(f"  gateway {task.gateway} can't be reached: {away.reason}")
        decision = self._decision(key, task, known, now_ms)
        lines.append(f"  now: {'push, ' if isinstance(decision, Push) else 'hold, '}{decision.reason}")
        return lines

    # Inside

    def _decision(self, key: TaskKey, task: Task, known: _Known, now_ms: int) -> Push | Hold:
        controls = self._controls_of(key, now_ms)
        if paused := next((control for control in controls if control.paused), None):
            return Hold(_spoken(paused))
        if not known.read:
            return Hold(f"what gateway {task.gateway} holds has not been read yet")
        gateway = self._gateways.get(task.gateway)
        capacity = _capacity(task)
        base = known.pending or known.applied
        in_force = None if base is None else base.in_force()
        override = next((control for control in controls if control.override_qps is not None), None)
        if override is not None and override.override_qps is not None:
            decision = _overridden(
                capacity, in_force, override.override_qps, known, gateway, _spoken(override)
            )
        else:
            decision = decide(
                capacity,
                self._pace,
                in_force,
                replicas=known.replicas,
                gateways=None if gateway is None else gateway.ready,
                now_ms=now_ms,
            )
            decision = self._no_raise_in_silence(decision, in_force, task, known, now_ms)
        if known.pending is not None:
            return self._instead(key, task, known.pending, decision)
        if isinstance(decision, Hold):
            return (
                decision if known.applied is None else self._again(key, task, known, known.applied, decision)
            )
        return decision if override else self._together(task, known, decision, now_ms)

    def _instead(self, key: TaskKey, task: Task, pending: Pushed, decision: Push | Hold) -> Push | Hold:
        """What takes the place of a push that is under way."""
        if isinstance(decision, Push) and (
            decision.limit_qps_per_gateway < pending.push.limit_qps_per_gateway
        ):
            return decision
        if reason := self._other_place(key, task, pending):
            return replace(pending.push, reason=reason)
        return Hold(f"revision {pending.limit.revision} is under way")

    def _together(self, task: Task, known: _Known, push: Push, now_ms: int) -> Push | Hold:
        """A raise waits for the gateway's next ones."""
        raised_ms = self._raised_ms.get(task.gateway)
        if raised_ms is None or not _raises(push, known):
            return push
        may_raise_ms = raised_ms + self._timing.raises_together_ms
        if now_ms >= may_raise_ms:
            return push
        return Hold(f"{push.reason}, with gateway {task.gateway}'s next raises", may_raise_ms)

    def _no_raise_in_silence(
        self, decision: Push | Hold, in_force: InForce | None, task: Task, known: _Known, now_ms: int
    ) -> Push | Hold:
        silence = self._silence(task, known, now_ms)
        raises = isinstance(decision, Push) and (
            in_force is None or decision.limit_qps_per_gateway > in_force.limit_qps_per_gateway
        )
        return Hold(silence) if silence and raises else decision

    def _again(self, key: TaskKey, task: Task, known: _Known, applied: Pushed, decision: Hold) -> Push | Hold:
        """What is in force once more, where the target has something else, or clients' limits have changed."""
        reason = known.drift or self._other_place(key, task, applied)
        return decision if reason is None else replace(applied.push, reason=reason)

    def _other_place(self, key: TaskKey, task: Task, pushed: Pushed) -> str | None:
        """What the catalog says by now of the route or the clients that isn't in this push; None where nothing is."""
        wanted = self._limit(key, task, pushed.push, pushed.limit.revision)
        if wanted.route != pushed.limit.route:
            return f"route is now {wanted.route!r}"
        if (wanted.client, wanted.clients) != (pushed.limit.client, pushed.limit.clients):
            return "the limits of its clients have changed"
        return None

    def _silence(self, task: Task, known: _Known, now_ms: int) -> str | None:
        """Which source is silent, in words; None where both speak."""
        gateway = self._gateways.get(task.gateway)
        for what, heard_ms in (
            ("the source of the task's replicas", known.heard_ms),
            (f"the source of gateway {task.gateway}'s pods", gateway.heard_ms if gateway else None),
        ):
            since_ms = self._started_ms if heard_ms is None else heard_ms
            if now_ms - since_ms > self._timing.silent_ms:
                spoke = "has said nothing yet" if heard_ms is None else f"is silent since {_moment(heard_ms)}"
                return f"{what} {spoke}: the last limit holds"
        return None

    def _alarm(self, key: TaskKey, task: Task, known: _Known, now_ms: int) -> RateLimitRow | None:
        """A `held` row, when there is something that people should know, and it wasn't told lately."""
        if not known.read:
            return None  # what it is that holds isn't known yet
        paused = next((control for control in self._controls_of(key, now_ms) if control.paused), None)
        gateway = self._gateways.get(task.gateway)
        if paused is not None:
            reason: str | None = _spoken(paused)
        elif known.pending is not None:
            reason = None
        elif gateway is not None and gateway.ready == 0:
            reason = f"gateway {task.gateway} has no ready pod: the last limit holds"
        else:
            reason = self._silence(task, known, now_ms) or self._long_away(task, known, now_ms)
        if reason is not None:
            return self._tell(key, known, "held", reason, now_ms, known.applied)
        if known.told.pop("held", None) and known.pending is None:
            self._over.add(key)
        return None

    def _long_away(self, task: Task, known: _Known, now_ms: int) -> str | None:
        away = self._away.get(task.gateway)
        if away is None or not known.read or now_ms - away.since_ms <= self._timing.silent_ms:
            return None
        since = _moment(away.since_ms)
        return f"gateway {task.gateway} can't be reached since {since}, the last limit holds: {away.reason}"

    def _tell(
        self,
        key: TaskKey,
        known: _Known,
        state: LimitState,
        reason: str,
        now_ms: int,
        pushed: Pushed | None,
    ) -> RateLimitRow | None:
        """The row, unless the same was told within the last `alarm_ms`."""
        if not self._is_due(known, state, reason, now_ms):
            return None
        return self._row(key, self._tasks[key], known, state, reason, now_ms, pushed)

    def _tell_unread(self, key: TaskKey, known: _Known, reason: str, now_ms: int) -> RateLimitRow | None:
        """A task of which nothing can be decided: with the numbers that were last said, so that they aren't lost."""
        if not self._is_due(known, "failed", reason, now_ms):
            return None
        row = self._row(key, self._tasks[key], known, "failed", reason, now_ms, None)
        if known.row is not None:
            kept = (
                "limit_qps",
                "limit_qps_per_gateway",
                "burst",
                "gateways",
                "change_id",
                "revision",
                "applied_at",
            )
            row = row.model_copy(update={name: getattr(known.row, name) for name in kept})
            known.said = row
        return row

    def _is_due(self, known: _Known, state: LimitState, reason: str, now_ms: int) -> bool:
        told = known.told.setdefault(state, {})
        same = _VARYING.sub("#", reason)
        if same in told and now_ms - told[same] < self._timing.alarm_ms:
            return False
        told[same] = now_ms
        return True

    def _resume(self, key: TaskKey, task: Task, known: _Known, there: Limit | None, now_ms: int) -> None:
        """Go on where an earlier controller ended: by its last row, and by what the target holds."""
        row, known.row = known.row, None
        if row is None or row.limit_qps_per_gateway is None or row.burst is None:
            return
        gateways = row.gateways or 1
        push = Push(
            replicas=row.replicas or 0,
            gateways=gateways,
            limit_qps=row.limit_qps or row.limit_qps_per_gateway * gateways,
            limit_qps_per_gateway=row.limit_qps_per_gateway,
            burst=row.burst,
            reason=row.reason,
        )
        decided_ms = to_epoch_ms(row.decided_at)
        if row.state == "held":
            # It says when and why it was held, not what the limit came from.
            known.told["held"] = {_VARYING.sub("#", row.reason): decided_ms}
            decided_ms = decided_ms if row.applied_at is None else to_epoch_ms(row.applied_at)
            push = replace(push, reason="in force since before it was held")
        said = Pushed(push, self._limit(key, task, push, row.revision), row.change_id, decided_ms)
        if there is not None and there.revision > row.revision:
            return  # another controller was ahead: what is there counts
        if row.state in ("applied", "held"):
            applied_ms = decided_ms if row.applied_at is None else to_epoch_ms(row.applied_at)
            known.applied = replace(said, applied_ms=applied_ms)
            if there is not None and replace(there, client=None, clients={}) == replace(
                said.limit, client=None, clients={}
            ):
                # The catalog may have other limits for its clients by now: that is no drift.
                known.applied = replace(known.applied, limit=there)
        else:
            if there is not None and there.revision < row.revision:
                self._take_over(task, known, there, now_ms)
            known.pending = said

    def _applied(self, key: TaskKey, task: Task, known: _Known, pending: Pushed, now_ms: int) -> RateLimitRow:
        applied = replace(pending, applied_ms=now_ms)
        known.applied, known.pending, known.drift = applied, None, None
        known.told.pop("failed", None)
        return self._row(key, task, known, "applied", applied.push.reason, applied.decided_ms, applied)

    def _take_over(self, task: Task, known: _Known, there: Limit, now_ms: int) -> None:
        """A limit of ours that this controller knew nothing of: its topic was lost, or another one was ahead."""
        gateway = self._gateways.get(task.gateway)
        gateways = (gateway.ready if gateway else 0) or 1
        push = Push(
            replicas=known.replicas or 0,
            gateways=gateways,
            limit_qps=there.bucket.qps * gateways,
            limit_qps_per_gateway=there.bucket.qps,
            burst=there.bucket.max_tokens,
            reason=f"found at the target, revision {there.revision}",
        )
        known.applied = Pushed(push, there, known.change_id, now_ms, now_ms)
        known.pending, known.drift = None, None

    def _limit(self, key: TaskKey, task: Task, push: Push, revision: int) -> Limit:
        def share(qps: float) -> float:
            return max(qps / push.gateways, _SHORTEST_CLIENT_QPS)

        def bucket(qps: float) -> TokenBucket:
            return token_bucket(share(qps), burst_of(task.burst_seconds, share(qps)))

        clients = task.clients
        return Limit(
            key=key,
            route=task.route,
            revision=revision,
            bucket=token_bucket(push.limit_qps_per_gateway, push.burst),
            client=None if clients.limit_qps is None else bucket(clients.limit_qps),
            clients={name: bucket(qps) for name, qps in clients.named.items()},
        )

    def _row(
        self,
        key: TaskKey,
        task: Task,
        known: _Known,
        state: LimitState,
        reason: str,
        decided_ms: int,
        pushed: Pushed | None,
    ) -> RateLimitRow:
        push = pushed.push if pushed else None
        gateway = self._gateways.get(task.gateway)
        revision = pushed.limit.revision if pushed else known.revision
        known.said = RateLimitRow(
            id=f"{key.department}|{key.task}|{revision}|{state}",
            department=key.department,
            task=key.task,
            gateway=task.gateway,
            replicas=known.replicas if push is None or known.replicas is None else push.replicas,
            qps_per_replica=task.qps_per_replica,
            gateways=push.gateways if push else (gateway.ready if gateway else None),
            limit_qps=push.limit_qps if push else None,
            limit_qps_per_gateway=push.limit_qps_per_gateway if push else None,
            burst=push.burst if push else None,
            state=state,
            reason=reason,
            change_id=pushed.change_id if pushed else known.change_id,
            revision=revision,
            decided_at=from_epoch_ms(decided_ms),
            applied_at=(
                from_epoch_ms(pushed.applied_ms) if pushed and pushed.applied_ms is not None else None
            ),
            target=self._target,
        )
        return known.said

    def _controls_of(self, key: TaskKey, now_ms: int) -> list[LimitControl]:
        """What operators say that holds for this task now: of the task itself first."""
        named = (self._controls.get(str(key)), self._controls.get(ALL_TASKS))
        return [
            control
            for control in named
            if control is not None
            and (control.expires_at is None or to_epoch_ms(control.expires_at) > now_ms)
            and (control.paused or control.override_qps is not None)
        ]

    def _of_gateway(self, gateway: str) -> Iterator[tuple[TaskKey, Task]]:
        return ((key, task) for key, task in self._tasks.items() if task.gateway == gateway)

    def _of(self, key: TaskKey) -> _Known:
        return self._known.setdefault(key, _Known())


def _raises(push: Push, known: _Known) -> bool:
    return known.applied is not None and push.limit_qps_per_gateway > known.applied.push.limit_qps_per_gateway


def _capacity(task: Task) -> Capacity:
    return Capacity(task.qps_per_replica, task.headroom, task.floor_qps, task.ceiling_qps, task.burst_seconds)


def _overridden(
    capacity: Capacity,
    in_force: InForce | None,
    override_qps: float,
    known: _Known,
    gateway: _Gateway | None,
    reason: str,
) -> Push | Hold:
    """The operator's limit: at once, up or down, between floor and ceiling."""
    if gateway is None or not gateway.ready:
        return Hold("no data of a ready gateway: the last limit holds")
    limit_qps = max(override_qps, capacity.floor_qps)
    if capacity.ceiling_qps is not None:
        limit_qps = min(limit_qps, capacity.ceiling_qps)
    share = limit_qps / gateway.ready
    burst = burst_of(capacity.burst_seconds, share)
    if in_force is not None and (in_force.limit_qps_per_gateway, in_force.burst) == (share, burst):
        return Hold(reason)
    return Push(known.replicas or 0, gateway.ready, limit_qps, share, burst, reason)


def _drift(there: Limit, applied: Pushed) -> str:
    if there.revision != applied.limit.revision:
        return f"drift: revision {there.revision} was there in place of {applied.limit.revision}"
    return (
        f"drift: somebody had changed the limit to {there.bucket.qps:g} qps, burst {there.bucket.max_tokens}, "
        "or its clients"
    )


def _spoken(control: LimitControl) -> str:
    scope = "all tasks" if control.id == ALL_TASKS else "this task"
    until = f" until {to_text(control.expires_at)}" if control.expires_at else ""
    what = "paused" if control.paused else f"overridden to {control.override_qps:g} qps"
    return f"{scope} {what} by {control.by}{until}: {control.reason}"


def _moment(at_ms: int | None) -> str:
    return "an unknown time" if at_ms is None else to_text(from_epoch_ms(at_ms))


def _ago(at_ms: int | None, now_ms: int) -> str:
    return "never" if at_ms is None else f"{max(0, now_ms - at_ms) / 1000:.1f} s ago"
