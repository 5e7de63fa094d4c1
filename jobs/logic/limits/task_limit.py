"""One task's rate limit as a state machine: inputs, decision, push under way, read-back, the next step of a raise."""

from __future__ import annotations

from dataclasses import replace

from tidegate.jobs.logic.limits.envoy_limits import Limit
from tidegate.jobs.logic.limits.explanation import Explained
from tidegate.jobs.logic.limits.inputs import Session, Situation, TaskState
from tidegate.jobs.logic.limits.notices import NoticeLog, hold_reason
from tidegate.jobs.logic.limits.pushed import PushedLimit, drift_of, limit_of
from tidegate.jobs.logic.limits.rate_limits import Hold, Push
from tidegate.jobs.logic.limits.restoring import (
    published_hold_ms,
    restore_inputs,
    restore_limits,
    take_over,
)
from tidegate.jobs.logic.limits.rows import limit_row, with_limit_of
from tidegate.jobs.logic.limits.task_decision import decide_task
from tidegate.schemas.rows.limits import LimitState, RateLimitRow, ReplicaChange


class TaskLimit:
    """One task's rate limit. Takes events, and returns the rows to publish; `wanted` is the limit to push."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._state = TaskState()
        self._paused = False
        self._restorable = True
        self._restored_row: RateLimitRow | None = None
        self._last_row: RateLimitRow | None = None
        self._notices = NoticeLog(session.timing.alarm_ms)
        self._hold_has_ended = False

    @property
    def state(self) -> TaskState:
        """The inputs, the limit in force, and the push under way."""
        return self._state

    @property
    def wanted(self) -> PushedLimit | None:
        """The push under way; None where there is none, or the task is paused."""
        return None if self._paused else self._state.pending

    @property
    def hold_has_ended(self) -> bool:
        """Whether a published hold is over, and `end_hold` has not been called since."""
        return self._hold_has_ended

    def restore(self, row: RateLimitRow) -> None:
        """Take the newest row that this or an earlier controller published; ignored once the target has been read."""
        if not self._restorable or row.revision < self._state.revision:
            return
        self._state = restore_inputs(self._state, row)
        self._restored_row = self._last_row = row

    def apply_change(self, change: ReplicaChange) -> None:
        """Take a settled change of the ready replicas."""
        self._state = replace(self._state, replicas=self._state.replicas.with_change(change))

    def observe_heartbeat(self, at_ms: int) -> None:
        """Take a heartbeat of the replicas' source."""
        self._state = replace(self._state, replicas=self._state.replicas.with_heartbeat(at_ms))

    def observe_limit(self, found: Limit | None, situation: Situation) -> RateLimitRow | None:
        """Compare the target's limit with the push under way, or with the limit in force.

        Returns the `applied` row of a push that the target holds now.
        """
        if not self._state.read_back:
            self._read_first(found, situation)
        state = self._state
        if found is None:
            if state.pending is None and state.applied is not None:
                self._state = replace(state, drift=drift_of(None, state.applied))
            return None
        state = self._state = replace(state, revision=max(state.revision, found.revision))
        if state.pending is not None:
            if found == state.pending.limit:
                return self._confirm(state.pending, situation)
            if found.revision > state.pending.limit.revision:
                self._state = take_over(state, found, situation)
        elif state.applied is not None:
            self._state = replace(state, drift=drift_of(found, state.applied))
        else:
            self._state = take_over(state, found, situation)
        return None

    def observe_rejection(
        self, revision: int, reason: str, newer: int | None, situation: Situation
    ) -> RateLimitRow | None:
        """Take the target's rejection of a push. newer: the target's revision, where that is the reason.

        A newer revision is another controller's: the target has to be read before anything is decided again.
        """
        state = self._state
        if state.pending is None or state.pending.limit.revision != revision:
            return None
        row = self._notice("failed", reason, situation, state.pending)
        if newer is not None:
            self._state = TaskState(state.replicas, max(state.revision, newer))
        return row

    def observe_failure(self, reason: str, situation: Situation) -> RateLimitRow | None:
        """Take a failed read or write of the gateway: a push under way stays so, and so does a task without one."""
        if self._state.pending is not None:
            return self._notice("failed", reason, situation, self._state.pending)
        return None if self._state.read_back else self._unread_notice(reason, situation)

    def decision(self, situation: Situation) -> Push | Hold:
        """What would be pushed now, or why nothing."""
        return decide_task(self._state, situation, self._session)

    def decide(self, situation: Situation) -> RateLimitRow | None:
        """Begin a push, or report why the limit is held. Returns the row to publish."""
        self._paused = situation.pause is not None
        decision = self.decision(situation)
        if isinstance(decision, Push):
            return self._begin(decision, situation)
        return self._hold_notice(situation)

    def end_hold(self, situation: Situation) -> RateLimitRow | None:
        """The `applied` row once more, after a published hold; None where that limit is in force no longer."""
        self._hold_has_ended = False
        applied = self._state.applied
        if applied is None or self._state.pending is not None:
            return None
        return self._row("applied", applied.push.reason, situation, applied, applied.decided_ms)

    def explained(self, situation: Situation) -> Explained:
        """The values that an explanation of this limit shows."""
        return Explained(self._state, situation, self._last_row, self.decision(situation))

    def _read_first(self, found: Limit | None, situation: Situation) -> None:
        """Continue where an earlier controller ended; without its row nothing is known yet."""
        row, self._restored_row, self._restorable = self._restored_row, None, False
        self._state = replace(self._state, read_back=True)
        if row is None:
            return
        if (held_ms := published_hold_ms(row)) is not None:
            self._notices.end("held")
            self._notices.mark_published("held", row.reason, held_ms)
        self._state = restore_limits(self._state, row, found, situation)

    def _begin(self, push: Push, situation: Situation) -> RateLimitRow:
        state = self._state
        if state.drift is not None and state.drift != push.reason:
            push = replace(push, reason=f"{push.reason}; {state.drift}")
        revision = state.revision + 1
        limit = limit_of(situation.task, push, revision)
        pending = PushedLimit(push, limit, state.replicas.change_id, situation.now_ms)
        self._state = replace(state, revision=revision, pending=pending, drift=None)
        self._notices.clear()
        return self._row("decided", push.reason, situation, pending)

    def _confirm(self, pending: PushedLimit, situation: Situation) -> RateLimitRow:
        applied = replace(pending, applied_ms=situation.now_ms)
        self._state = replace(self._state, applied=applied, pending=None, drift=None)
        self._notices.end("failed")
        return self._row("applied", applied.push.reason, situation, applied, applied.decided_ms)

    def _hold_notice(self, situation: Situation) -> RateLimitRow | None:
        """The `held` row of a reason that is due. Before the target has been read, what is held isn't known."""
        if not self._state.read_back:
            return None
        reason = hold_reason(self._state, situation, self._session)
        if reason is not None:
            return self._notice("held", reason, situation, self._state.applied)
        if self._notices.end("held") and self._state.pending is None:
            self._hold_has_ended = True
        return None

    def _unread_notice(self, reason: str, situation: Situation) -> RateLimitRow | None:
        """The `failed` row of a gateway that was never read, with the limit of the last published row."""
        row = self._notice("failed", reason, situation, None)
        if row is not None and self._restored_row is not None:
            row = self._last_row = with_limit_of(row, self._restored_row)
        return row

    def _notice(
        self, row_state: LimitState, reason: str, situation: Situation, pushed: PushedLimit | None
    ) -> RateLimitRow | None:
        """The row of this reason, where it is due."""
        if not self._notices.publish_due(row_state, reason, situation.now_ms):
            return None
        return self._row(row_state, reason, situation, pushed)

    def _row(
        self,
        row_state: LimitState,
        reason: str,
        situation: Situation,
        pushed: PushedLimit | None,
        decided_ms: int | None = None,
    ) -> RateLimitRow:
        decided_ms = situation.now_ms if decided_ms is None else decided_ms
        row = limit_row(self._state, situation, self._session, row_state, reason, decided_ms, pushed)
        self._last_row = row
        return row
