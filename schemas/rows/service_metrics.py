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


class Exemplar(Row):
    """One request of a window, by which its log line and its trace are found."""

    request_id: str
    trace_id: str | None = Field(description="of a W3C traceparent; null without one")
    latency_ms: Ms


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
    errors_4xx: Count = Field(description="400 to 499, or a gRPC status that is the client's error")
    errors_5xx: Count = Field(
        description="500 to 599, a gRPC status that is the server's error, or a failure in Envoy's response flags"
    )
    aborted: Count = Field(description="the client left: response_code 0, flag DC or DR, gRPC status 1")
    rate_limited: Count = Field(description="refused by a rate limit, by Envoy's response flags or details")
    error_rate: Ratio = Field(description="(errors_5xx + aborted) / requests")
    rate_limited_ratio: Ratio = Field(description="rate_limited / requests")
    response_flags: dict[str, int] = Field(description="Envoy's response flag to its count")
    bytes_received: Count
    bytes_sent: Count
    apdex: Ratio | None = Field(description="null when every request was rate limited or upgraded")
    replicas_seen: Count = Field(description="distinct replicas that a request reached")
    qps_per_replica: float | None = Field(ge=0, description="qps / replicas_seen; null without a replica")
    histogram: Histogram
    # The fields below came after 0.1.0: with defaults, so that rows of that release can be read.
    upgraded: Count = Field(
        0,
        description="upgraded connections (101, CONNECT), not rate limited: neither in a latency nor in Apdex",
    )
    first_byte_count: Count = Field(
        0, description="requests that reached a replica and whose response_duration is known"
    )
    first_byte_avg_ms: Ms | None = Field(None, description="from the request's start to the first byte")
    first_byte_min_ms: Ms | None = None
    first_byte_max_ms: Ms | None = None
    first_byte_p50_ms: Ms | None = None
    first_byte_p90_ms: Ms | None = None
    first_byte_p95_ms: Ms | None = None
    first_byte_p99_ms: Ms | None = None
    first_byte_histogram: Histogram | None = Field(None, description="null where first_byte_count is 0")
    stream_ms_per_token: Ms | None = Field(
        None,
        description="(duration - response_duration) / output_tokens, of the requests of which all three are known",
    )
    output_tokens_per_second: float | None = Field(
        None,
        ge=0,
        description="output_tokens / (duration - response_duration) of these: the speed of a stream",
    )
    input_tokens: Count | None = Field(None, description="null where no line has a count")
    output_tokens: Count | None = Field(None, description="null where no line has a count")
    concurrency: float | None = Field(
        None,
        ge=0,
        description="requests in flight on average (Little's law): the known durations of those that ended in the "
        "window, by its length; null without one",
    )
    retries: Count | None = Field(
        None, description="upstream attempts past a request's first; null where no line has a count"
    )
    grpc_status: dict[str, int] = Field(
        default_factory=dict, description="gRPC status (0 to 16) to its count; empty without gRPC"
    )
    exemplar: Exemplar | None = Field(None, description="the slowest request that has an id")

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
