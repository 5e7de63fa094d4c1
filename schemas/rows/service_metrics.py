"""One pydantic model for each topic's row. The docstring of a field is its contract; the name holds its unit."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tidegate.schemas.index_hints import IndexAs
from tidegate.schemas.timestamps import Timestamp, to_epoch_ms

Span = Literal["1s", "1m"]
Level = Literal["department", "task", "version", "replica"]
LineKind = Literal["counted", "late", "dead", "skipped", "folded"]

UNROUTED = "__unrouted__"
"""Department and task of a request that the gateway routed nowhere."""
OVERFLOW = "__overflow__"
"""Where names outside the allowed form, and tasks past the configured number, fold together."""

Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Ms = Annotated[float, Field(ge=0)]


class Row(BaseModel):
    """Base of every row: immutable, and no field that the contract doesn't know."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class Histogram(Row):
    """OpenTelemetry's base-2 exponential histogram of latencies, in ms.

    At scale 5 the base is 2^(1/32), and bucket `i` holds values in (base^i, base^(i+1)].
    `zero` counts the requests of 0 ms.
    """

    scale: Literal[5] = 5
    zero: Count = 0
    # Not searchable: as `flattened` it costs a quarter of the indexing speed, and its values can't be summed.
    buckets: Annotated[dict[str, Annotated[int, Field(gt=0)]], IndexAs("stored")] = Field(
        default_factory=dict
    )


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


class DeadLetter(Row):
    """An input that could not be read (topic `tidegate.dead-letters`).

    A line that never reached Kafka (the shipper's) has the topic it was meant for, and no partition and offset.
    """

    id: str = Field(description="topic-partition-offset|writer: a second writer's refusal is another letter")
    topic: str
    partition: int | None
    offset: int | None
    reason: Annotated[str, IndexAs("text")] = Field(
        description="what was wrong, starting with the field or the part"
    )
    excerpt: Annotated[str, IndexAs("text")] = Field(description="the first characters of the input")
    seen_at: Timestamp


class LineCount(Row):
    """How many lines met one fate, since the job's state began (compacted, keyed by kind).

    The first four kinds add up to the lines that the job has read from the topic, less those of seconds that are
    open. `folded` is a part of `counted`: the lines whose department or task went into `__overflow__`.
    """

    id: str = Field(description="topic|kind")
    topic: str
    kind: LineKind
    lines: Count
    updated_at: Timestamp
