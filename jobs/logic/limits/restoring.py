"""Rebuilding a task's limit at a controller's start: from its last published row, and from the target's limit.

The row is read from the topic first; it counts once the target has been read too. The target decides where the two
differ: a higher revision there is another controller's, which was ahead of the row.
"""

from __future__ import annotations

from dataclasses import replace

from tidegate.jobs.logic.limits.envoy_limits import Limit
from tidegate.jobs.logic.limits.inputs import Situation, TaskState
from tidegate.jobs.logic.limits.pushed import PushedLimit, limit_of
from tidegate.jobs.logic.limits.rate_limits import Push
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.timestamps import to_epoch_ms


def restore_inputs(state: TaskState, row: RateLimitRow) -> TaskState:
    """The state with a published row's revision and replicas. A settled change that is already known is kept."""
    replicas = state.replicas
    if not replicas.change_revision:
        replicas = replace(replicas, ready=row.replicas, change_id=row.change_id)
    return replace(state, revision=row.revision, replicas=replicas)


def restore_limits(
    state: TaskState, row: RateLimitRow, found: Limit | None, situation: Situation
) -> TaskState:
    """The state with the limit in force and the push under way. found: the target's limit of this task."""
    restored = _pushed_of(row, situation)
    if restored is None or (found is not None and found.revision > row.revision):
        return state
    if row.state in ("applied", "held"):
        return replace(state, applied=_as_found(_in_force(restored, row), found))
    if found is not None and found.revision < row.revision:
        state = take_over(state, found, situation)
    return replace(state, pending=restored)


def take_over(state: TaskState, found: Limit, situation: Situation) -> TaskState:
    """The state with the target's limit in force, which this session doesn't know.

    Its row is lost, or another controller has pushed it.
    """
    gateways = situation.gateway.ready or 1
    push = Push(
        replicas=state.replicas.ready or 0,
        gateways=gateways,
        limit_qps=found.bucket.qps * gateways,
        limit_qps_per_gateway=found.bucket.qps,
        burst=found.bucket.max_tokens,
        reason=f"revision {found.revision} was taken over from the target",
    )
    now_ms = situation.now_ms
    applied = PushedLimit(push, found, state.replicas.change_id, now_ms, now_ms)
    return replace(state, applied=applied, pending=None, drift=None)


def published_hold_ms(row: RateLimitRow) -> int | None:
    """When a held row with a limit was published; None for any other row."""
    return to_epoch_ms(row.decided_at) if row.state == "held" and _has_limit(row) else None


def _has_limit(row: RateLimitRow) -> bool:
    return row.limit_qps_per_gateway is not None and row.burst is not None


def _pushed_of(row: RateLimitRow, situation: Situation) -> PushedLimit | None:
    if row.limit_qps_per_gateway is None or row.burst is None:
        return None
    gateways = row.gateways or 1
    push = Push(
        replicas=row.replicas or 0,
        gateways=gateways,
        limit_qps=row.limit_qps or row.limit_qps_per_gateway * gateways,
        limit_qps_per_gateway=row.limit_qps_per_gateway,
        burst=row.burst,
        reason=row.reason,
    )
    decided_at = row.decided_at
    if row.state == "held":
        # Its reason and time are those of the hold; it doesn't hold those of the limit.
        decided_at = row.applied_at or row.decided_at
        push = replace(push, reason="in force before the hold")
    limit = limit_of(situation.task, push, row.revision)
    return PushedLimit(push, limit, row.change_id, to_epoch_ms(decided_at))


def _in_force(restored: PushedLimit, row: RateLimitRow) -> PushedLimit:
    applied_ms = restored.decided_ms if row.applied_at is None else to_epoch_ms(row.applied_at)
    return replace(restored, applied_ms=applied_ms)


def _as_found(applied: PushedLimit, found: Limit | None) -> PushedLimit:
    """The limit with the target's clients: the catalog may have others by now, which isn't drift."""
    if found is None or _without_clients(found) != _without_clients(applied.limit):
        return applied
    return replace(applied, limit=found)


def _without_clients(limit: Limit) -> Limit:
    return replace(limit, client=None, clients={})
