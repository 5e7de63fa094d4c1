"""What is published to machines and people: alerts, autoscaling signals, call statistics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.schemas.index_hints import IndexAs
from tidegate.schemas.rows.base import Count, Histogram, Ms, Ratio, Row
from tidegate.schemas.timestamps import Timestamp

AlertState = Literal["pending", "firing", "resolved"]
Severity = Literal["info", "warning", "critical"]
CallSpan = Literal["1h", "1d"]
CallLevel = Literal["department", "task", "client"]

UNKNOWN_CLIENT = "__unknown__"
"""Of a call that names no client."""

Finite = Annotated[float, Field(allow_inf_nan=False)]


class AlertRow(Row):
    """An alert that began, goes on, or ended (topic `tidegate.alerts`, keyed by `alert_key`)."""

    id: str = Field(description="alert_key|started_at in epoch ms|state")
    alert_key: str = Field(description="rule|department|task|replica, absent parts empty")
    rule: str
    level: str = Field(description="of the rule: interface, hardware or pipeline")
    severity: Severity
    state: AlertState
    department: str | None
    task: str | None
    replica: str | None
    value: Finite | None = Field(description="the newest of what the rule looks at; null: no data")
    threshold: Finite | None
    message: Annotated[str, IndexAs("text")]
    runbook_url: str | None
    labels: Annotated[dict[str, str], IndexAs("stored")]
    silenced: bool = Field(description="within a silence window: recorded, and not sent")
    started_at: Timestamp = Field(description="when the condition began to hold")
    fired_at: Timestamp | None
    resolved_at: Timestamp | None
    observed_at: Timestamp = Field(description="window_end of the newest row that was looked at")


class Signal(Row):
    """One reason for a number of replicas."""

    name: str = Field(description="such as qps_per_replica, cpu_of_limit_ratio, schedule")
    value: Finite | None = Field(description="null: stale or missing, so it asks for nothing")
    target: Finite | None
    desired_replicas: Count | None


class AutoscalingSignals(Row):
    """What an autoscaler needs of one task (topic `tidegate.autoscaling-signals`, compacted)."""

    id: str = Field(description="department/task")
    department: str
    task: str
    replicas: Count | None = Field(description="ready now")
    signals: Annotated[tuple[Signal, ...], IndexAs("stored")]
    desired_replicas: Count | None = Field(description="null: nothing is known, so keep what is there")
    panic: bool = Field(description="sudden load: scaling down waits")
    held: bool = Field(description="kept up by stale data, a window or a step limit")
    reason: Annotated[str, IndexAs("text")]
    computed_at: Timestamp
    valid_until: Timestamp = Field(description="after it a consumer must keep what is there")
    revision: int = Field(ge=1, description="grows when desired_replicas changes")


class CallStatisticsRow(Row):
    """The calls of an hour or a day (UTC), per department, task and client (topic `tidegate.call-statistics`)."""

    id: str = Field(description="span|level|department|task|client|window_start in epoch ms")
    span: CallSpan
    level: CallLevel
    window_start: Timestamp
    window_end: Timestamp = Field(description="exclusive; of an open window: until when it is counted")
    complete: bool = Field(
        description="false: the window is open, and the row will be written again; clients wait"
    )
    department: str
    task: str | None
    client: str | None = Field(description="x-client-id; null above level client; __unknown__ without one")
    clients_seen: Count = Field(description="1 at level client")
    requests: Count
    errors_4xx: Count
    errors_5xx: Count
    aborted: Count
    rate_limited: Count
    error_rate: Ratio
    bytes_received: Count
    bytes_sent: Count
    latency_count: Count
    latency_avg_ms: Ms | None
    latency_max_ms: Ms | None
    latency_p50_ms: Ms | None
    latency_p99_ms: Ms | None
    histogram: Histogram

    @staticmethod
    def id_of(
        span: str, level: str, department: str, task: str | None, client: str | None, window_start_ms: int
    ) -> str:
        """The row's deterministic id; absent parts are empty."""
        return "|".join((span, level, department, task or "", client or "", str(window_start_ms)))
