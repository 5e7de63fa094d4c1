"""What to push of one task now: `rate_limits.decide`, and around it controls, silence, and the push under way.

A task has at most one push under way (`pending`). Until the target is seen to hold it, only a lower limit replaces it,
or the same limit where the catalog has another route or other clients by now; so a raise is always measured from a
limit that is really in force.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from tidegate.jobs.logic.limits.controls import describe
from tidegate.jobs.logic.limits.inputs import Session, Situation, TaskState
from tidegate.jobs.logic.limits.notices import silence
from tidegate.jobs.logic.limits.pushed import PushedLimit, catalog_difference
from tidegate.jobs.logic.limits.rate_limits import (
    UNKNOWN_GATEWAYS,
    Capacity,
    Hold,
    LimitInForce,
    Push,
    burst_of,
    decide,
)
from tidegate.schemas.catalog import Task
from tidegate.schemas.rows.limits import LimitControl


def decide_task(state: TaskState, situation: Situation, session: Session) -> Push | Hold:
    """What to push of this task now, or why nothing."""
    if situation.pause is not None:
        return Hold(describe(situation.pause))
    if not state.read_back:
        return Hold(f"the limits of gateway {situation.gateway.name} have not been read yet")
    base = state.pending or state.applied
    in_force = None if base is None else base.in_force()
    override = situation.override
    if override is None:
        decision = _computed(state, situation, session, in_force)
    else:
        decision = _overridden(*override, state, situation, in_force)
    if state.pending is not None:
        return _in_place_of(state.pending, situation.task, decision)
    if isinstance(decision, Hold):
        return _again(state, situation.task) or decision
    if override is not None:
        return decision
    return _with_other_raises(state.applied, decision, situation, session)


def capacity_of(task: Task) -> Capacity:
    """The catalog's entry as the capacity that the decision takes."""
    return _capacity(
        task.qps_per_replica, task.headroom, task.floor_qps, task.ceiling_qps, task.burst_seconds
    )


@lru_cache(maxsize=8192)
def _capacity(
    qps_per_replica: float, headroom: float, floor_qps: float, ceiling_qps: float | None, burst_seconds: float
) -> Capacity:
    """Each capacity is checked once, though every turn of the controller decides of every task."""
    return Capacity(qps_per_replica, headroom, floor_qps, ceiling_qps, burst_seconds)


def _computed(
    state: TaskState, situation: Situation, session: Session, in_force: LimitInForce | None
) -> Push | Hold:
    """The limit that follows the ready replicas. While a source is silent, it isn't raised."""
    decision = decide(
        capacity_of(situation.task),
        session.pace,
        in_force,
        replicas=state.replicas.ready,
        gateways=situation.gateway.ready,
        now_ms=situation.now_ms,
    )
    silent = silence(state, situation, session)
    raises = isinstance(decision, Push) and (
        in_force is None or decision.limit_qps_per_gateway > in_force.limit_qps_per_gateway
    )
    return Hold(silent) if silent and raises else decision


def _overridden(
    override_qps: float,
    control: LimitControl,
    state: TaskState,
    situation: Situation,
    in_force: LimitInForce | None,
) -> Push | Hold:
    """The operator's limit: at once, up or down, between floor and ceiling."""
    reason = describe(control)
    capacity, gateways = capacity_of(situation.task), situation.gateway.ready
    if not gateways:
        return Hold(UNKNOWN_GATEWAYS)
    limit_qps = max(override_qps, capacity.floor_qps)
    if capacity.ceiling_qps is not None:
        limit_qps = min(limit_qps, capacity.ceiling_qps)
    share = limit_qps / gateways
    burst = burst_of(capacity.burst_seconds, share)
    if in_force is not None and (in_force.limit_qps_per_gateway, in_force.burst) == (share, burst):
        return Hold(reason)
    return Push(state.replicas.ready or 0, gateways, limit_qps, share, burst, reason)


def _in_place_of(pending: PushedLimit, task: Task, decision: Push | Hold) -> Push | Hold:
    """What replaces the push under way."""
    if isinstance(decision, Push) and decision.limit_qps_per_gateway < pending.push.limit_qps_per_gateway:
        return decision
    if reason := catalog_difference(task, pending):
        return replace(pending.push, reason=reason)
    return Hold(f"the push of revision {pending.limit.revision} is under way")


def _again(state: TaskState, task: Task) -> Push | None:
    """The limit in force once more, where the target has drifted from it, or the catalog has; None where neither."""
    if state.applied is None:
        return None
    reason = state.drift or catalog_difference(task, state.applied)
    return None if reason is None else replace(state.applied.push, reason=reason)


def _with_other_raises(
    applied: PushedLimit | None, push: Push, situation: Situation, session: Session
) -> Push | Hold:
    """The push; a raise waits until the gateway's next raises are due."""
    gateway = situation.gateway
    raises = applied is not None and push.limit_qps_per_gateway > applied.push.limit_qps_per_gateway
    if gateway.raised_ms is None or not raises:
        return push
    may_raise_ms = gateway.raised_ms + session.timing.raises_together_ms
    if situation.now_ms >= may_raise_ms:
        return push
    return Hold(f"{push.reason}: it waits for the next raises of gateway {gateway.name}", may_raise_ms)
