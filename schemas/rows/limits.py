"""The rows of the closed loop: who is ready, what has settled, what each task may take, and which limit is in force."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tidegate.schemas.autoscaling_policy import AutoscalingPolicy
from tidegate.schemas.catalog import ClientLimits, Name, Rate, Slo, Text
from tidegate.schemas.index_hints import IndexAs
from tidegate.schemas.rows.base import Count, Row
from tidegate.schemas.timestamps import Timestamp

Source = Literal["kubernetes", "prometheus", "envoy"]
"""The sources of ready replicas: the API's EndpointSlices, kube-state-metrics, Envoy's own health checks."""
Cause = Literal["scale_up", "scale_down", "flapping", "resync"]
LimitState = Literal["decided", "applied", "held", "failed"]
ReplicaState = Literal["ready", "starting", "terminating"]

Qps = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Replica(Row):
    """One pod of a task, or one host that the gateway knows."""

    name: str = Field(description="the pod; ip:port where no pod is known")
    address: str | None = Field(description="ip:port, as in upstream_host; null where unknown")
    state: ReplicaState


class ReplicasRow(Row):
    """The replicas of one task, whole (topic `kubernetes.replicas`): on every change, and at least every 30 s."""

    id: str = Field(description="department|task|source")
    department: str
    task: str
    workload: str = Field(description="namespace/name of the service or deployment")
    source: Source
    replicas_ready: Count
    replicas_starting: Count = Field(description="they exist, and aren't ready yet")
    replicas_terminating: Count
    replicas: Annotated[tuple[Replica, ...], IndexAs("stored")] = Field(
        description="empty for a source that knows only their number"
    )
    observed_at: Timestamp = Field(description="when the source observed it")


class GatewayRow(Row):
    """The ready pods of one gateway (topic `kubernetes.gateways`): on every change, and at least every 30 s."""

    id: str = Field(description="gateway|source")
    gateway: str = Field(description="as the task catalog calls it")
    source: Source
    gateways_ready: Count
    gateways: tuple[str, ...] = Field(description="the ready pods")
    observed_at: Timestamp


class ReplicaChange(Row):
    """A settled change of a task's ready replicas (topic `tidegate.replica-changes`)."""

    id: str = Field(description="department|task|revision")
    department: str
    task: str
    workload: str
    replicas_before: Count | None = Field(description="null for a task that was never seen before")
    replicas_after: Count
    cause: Cause
    first_seen_at: Timestamp = Field(description="when the source first observed what has settled now")
    settled_at: Timestamp
    revision: int = Field(ge=1, description="grows by one per task; an older one is out of date")


class RateLimitRow(Row):
    """What was decided of a task's limit, and what became of it (`tidegate.rate-limits`, compacted: `.current`).

    `limit_qps_per_gateway` and `burst` are what each gateway holds; null while no limit was ever set.
    """

    id: str = Field(description="department|task|revision|state")
    department: str
    task: str
    gateway: str
    replicas: Count | None = Field(description="null where nothing is known of them")
    qps_per_replica: Qps
    gateways: Count | None
    limit_qps: Qps | None = Field(description="what all gateways admit together")
    limit_qps_per_gateway: Qps | None
    burst: int | None = Field(ge=1, description="requests that a full bucket lets through at once")
    state: LimitState
    reason: Annotated[str, IndexAs("text")]
    change_id: str | None = Field(description="of the replica change that it follows")
    revision: int = Field(ge=0, description="grows with every push of this task; 0 before the first")
    decided_at: Timestamp
    applied_at: Timestamp | None = Field(description="when it was read back from the target")
    target: str


class LimitControl(Row):
    """An operator's control of one task's limit, or of all (`tidegate.limit-controls`, compacted by `id`)."""

    id: str = Field(description="department/task; * for all")
    department: str | None
    task: str | None
    paused: bool = Field(description="no push until it is resumed")
    override_qps: Qps | None = Field(description="of all gateways together, in place of the computed limit")
    expires_at: Timestamp | None = Field(description="when the override ends; null without one")
    by: str
    reason: Annotated[str, IndexAs("text")]
    set_at: Timestamp

    @model_validator(mode="after")
    def _one_word(self) -> LimitControl:
        if self.paused and (self.override_qps is not None or self.expires_at is not None):
            raise ValueError("paused: a pause has no override and no end; resume it")
        if (self.override_qps is None) != (self.expires_at is None):
            raise ValueError("expires_at: an override has an end, and nothing else has one")
        return self


class TaskGateway(Row):
    """The gateway of a task: the pods of one workload."""

    name: Name
    namespace: Name
    labels: Annotated[dict[str, str], IndexAs("stored")]


class TaskRow(Row):
    """One task of the catalog with everything that holds for it (`tidegate.tasks`, compacted)."""

    id: str = Field(description="department/task")
    department: Name
    task: Name
    gateway: TaskGateway
    route: Text
    qps_per_replica: Rate
    headroom: float = Field(gt=0, le=2)
    floor_qps: Rate
    ceiling_qps: Rate | None
    burst_seconds: float = Field(ge=0.1, le=60)
    owner: str | None
    slo: Slo
    clients: Annotated[ClientLimits, IndexAs("stored")]
    autoscaling: Annotated[AutoscalingPolicy | None, IndexAs("stored")] = Field(
        None, description="how it is scaled; null: by others"
    )
    published_at: Timestamp


class ChangeRow(Row):
    """One request to the K8S manager that would change something (`tidegate.changes`): who, what, what came of it."""

    id: str
    at: Timestamp
    actor: str
    role: str
    action: str = Field(description="method and path")
    department: str | None
    task: str | None
    gateway: str | None
    revision: int | None
    dry_run: bool
    outcome: Literal["begun", "applied", "unchanged", "refused", "conflict", "failed"] = Field(
        description="begun: it may have been done; a row of the same id holds how it ended"
    )
    reason: Annotated[str, IndexAs("text")]
    before: Annotated[dict[str, Any] | None, IndexAs("stored")]
    after: Annotated[dict[str, Any] | None, IndexAs("stored")]
