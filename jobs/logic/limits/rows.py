"""The row that the controller publishes of one task's limit."""

from __future__ import annotations

from tidegate.jobs.logic.limits.inputs import Session, Situation, TaskState
from tidegate.jobs.logic.limits.pushed import PushedLimit, key_of
from tidegate.schemas.rows.limits import LimitState, RateLimitRow
from tidegate.schemas.timestamps import from_epoch_ms

_LIMIT_COLUMNS = (
    "limit_qps",
    "limit_qps_per_gateway",
    "burst",
    "gateways",
    "change_id",
    "revision",
    "applied_at",
)


def limit_row(
    state: TaskState,
    situation: Situation,
    session: Session,
    row_state: LimitState,
    reason: str,
    decided_ms: int,
    pushed: PushedLimit | None,
) -> RateLimitRow:
    """The row of a pushed limit, or of a task without one."""
    task, push = situation.task, pushed.push if pushed else None
    key, replicas = key_of(task), state.replicas
    revision = pushed.limit.revision if pushed else state.revision
    return RateLimitRow(
        id=f"{key.department}|{key.task}|{revision}|{row_state}",
        department=key.department,
        task=key.task,
        gateway=task.gateway,
        replicas=replicas.ready if push is None or replicas.ready is None else push.replicas,
        qps_per_replica=task.qps_per_replica,
        gateways=push.gateways if push else situation.gateway.ready,
        limit_qps=push.limit_qps if push else None,
        limit_qps_per_gateway=push.limit_qps_per_gateway if push else None,
        burst=push.burst if push else None,
        state=row_state,
        reason=reason,
        change_id=pushed.change_id if pushed else replicas.change_id,
        revision=revision,
        decided_at=from_epoch_ms(decided_ms),
        applied_at=from_epoch_ms(pushed.applied_ms) if pushed and pushed.applied_ms is not None else None,
        target=session.target,
    )


def with_limit_of(row: RateLimitRow, before: RateLimitRow) -> RateLimitRow:
    """The row with the limit of an earlier one, so that a row without a limit doesn't replace it."""
    return row.model_copy(update={name: getattr(before, name) for name in _LIMIT_COLUMNS})
