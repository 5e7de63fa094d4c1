"""The rows of service metrics: how each department, task, version and replica answered, in windows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tidegate.schemas.rows.base import Count, Histogram, Ms, Ratio, Row
from tidegate.schemas.timestamps import Timestamp, to_epoch_ms

Span = Literal["1s", "1m"]
Level = Literal["department", "task", "version", "replica"]

UNROUTED = "__unrouted__"
"""Department and task of a request that the gateway routed nowhere."""
OVERFLOW = "__overflow__"
"""Where names outside the allowed form, and tasks past the configured number, fold together."""


class ServiceMetricsRow(Row):
    """One window of one department, task, version or replica (topics `tidegate.service-metrics.1s`, `.1m`)."""

    id: str = Field(description="span|level|department|task|version|replica|window_start in epoch ms")
    span: Span
    level: Level
    window_start: Timestamp
    window_end: Timestamp = Field(description="exclusive")
    department: str
    task: str | None = Field(description="null at level department")
    version: str | None = Field(description="the subset; null above level version and where unknown")
    replica: str | None = Field(description="ip:port or pod name; null above level replica")
    requests: Count
    qps: float = Field(ge=0, description="requests per second of the window")
    latency_count: Count = Field(description="requests that reached a replica and whose duration is known")
    latency_avg_ms: Ms | None
    latency_min_ms: Ms | None
    latency_max_ms: Ms | None
    latency_p50_ms: Ms | None
    latency_p90_ms: Ms | None
    latency_p95_ms: Ms | None
    latency_p99_ms: Ms | None
    upstream_service_time_avg_ms: Ms | None
    upstream_service_time_max_ms: Ms | None
    errors_4xx: Count = Field(description="400 to 499, not rate limited")
    errors_5xx: Count
    aborted: Count = Field(description="the client left before an answer (response_code 0)")
    rate_limited: Count
    error_rate: Ratio = Field(description="(errors_5xx + aborted) / requests")
    rate_limited_ratio: Ratio = Field(description="rate_limited / requests")
    response_flags: dict[str, int] = Field(description="Envoy's response flag to its count")
    bytes_received: Count
    bytes_sent: Count
    apdex: Ratio | None = Field(description="null when every request was rate limited")
    replicas_seen: Count = Field(description="distinct replicas that a request reached")
    qps_per_replica: float | None = Field(ge=0, description="qps / replicas_seen; null without a replica")
    histogram: Histogram

    @staticmethod
    def id_of(
        span: str,
        level: str,
        department: str,
        task: str | None,
        version: str | None,
        replica: str | None,
        window_start_ms: int,
    ) -> str:
        """The row's deterministic id; absent parts are empty."""
        parts = (span, level, department, task or "", version or "", replica or "", str(window_start_ms))
        return "|".join(parts)

    def expected_id(self) -> str:
        """The id that this row's other fields ask for."""
        return self.id_of(
            self.span,
            self.level,
            self.department,
            self.task,
            self.version,
            self.replica,
            to_epoch_ms(self.window_start),
        )
