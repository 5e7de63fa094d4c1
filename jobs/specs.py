"""The jobs: what each reads and publishes, and how it is started. Nothing here imports PyFlink before a job starts."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tidegate.schemas import topics
from tidegate.schemas.topics import RowTopic, Topic

if TYPE_CHECKING:
    from pyflink.table import StatementSet

    from tidegate.jobs.environment import Where
    from tidegate.schemas.settings import Settings


@dataclass(frozen=True)
class JobSpec:
    """One job. Its module is named after it, and has NAME, OPTIONS (Flink's) and main.

    reads: the topics of its input. publishes: the topics that it is for; what it refuses goes to others.
    with_history: `main` is also given what the job goes on from where there is no checkpoint; the command reads it.
    """

    name: str
    reads: tuple[Topic, ...]
    publishes: tuple[RowTopic, ...]
    with_history: bool = False

    def module(self) -> Any:
        """The job's module; PyFlink is imported with it."""
        return importlib.import_module(f"tidegate.jobs.{self.name.replace('-', '_')}")

    def statements(self, settings: Settings, where: Where, history: tuple[Any, ...] = ()) -> StatementSet:
        """The whole job on Kafka, ready to execute.

        history: the further arguments of `main`, of a job with_history.
        Raises FunctionsNotBuilt and ArtifactUnavailable where a Java part is missing.
        """
        from tidegate.jobs import environment

        module = self.module()
        tables = environment.create(settings, where, self.name, module.OPTIONS)
        statements: StatementSet = module.main(tables, settings, *history, bounded=where.bounded)
        return statements


SERVICE_METRICS = JobSpec(
    "service-metrics",
    reads=(topics.ACCESS_LOGS,),
    publishes=(topics.SERVICE_METRICS_1S, topics.SERVICE_METRICS_1M),
)
REPLICA_CHANGES = JobSpec(
    "replica-changes", reads=(topics.REPLICAS,), publishes=(topics.REPLICA_CHANGES,), with_history=True
)
RESOURCE_METRICS = JobSpec(
    "resource-metrics",
    reads=(topics.PROMETHEUS_METRICS, topics.REPLICAS),
    publishes=(topics.RESOURCE_METRICS_10S, topics.RESOURCE_METRICS_1M),
)
TASK_PROFILE = JobSpec(
    "task-profile",
    reads=(
        topics.SERVICE_METRICS_1S,
        topics.SERVICE_METRICS_1M,
        topics.RESOURCE_METRICS_10S,
        topics.REPLICAS,
        topics.RATE_LIMITS_CURRENT,
        topics.TASKS,
    ),
    publishes=(topics.TASK_PROFILE, topics.AUTOSCALING_SIGNALS),
)
ALERTS = JobSpec(
    "alerts",
    reads=(
        topics.SERVICE_METRICS_1S,
        topics.SERVICE_METRICS_1M,
        topics.RESOURCE_METRICS_10S,
        topics.RESOURCE_METRICS_1M,
        topics.TASK_PROFILE,
        topics.LINE_COUNTS,
    ),
    publishes=(topics.ALERTS,),
    with_history=True,
)
CALL_STATISTICS = JobSpec("call-statistics", reads=(topics.ACCESS_LOGS,), publishes=(topics.CALL_STATISTICS,))

JOBS: Mapping[str, JobSpec] = {
    one.name: one
    for one in (
        SERVICE_METRICS,
        REPLICA_CHANGES,
        RESOURCE_METRICS,
        TASK_PROFILE,
        ALERTS,
        CALL_STATISTICS,
    )
}
"""Every job by its name."""


def needed_topics() -> tuple[Topic, ...]:
    """All topics that must exist before a job starts: tidegate's own, and those of others that a job reads."""
    read = (topic for job in JOBS.values() for topic in job.reads)
    return tuple(dict.fromkeys((*topics.ALL_TOPICS, *read)))
