"""Names and keys of the Kafka topics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Cleanup = Literal["delete", "compact"]


@dataclass(frozen=True)
class Topic:
    """One topic: its name without the prefix, and how it is created where it does not exist.

    `partitions` None means the configured default (`kafka.partitions`); `retention_hours` None means the broker's.
    `whole_hours`: so long a compacted topic keeps every message, and not only the last one of each key.
    `broker_time`: a message's time is when Kafka got it. Flink writes rows with their event time, and Kafka deletes by
    a message's time: without this, what a replay of old logs computes would be gone within minutes.
    """

    name: str
    partitions: int | None = None
    cleanup: Cleanup = "delete"
    retention_hours: float | None = None
    whole_hours: float | None = None
    broker_time: bool = False

    def full_name(self, prefix: str) -> str:
        """The name in Kafka: the configured prefix, then the name."""
        return prefix + self.name


ACCESS_LOGS = Topic("gateway.access-logs", retention_hours=24)
INFERENCE_LOGS = Topic("inference.logs", retention_hours=24)
SERVICE_METRICS_1S = Topic("tidegate.service-metrics.1s", retention_hours=24, broker_time=True)
SERVICE_METRICS_1M = Topic("tidegate.service-metrics.1m", retention_hours=24 * 7, broker_time=True)
LINE_COUNTS = Topic("tidegate.line-counts", partitions=1, cleanup="compact")
LATE = Topic("tidegate.late", retention_hours=24 * 7, broker_time=True)
DEAD_LETTERS = Topic("tidegate.dead-letters", partitions=1, retention_hours=24 * 7, broker_time=True)
REPLICAS = Topic("kubernetes.replicas", retention_hours=24)
GATEWAYS = Topic("kubernetes.gateways", partitions=1, retention_hours=24)
# Compacted, since revisions and the limits in force must be known however long ago the last change was.
REPLICA_CHANGES = Topic("tidegate.replica-changes", cleanup="compact", whole_hours=24 * 7)
RATE_LIMITS = Topic("tidegate.rate-limits", retention_hours=24 * 7)
RATE_LIMITS_CURRENT = Topic("tidegate.rate-limits.current", cleanup="compact")
LIMIT_CONTROLS = Topic("tidegate.limit-controls", partitions=1, cleanup="compact")
TASKS = Topic("tidegate.tasks", partitions=1, cleanup="compact")
CHANGES = Topic("tidegate.changes", partitions=1, retention_hours=24 * 90)
RESOURCE_METRICS_10S = Topic("tidegate.resource-metrics.10s", retention_hours=24, broker_time=True)
RESOURCE_METRICS_1M = Topic("tidegate.resource-metrics.1m", retention_hours=24 * 7, broker_time=True)
TASK_PROFILE = Topic("tidegate.task-profile", cleanup="compact")
ALERTS = Topic("tidegate.alerts", partitions=1, cleanup="compact", whole_hours=24 * 7)
AUTOSCALING_SIGNALS = Topic("tidegate.autoscaling-signals", cleanup="compact")
CALL_STATISTICS = Topic("tidegate.call-statistics", retention_hours=24 * 90, broker_time=True)

# Of others: tidegate reads it, and makes it only where nothing has written to it yet.
PROMETHEUS_METRICS = Topic("prometheus.metrics", retention_hours=24)

ALL_TOPICS = (
    ACCESS_LOGS,
    INFERENCE_LOGS,
    SERVICE_METRICS_1S,
    SERVICE_METRICS_1M,
    LINE_COUNTS,
    LATE,
    DEAD_LETTERS,
    REPLICAS,
    GATEWAYS,
    REPLICA_CHANGES,
    RATE_LIMITS,
    RATE_LIMITS_CURRENT,
    LIMIT_CONTROLS,
    TASKS,
    CHANGES,
    RESOURCE_METRICS_10S,
    RESOURCE_METRICS_1M,
    TASK_PROFILE,
    ALERTS,
    AUTOSCALING_SIGNALS,
    CALL_STATISTICS,
)


def service_metrics(span: str) -> Topic:
    """The topic of the service-metrics rows of one span, `1s` or `1m`."""
    topics = {"1s": SERVICE_METRICS_1S, "1m": SERVICE_METRICS_1M}
    if span not in topics:
        raise ValueError(f"span: {span!r} is not one of 1s, 1m")
    return topics[span]
