"""Settings of Flink, and of the job service-metrics."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tidegate.schemas.settings.base import Group, Seconds


class Flink(Group):
    """Where jobs run, and how they recover."""

    rest_address: str = Field(
        "127.0.0.1:8081",
        pattern=r"^[^\s:]+:\d+$",
        description="host:port of the JobManager's REST API, for submit and keep",
    )
    parallelism: int = Field(1, ge=1, le=1024, description="parallelism of a job")
    checkpoint_dir: Path | None = Field(
        None, description="folder of checkpoints; default: flink/checkpoints in stack.state_dir"
    )
    checkpoint_interval_seconds: Seconds = Field(10, description="interval between checkpoints")
    restart_initial_backoff_seconds: Seconds = Field(
        1, description="delay before the first restart of a failed job; doubles with each further one"
    )
    restart_max_backoff_seconds: Seconds = Field(60, description="longest delay before a restart")
    options: dict[str, str] = Field(
        default_factory=dict,
        description="any other Flink option by its own name, such as table.exec.mini-batch.size",
    )


class ServiceMetrics(Group):
    """The job service-metrics: time and targets."""

    watermark_delay_seconds: float = Field(
        2, ge=0, le=3600, description="delay of the watermark: how long a window waits for its lines"
    )
    idle_partition_seconds: Seconds = Field(
        5, description="a partition without lines for so long no longer holds the watermark back"
    )
    max_ahead_seconds: Seconds = Field(
        60, description="a line whose event time is further ahead of its Kafka timestamp is a dead letter"
    )
    apdex_target_ms: int = Field(
        500,
        ge=1,
        le=3_600_000,
        description="target latency of the Apdex; up to four times of it is tolerated",
    )
    consumer_group: str = Field(
        "tidegate-service-metrics", min_length=1, description="Kafka consumer group of the job"
    )
