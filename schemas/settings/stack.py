"""Settings of the local servers."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from tidegate.schemas.settings.base import Group, Port, Seconds


class Stack(Group):
    """The local servers of `tidegate up`. A port of 0 means any free one."""

    state_dir: Path = Field(
        Path(".tidegate"),
        description="state folder: data and logs of the local servers, offsets, checkpoints",
    )
    kafka_port: Port = Field(0, description="port of Kafka")
    elasticsearch_port: Port = Field(0, description="port of Elasticsearch")
    flink_rest_port: Port = Field(0, description="port of Flink's REST API and web UI")
    envoy_port: Port = Field(0, description="port of Envoy's listener")
    envoy_admin_port: Port = Field(0, description="port of Envoy's admin interface")
    kafka_heap_mib: int = Field(512, ge=256, description="Java heap of Kafka")
    elasticsearch_heap_mib: int = Field(512, ge=256, description="Java heap of Elasticsearch")
    elasticsearch_user: str | None = Field(
        None,
        description="user of Elasticsearch when root starts it; default: elasticsearch if it exists, else nobody",
    )
    jobmanager_memory_mib: int = Field(1024, ge=768, description="total process memory of the JobManager")
    taskmanager_memory_mib: int = Field(2048, ge=1024, description="total process memory of the TaskManager")
    taskmanager_slots: int = Field(6, ge=1, description="task slots; a job of parallelism 1 takes one")
    envoy_flush_ms: int = Field(
        200, ge=10, le=60_000, description="interval at which Envoy writes its access log"
    )
    envoy_concurrency: int = Field(1, ge=1, le=64, description="Envoy's worker threads")
    start_timeout_seconds: Seconds = Field(120, description="how long a server may take to be ready")
