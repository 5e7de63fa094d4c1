"""What replicas use, in windows, and what is known of each task."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.schemas.index_hints import IndexAs
from tidegate.schemas.rows.base import Count, Ms, Ratio, Row
from tidegate.schemas.timestamps import Timestamp, to_epoch_ms

ResourceSpan = Literal["10s", "1m"]
ResourceLevel = Literal["task", "replica"]

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ResourceMetricsRow(Row):
    """What one replica, or all of a task together, used in a window (`tidegate.resource-metrics.10s`, `.1m`).

    A field is null where no sample holds it: unknown is not zero. A task's amounts are the sums of its replicas', its
    ratios are computed from these sums and never averaged; where only some replicas have an amount, `replicas_*` hold
    of how many it is the sum.
    """

    id: str = Field(description="span|level|department|task|replica|window_start in epoch ms")
    span: ResourceSpan
    level: ResourceLevel
    window_start: Timestamp
    window_end: Timestamp = Field(description="exclusive")
    department: str
    task: str
    replica: str | None = Field(description="the pod; null at level task")
    replicas_seen: Count = Field(description="replicas with a sample in the window")
    replicas_desired: Count | None = Field(description="of the deployment; null at level replica")
    cpu_cores: Amount | None = Field(description="CPU seconds used a second")
    cpu_limit_cores: Amount | None
    cpu_of_limit_ratio: Amount | None = Field(description="cpu_cores / cpu_limit_cores")
    cpu_throttled_ratio: Ratio | None = Field(
        description="of the CPU time that was wanted, what the limit refused: throttled / (throttled + used)"
    )
    memory_working_set_bytes: Amount | None = Field(description="the largest sample of the window")
    memory_limit_bytes: Amount | None
    memory_of_limit_ratio: Amount | None
    network_receive_bytes_per_second: Amount | None
    network_transmit_bytes_per_second: Amount | None
    gpu_count: Count | None
    gpu_utilization_ratio: Ratio | None = Field(description="mean over GPUs and samples")
    gpu_memory_used_bytes: Amount | None
    gpu_memory_total_bytes: Amount | None
    gpu_memory_of_total_ratio: Ratio | None
    gpu_power_watts: Amount | None = Field(description="mean over samples, summed over GPUs")
    restarts: Count | None = Field(description="of containers, in the window")
    replicas_with_cpu: Count
    replicas_with_memory: Count
    replicas_with_gpu: Count
    samples: Count = Field(description="that were used")

    @staticmethod
    def id_of(
        span: str, level: str, department: str, task: str, replica: str | None, window_start_ms: int
    ) -> str:
        """The row's deterministic id; absent parts are empty."""
        return "|".join((span, level, department, task, replica or "", str(window_start_ms)))

    def expected_id(self) -> str:
        """The id that this row's other fields ask for."""
        start_ms = to_epoch_ms(self.window_start)
        return self.id_of(self.span, self.level, self.department, self.task, self.replica, start_ms)


class Freshness(Row):
    """How new one input of a profile is."""

    observed_at: Timestamp | None = Field(description="the input's own time; null: never seen")
    age_ms: Ms | None = Field(description="by this machine's clock since it last came")
    stale: bool


class VersionProfile(Row):
    """One version of a task, over the profile's traffic window."""

    version: str
    qps: Amount
    latency_p99_ms: Ms | None
    error_rate: Ratio


class SlowReplica(Row):
    """The slowest replica of a task against its siblings."""

    replica: str
    latency_p99_ms: Ms
    median_p99_ms: Ms = Field(description="over all replicas of the task that had enough requests")
    deviations: Amount = Field(description="distance to the median, in scaled median absolute deviations")
    outlier: bool


class TaskProfile(Row):
    """What is known of a task now (topic `tidegate.task-profile`, compacted by `department/task`).

    A field whose input is stale or was never there is null, and its input's name stands in `stale_inputs`.
    """

    id: str = Field(description="department/task")
    department: str
    task: str
    owner: str | None
    computed_at: Timestamp
    # replicas
    replicas_ready: Count | None
    replicas_starting: Count | None
    replicas_terminating: Count | None
    replicas_desired: Count | None
    # traffic, over traffic_window_seconds
    traffic_window_seconds: Count = Field(description="whole seconds that the traffic fields are over")
    requests: Count | None
    qps: Amount | None
    qps_recent: Amount | None = Field(description="over the last task_profile.panic_window_seconds")
    qps_per_replica: Amount | None = Field(description="admitted (not rate limited) qps / replicas_ready")
    latency_count: Count | None
    latency_p50_ms: Ms | None
    latency_p99_ms: Ms | None
    error_rate: Ratio | None
    rate_limited_ratio: Ratio | None
    versions: Annotated[tuple[VersionProfile, ...], IndexAs("stored")]
    slowest_replica: SlowReplica | None
    # limit
    limit_qps: Amount | None
    limit_state: str | None
    limit_used_ratio: Amount | None = Field(description="admitted qps / limit_qps")
    # resources, of the newest 10 s window
    cpu_cores: Amount | None
    cpu_of_limit_ratio: Amount | None
    cpu_throttled_ratio: Ratio | None
    cpu_seconds_per_request: Amount | None
    memory_working_set_bytes: Amount | None
    memory_of_limit_ratio: Amount | None
    gpu_utilization_ratio: Ratio | None
    gpu_memory_of_total_ratio: Ratio | None
    # capacity
    capacity_qps_per_replica: Amount | None = Field(description="of the task catalog")
    sustained_qps_per_replica: Amount | None = Field(
        description="learned: the most that was held with p99 within the SLO for task_profile.sustain_minutes"
    )
    sustained_at: Timestamp | None = Field(description="end of the minutes in which it was held")
    slo_p99_ms: Ms | None
    slo_error_rate: Ratio | None
    freshness: Annotated[dict[str, Freshness], IndexAs("stored")] = Field(
        description="traffic, resources, replicas, limit, catalog"
    )
    stale_inputs: tuple[str, ...]
