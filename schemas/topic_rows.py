"""Which model describes the messages of which topic; JSON Schema and the index templates read it."""

from __future__ import annotations

from pydantic import BaseModel

from tidegate.schemas import topics
from tidegate.schemas.rows.limits import (
    ChangeRow,
    GatewayRow,
    LimitControl,
    RateLimitRow,
    ReplicaChange,
    ReplicasRow,
    TaskRow,
)
from tidegate.schemas.rows.lines import AccessLogLine, InferenceLogLine
from tidegate.schemas.rows.resources import ResourceMetricsRow, TaskProfile
from tidegate.schemas.rows.service_metrics import DeadLetter, LineCount, ServiceMetricsRow
from tidegate.schemas.rows.signals import AlertRow, AutoscalingSignals, CallStatisticsRow
from tidegate.schemas.topics import Topic

TOPIC_ROWS: dict[Topic, type[BaseModel]] = {
    topics.ACCESS_LOGS: AccessLogLine,
    topics.INFERENCE_LOGS: InferenceLogLine,
    topics.SERVICE_METRICS_1S: ServiceMetricsRow,
    topics.SERVICE_METRICS_1M: ServiceMetricsRow,
    topics.LINE_COUNTS: LineCount,
    topics.LATE: AccessLogLine,
    topics.DEAD_LETTERS: DeadLetter,
    topics.REPLICAS: ReplicasRow,
    topics.GATEWAYS: GatewayRow,
    topics.REPLICA_CHANGES: ReplicaChange,
    topics.RATE_LIMITS: RateLimitRow,
    topics.RATE_LIMITS_CURRENT: RateLimitRow,
    topics.LIMIT_CONTROLS: LimitControl,
    topics.TASKS: TaskRow,
    topics.CHANGES: ChangeRow,
    topics.RESOURCE_METRICS_10S: ResourceMetricsRow,
    topics.RESOURCE_METRICS_1M: ResourceMetricsRow,
    topics.TASK_PROFILE: TaskProfile,
    topics.ALERTS: AlertRow,
    topics.AUTOSCALING_SIGNALS: AutoscalingSignals,
    topics.CALL_STATISTICS: CallStatisticsRow,
}
"""Every topic's row. A topic in `topics.ALL_TOPICS` that is missing here fails the contract tests."""
