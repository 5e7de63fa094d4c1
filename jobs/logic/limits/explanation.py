"""What `tidegate limit --explain` prints of one task: its numbers, its events, and the decision, a line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tidegate.jobs.logic.limits.controls import describe
from tidegate.jobs.logic.limits.inputs import Situation, TaskState
from tidegate.jobs.logic.limits.notices import moment
from tidegate.jobs.logic.limits.pushed import key_of
from tidegate.jobs.logic.limits.rate_limits import Hold, Push
from tidegate.jobs.logic.limits.task_decision import capacity_of
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.timestamps import to_text


@dataclass(frozen=True)
class Explained:
    """The values behind one task's limit. last_row: the newest one that is published."""

    state: TaskState
    situation: Situation
    last_row: RateLimitRow | None
    decision: Push | Hold


def explain(values: Explained) -> list[str]:
    """Why the task's limit is what it is, in lines."""
    return [
        *_inputs(values.state, values.situation),
        *_computed_limit(values.state, values.situation),
        *_pushed_limits(values.state),
        *_last_row(values.last_row),
        *_obstacles(values.situation),
        f"  now: {'push' if isinstance(values.decision, Push) else 'hold'}, {values.decision.reason}",
    ]


def _inputs(state: TaskState, situation: Situation) -> Iterator[str]:
    task, gateway, replicas, now_ms = situation.task, situation.gateway, state.replicas, situation.now_ms
    ceiling = "none" if task.ceiling_qps is None else f"{task.ceiling_qps:g}"
    yield f"{key_of(task)}, route {task.route!r} of gateway {task.gateway}"
    yield (
        f"  catalog: {task.qps_per_replica:g} qps a replica, headroom {task.headroom:g}, "
        f"floor {task.floor_qps:g}, ceiling {ceiling}, burst {task.burst_seconds:g} s"
    )
    change = f", by change {replicas.change_id}" if replicas.change_id else ""
    yield f"  ready replicas: {_count(replicas.ready)}{change}; {_heartbeat(replicas.observed_ms, now_ms)}"
    yield f"  ready gateways: {_count(gateway.ready)}; {_heartbeat(gateway.observed_ms, now_ms)}"


def _computed_limit(state: TaskState, situation: Situation) -> Iterator[str]:
    task, replicas, gateways = situation.task, state.replicas.ready, situation.gateway.ready
    if replicas is None or not gateways:
        return
    capacity_qps = replicas * task.qps_per_replica * task.headroom
    limit_qps = capacity_of(task).limit_qps(replicas)
    bound = "floor" if limit_qps > capacity_qps else "ceiling"
    bounded = "" if limit_qps == capacity_qps else f", {bound} {limit_qps:g} qps"
    yield (
        f"  computed: {replicas} x {task.qps_per_replica:g} x {task.headroom:g} = {capacity_qps:g} qps{bounded}, "
        f"/ {gateways} gateways = {limit_qps / gateways:g} a gateway"
    )


def _pushed_limits(state: TaskState) -> Iterator[str]:
    if applied := state.applied:
        push = applied.push
        yield (
            f"  in force: {push.limit_qps_per_gateway:g} qps a gateway, burst {push.burst}, revision "
            f"{applied.limit.revision}, since {moment(applied.applied_ms)} ({push.reason})"
        )
    else:
        yield "  in force: no limit that tidegate has pushed"
    if pending := state.pending:
        yield (
            f"  under way: {pending.push.limit_qps_per_gateway:g} qps a gateway, revision "
            f"{pending.limit.revision}, since {moment(pending.decided_ms)} ({pending.push.reason})"
        )


def _last_row(row: RateLimitRow | None) -> Iterator[str]:
    if row is not None:
        yield f"  last published: {row.state}, revision {row.revision}, {to_text(row.decided_at)} ({row.reason})"


def _obstacles(situation: Situation) -> Iterator[str]:
    for control in situation.controls:
        yield f"  control: {describe(control)}"
    if unreachable := situation.gateway.unreachable:
        yield f"  gateway {situation.gateway.name} is unreachable: {unreachable.reason}"


def _count(number: int | None) -> str:
    return "unknown" if number is None else str(number)


def _heartbeat(at_ms: int | None, now_ms: int) -> str:
    return (
        "no heartbeat yet" if at_ms is None else f"last heartbeat {max(0, now_ms - at_ms) / 1000:.1f} s ago"
    )
