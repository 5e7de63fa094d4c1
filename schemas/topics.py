"""The registry of Kafka topics: name, key, row model, index and retention of each stand together.

A new topic is one entry here, and its row's model in `schemas/rows/`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel

from tidegate.schemas.rows.accounting import DeadLetter, LineCount
from tidegate.schemas.rows.limits import (
    ChangeRow,
    GatewayRow,
    LimitControl,
    RateLimitRow,
    ReplicaChange,
    ReplicasRow,
    TaskRow,
)
from tidegate.schemas.rows.lines import (
    ACCESS_LOG_NUMBERS,
    ACCESS_LOG_TIME,
    AccessLogLine,
    InferenceLogLine,
)
from tidegate.schemas.rows.resources import ResourceMetricsRow, TaskProfile
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.rows.signals import AlertRow, AutoscalingSignals, CallStatisticsRow

Cleanup = Literal["delete", "compact"]


@dataclass(frozen=True)
class Topic:
    """One topic: its name without the prefix, and how it is created where it does not exist.

    key: the fields of a row that make the message's key, joined by `/`, absent ones left out; empty: it has no key.
    `partitions` None means the configured default (`kafka.partitions`); `retention_hours` None means the broker's.
    `whole_hours`: so long a compacted topic keeps every message, and not only the last one of each key.
    `broker_time`: a message's time is when Kafka got it. Flink writes rows with their event time, and Kafka deletes by
    a message's time: without this, what a replay of old logs computes would be gone within minutes.
    """

    name: str
    key: tuple[str, ...] = ()
    partitions: int | None = None
    cleanup: Cleanup = "delete"
    retention_hours: float | None = None
    whole_hours: float | None = None
    broker_time: bool = False

    def full_name(self, prefix: str) -> str:
        """The name in Kafka: the configured prefix, then the name."""
        return prefix + self.name


@dataclass(frozen=True, kw_only=True)
class Index:
    """How a topic's messages become documents in Elasticsearch.

    time_field: the field whose UTC day names the index. None: one index without a day, for topics that hold
    what is true now, whose rows replace each other.
    moment_field: the field that `@timestamp` is another name of, where it isn't the time field.
    raw: a line that tidegate did not write. It has no `id` of its own (the document's `_id` is topic, partition
    and offset), `@timestamp` is added, and `numbers` that hold nothing (`"-"`) are left out.
    gateway: it is a gateway's, so its department, task and version are added too.
    keep_days: so many days are kept beside today, unless `elasticsearch.keep_days` overrides it.
    sort: the fields by which documents lie on disk; a minus before one: the largest first.
    """

    time_field: str | None
    raw: bool = False
    numbers: tuple[str, ...] = ()
    moment_field: str | None = None
    gateway: bool = False
    keep_days: int = 30
    sort: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RowTopic(Topic):
    """A topic of tidegate's own.

    row: the model of one message; JSON Schema and the index template are made from it.
    """

    row: type[BaseModel]
    index: Index


def _current(moment_field: str) -> Index:
    return Index(time_field=None, moment_field=moment_field)


def _gateway_lines(keep_days: int, sort: tuple[str, ...] = ()) -> Index:
    return Index(
        time_field=ACCESS_LOG_TIME,
        raw=True,
        numbers=ACCESS_LOG_NUMBERS,
        gateway=True,
        keep_days=keep_days,
        sort=sort,
    )


_TASK = ("department", "task")
_BY_SERIES = ("level", "task", "replica", "window_start")
_BY_TASK_NEWEST = ("task", "-@timestamp")
"""What is alike lies together, so that it takes less room and a search for a task reads few blocks."""

ACCESS_LOGS = RowTopic(
    "gateway.access-logs",
    row=AccessLogLine,
    retention_hours=24,
    index=_gateway_lines(keep_days=3, sort=_BY_TASK_NEWEST),
)
INFERENCE_LOGS = RowTopic(
    "inference.logs",
    key=("task",),
    row=InferenceLogLine,
    retention_hours=24,
    index=Index(time_field="timestamp", raw=True, keep_days=7, sort=_BY_TASK_NEWEST),
)
SERVICE_METRICS_1S = RowTopic(
    "tidegate.service-metrics.1s",
    key=_TASK,
    row=ServiceMetricsRow,
    retention_hours=24,
    broker_time=True,
    index=Index(time_field="window_start", keep_days=2, sort=_BY_SERIES),
)
SERVICE_METRICS_1M = RowTopic(
    "tidegate.service-metrics.1m",
    key=_TASK,
    row=ServiceMetricsRow,
    retention_hours=24 * 7,
    broker_time=True,
    index=Index(time_field="window_start", keep_days=90, sort=_BY_SERIES),
)
LINE_COUNTS = RowTopic(
    "tidegate.line-counts",
    key=("kind",),
    row=LineCount,
    partitions=1,
    cleanup="compact",
    index=_current("updated_at"),
)
LATE = RowTopic(
    "tidegate.late",
    row=AccessLogLine,
    retention_hours=24 * 7,
    broker_time=True,
    index=_gateway_lines(keep_days=7),
)
DEAD_LETTERS = RowTopic(
    "tidegate.dead-letters",
    row=DeadLetter,
    partitions=1,
    retention_hours=24 * 7,
    broker_time=True,
    index=Index(time_field="seen_at", keep_days=30),
)
REPLICAS = RowTopic(
    "kubernetes.replicas",
    key=_TASK,
    row=ReplicasRow,
    retention_hours=24,
    index=_current("observed_at"),
)
GATEWAYS = RowTopic(
    "kubernetes.gateways",
    key=("gateway",),
    row=GatewayRow,
    partitions=1,
    retention_hours=24,
    index=_current("observed_at"),
)
# Compacted, since revisions and the limits in force must be known however long ago the last change was.
REPLICA_CHANGES = RowTopic(
    "tidegate.replica-changes",
    key=_TASK,
    row=ReplicaChange,
    cleanup="compact",
    whole_hours=24 * 7,
    index=Index(time_field="settled_at", keep_days=365),
)
RATE_LIMITS = RowTopic(
    "tidegate.rate-limits",
    key=_TASK,
    row=RateLimitRow,
    retention_hours=24 * 7,
    index=Index(time_field="decided_at", keep_days=90),
)
RATE_LIMITS_CURRENT = RowTopic(
    "tidegate.rate-limits.current",
    key=_TASK,
    row=RateLimitRow,
    cleanup="compact",
    index=_current("decided_at"),
)
LIMIT_CONTROLS = RowTopic(
    "tidegate.limit-controls",
    key=("id",),
    row=LimitControl,
    partitions=1,
    cleanup="compact",
    index=_current("set_at"),
)
TASKS = RowTopic(
    "tidegate.tasks",
    key=_TASK,
    row=TaskRow,
    partitions=1,
    cleanup="compact",
    index=_current("published_at"),
)
CHANGES = RowTopic(
    "tidegate.changes",
    key=_TASK,  # of a change that is no task's, the gateway
    row=ChangeRow,
    partitions=1,
    retention_hours=24 * 90,
    index=Index(time_field="at", keep_days=365),
)
RESOURCE_METRICS_10S = RowTopic(
    "tidegate.resource-metrics.10s",
    key=_TASK,
    row=ResourceMetricsRow,
    retention_hours=24,
    broker_time=True,
    index=Index(time_field="window_start", keep_days=2, sort=_BY_SERIES),
)
RESOURCE_METRICS_1M = RowTopic(
    "tidegate.resource-metrics.1m",
    key=_TASK,
    row=ResourceMetricsRow,
    retention_hours=24 * 7,
    broker_time=True,
    index=Index(time_field="window_start", keep_days=90, sort=_BY_SERIES),
)
TASK_PROFILE = RowTopic(
    "tidegate.task-profile",
    key=_TASK,
    row=TaskProfile,
    cleanup="compact",
    index=_current("computed_at"),
)
ALERTS = RowTopic(
    "tidegate.alerts",
    key=("alert_key",),
    row=AlertRow,
    partitions=1,
    cleanup="compact",
    whole_hours=24 * 7,
    index=Index(time_field="started_at", moment_field="observed_at", keep_days=365),
)
AUTOSCALING_SIGNALS = RowTopic(
    "tidegate.autoscaling-signals",
    key=_TASK,
    row=AutoscalingSignals,
    cleanup="compact",
    index=_current("computed_at"),
)
CALL_STATISTICS = RowTopic(
    "tidegate.call-statistics",
    key=_TASK,
    row=CallStatisticsRow,
    retention_hours=24 * 90,
    broker_time=True,
    index=Index(time_field="window_start", keep_days=400),
)

# Of others: tidegate reads it, and makes it only where nothing has written to it yet.
PROMETHEUS_METRICS = Topic("prometheus.metrics", retention_hours=24)

ALL_TOPICS: tuple[RowTopic, ...] = tuple(one for one in list(globals().values()) if isinstance(one, RowTopic))
"""The topics above that are tidegate's own, in their order: to define one is to register it."""


def service_metrics(span: str) -> RowTopic:
    """The topic of the service-metrics rows of one span, `1s` or `1m`."""
    topics = {"1s": SERVICE_METRICS_1S, "1m": SERVICE_METRICS_1M}
    if span not in topics:
        raise ValueError(f"span: {span!r} is not one of 1s, 1m")
    return topics[span]


def require_indexed(names: Iterable[str], *, by_day: bool = False) -> None:
    """Check the topics that a setting names. by_day: they must have an index for each day.

    Raises ValueError naming an unknown topic and the known ones.
    """
    known = [one.name for one in ALL_TOPICS if not by_day or one.index.time_field is not None]
    if unknown := set(names) - set(known):
        raise ValueError(
            f"{min(unknown)!r} is not a topic that is indexed{' by day' if by_day else ''}; "
            f"the topics are: {', '.join(known)}"
        )
