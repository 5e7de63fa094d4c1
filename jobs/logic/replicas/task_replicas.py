"""The replicas of one task: their active source, and what has settled. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tidegate.jobs.logic.replicas.changes import Change, State, Windows, advance, observe, resynced
from tidegate.jobs.logic.replicas.sources import SourceState, accept
from tidegate.schemas.rows.limits import ReplicaChange, ReplicasRow
from tidegate.schemas.timestamps import from_epoch_ms, to_epoch_ms


@dataclass(frozen=True)
class TaskReplicas:
    """The state of one task's replicas. `workload`: as the active source names it."""

    department: str
    task: str
    workload: str = ""
    source: SourceState = field(default_factory=SourceState)
    state: State = field(default_factory=State)

    @staticmethod
    def restored(change: ReplicaChange) -> TaskReplicas:
        """The state after a restart, from the newest change alone."""
        return TaskReplicas(
            change.department,
            change.task,
            change.workload,
            state=State.restored(change.replicas_after, change.revision, to_epoch_ms(change.settled_at)),
        )

    def observe(
        self, row: ReplicasRow, windows: Windows, stale_ms: int
    ) -> tuple[TaskReplicas, list[ReplicaChange]]:
        """The state after a row, and the changes that it settles.

        After a silence of more than `stale_ms` the row settles at once, as `resync`.
        """
        at_ms = to_epoch_ms(row.observed_at)
        source, counts = accept(self.source, row.source, at_ms, stale_ms)
        if not counts:
            return self, []
        observed = replace(self, workload=row.workload, source=source)
        if self.state.settled is not None and at_ms - self._observed_ms() > stale_ms:
            state, changes = resynced(self.state, at_ms, row.replicas_ready)
        else:
            state, changes = observe(self.state, windows, at_ms, row.replicas_ready)
        return replace(observed, state=state), observed.rows(changes)

    def wait(self, windows: Windows, now_ms: int) -> tuple[TaskReplicas, list[ReplicaChange]]:
        """The state at this moment of the source's time, without another row."""
        state, changes = advance(self.state, windows, now_ms)
        return replace(self, state=state), self.rows(changes)

    def rows(self, changes: list[Change]) -> list[ReplicaChange]:
        """These changes as rows."""
        return [
            ReplicaChange(
                id=f"{self.department}|{self.task}|{change.revision}",
                department=self.department,
                task=self.task,
                workload=self.workload,
                replicas_before=change.replicas_before,
                replicas_after=change.replicas_after,
                cause=change.cause,
                first_seen_at=from_epoch_ms(change.first_seen_ms),
                settled_at=from_epoch_ms(change.settled_ms),
                revision=change.revision,
            )
            for change in changes
        ]

    def _observed_ms(self) -> int:
        return max(self.source.spoke_ms, self.state.observed_ms)
