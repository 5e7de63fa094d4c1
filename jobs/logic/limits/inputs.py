"""The values that a task's limit is decided from: settings of a session, replicas, the gateway, controls.

Times are epoch milliseconds, and given; nothing in this package reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tidegate.jobs.logic.limits.pushed import PushedLimit
from tidegate.jobs.logic.limits.rate_limits import Pace
from tidegate.schemas.catalog import Task
from tidegate.schemas.rows.limits import LimitControl, ReplicaChange


@dataclass(frozen=True)
class Timing:
    """Durations after which something is done though no event arrives, in ms.

    silent_ms: a source without a heartbeat for longer is silent. alarm_ms: a lasting reason is published again after
    this time. raises_together_ms: the least time between two raises at one gateway. Envoy fills the buckets of all
    routes with every change of its routes, so each push lets every task of the gateway have one more burst.
    """

    silent_ms: int = 90_000
    alarm_ms: int = 300_000
    raises_together_ms: int = 5_000


@dataclass(frozen=True)
class Session:
    """One controller session: its settings, the target's name in the rows, and when it started.

    started_ms: from when on the silence of a source that never sent anything is counted.
    """

    pace: Pace
    timing: Timing
    target: str
    started_ms: int


@dataclass(frozen=True)
class ReplicasState:
    """A task's ready replicas: the newest settled change, and the newest heartbeat of their source."""

    ready: int | None = None
    change_id: str | None = None
    change_revision: int = 0
    observed_ms: int | None = None

    def with_change(self, change: ReplicaChange) -> ReplicasState:
        """The state after a settled change. A change that isn't newer than the known one is ignored."""
        if change.revision <= self.change_revision:
            return self
        return replace(
            self, ready=change.replicas_after, change_id=change.id, change_revision=change.revision
        )

    def with_heartbeat(self, at_ms: int) -> ReplicasState:
        """The state after a heartbeat of the source."""
        return replace(self, observed_ms=max(at_ms, self.observed_ms or 0))


@dataclass(frozen=True)
class Unreachable:
    """Why a gateway can be neither read nor written, and since when."""

    since_ms: int
    reason: str


@dataclass(frozen=True)
class GatewayState:
    """A gateway: its ready pods (None: unknown), whether it can be reached, when limits were last raised there."""

    name: str
    ready: int | None = None
    observed_ms: int | None = None
    unreachable: Unreachable | None = None
    raised_ms: int | None = None

    def with_ready(self, ready: int, at_ms: int) -> GatewayState:
        """The state after an observation of the pods. An observation older than the known one is ignored."""
        if self.observed_ms is not None and at_ms < self.observed_ms:
            return self
        return replace(self, ready=ready, observed_ms=at_ms)

    def with_failure(self, reason: str, now_ms: int) -> GatewayState:
        """The state after a failed read or write: unreachable since the first failure in a row."""
        since_ms = now_ms if self.unreachable is None else self.unreachable.since_ms
        return replace(self, unreachable=Unreachable(since_ms, reason))


@dataclass(frozen=True)
class Situation:
    """What surrounds a task's limit at one moment. controls: those in effect, the task's own first."""

    now_ms: int
    task: Task
    gateway: GatewayState
    controls: Sequence[LimitControl] = ()

    @property
    def pause(self) -> LimitControl | None:
        """The control that pauses the task; None where none does."""
        return next((control for control in self.controls if control.paused), None)

    @property
    def override(self) -> tuple[float, LimitControl] | None:
        """The override in effect, in qps, and its control; None where there is none."""
        for control in self.controls:
            if control.override_qps is not None:
                return control.override_qps, control
        return None


@dataclass(frozen=True)
class TaskState:
    """One task's limit: its inputs, the limit in force, and the push under way.

    revision: the highest one that is known. read_back: whether the target's limit has been read; nothing is decided
    before. drift: how the target differs from the limit in force; None where it doesn't.
    """

    replicas: ReplicasState = field(default_factory=ReplicasState)
    revision: int = 0
    read_back: bool = False
    applied: PushedLimit | None = None
    pending: PushedLimit | None = None
    drift: str | None = None

    @property
    def raises(self) -> bool:
        """Whether the push under way is above the limit in force."""
        return self.pending is not None and self.pending.is_above(self.applied)
