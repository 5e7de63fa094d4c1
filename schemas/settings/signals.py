"""Settings of what is built on the windows: resources, profile, alerts, autoscaling, call statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from tidegate.schemas.settings.base import Group, Pattern, Port, Seconds, Url

USED_NAMES = (
    "container_cpu_usage_seconds_total",
    "container_cpu_cfs_throttled_seconds_total",
    "container_memory_working_set_bytes",
    "container_spec_memory_limit_bytes",
    "container_spec_cpu_quota",
    "container_spec_cpu_period",
    "container_network_receive_bytes_total",
    "container_network_transmit_bytes_total",
    "kube_deployment_spec_replicas",
    "kube_deployment_status_replicas_ready",
    "kube_pod_container_status_restarts_total",
    "kube_pod_status_ready",
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_POWER_USAGE",
)
"""The metrics that tidegate itself reads."""


class RemoteWrite(Group):
    """`tidegate remote-write`: Prometheus' remote write, into `prometheus.metrics`."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(9201, description="port to listen on; 0: any free one")
    names: tuple[str, ...] = Field(
        USED_NAMES,
        description="globs of the metrics that are written; default: those that tidegate reads; * for all",
    )
    drop_labels: tuple[Pattern, ...] = Field(
        (), description="regular expressions of whole label names; labels that match are dropped"
    )
    ha_cluster_label: str = Field(
        "cluster", description="label that names the highly available pair or group of Prometheus servers"
    )
    ha_replica_label: str = Field(
        "__replica__",
        description="label that names a server of such a group; one server is accepted, and the label dropped",
    )
    ha_failover_seconds: Seconds = Field(
        30, description="another server is accepted when the current one has sent nothing for so long"
    )
    timeout_seconds: Seconds = Field(
        10,
        description="how long Kafka may take to acknowledge a request's samples before it is answered with 503",
    )
    retry_after_seconds: int = Field(5, ge=1, le=3600, description="Retry-After of a 503, in seconds")
    max_waiting_samples: int = Field(
        200_000,
        ge=1000,
        description="samples that Kafka has not acknowledged yet; further requests are answered with 503",
    )
    max_body_bytes: int = Field(16_777_216, ge=1024, description="largest compressed request")
    max_unpacked_bytes: int = Field(67_108_864, ge=1024, description="largest request after decompression")


class ResourceMetrics(Group):
    """The job resource-metrics."""

    consumer_group: str = Field(
        "tidegate-resource-metrics", min_length=1, description="Kafka consumer group of the job"
    )
    watermark_delay_seconds: float = Field(
        20,
        ge=0,
        le=3600,
        description="delay of the watermark: how long a window waits for its samples; longer than the scrape interval",
    )
    format: Literal["json", "avro"] = Field(
        "json", description="encoding of the samples in prometheus.metrics"
    )
    scraper_labels: list[str] = Field(
        [
            "prometheus",
            "prometheus_replica",
            "__replica__",
            "job",
            "instance",
            "endpoint",
            "service",
            "metrics_path",
        ],
        description="labels that name the scraper and are no part of a series' identity: series that differ in them "
        "only are copies, of which each window uses one",
    )


class ProfileSettings(Group):
    """The job task-profile."""

    consumer_group: str = Field(
        "tidegate-task-profile", min_length=1, description="Kafka consumer group of the job"
    )
    renew_seconds: Seconds = Field(4, description="every task's row is published at least this often")
    traffic_window_seconds: int = Field(
        60, ge=10, le=600, multiple_of=5, description="window of qps, p50, p99 and the error rate"
    )
    panic_window_seconds: int = Field(6, ge=1, le=60, description="short window that detects a sudden load")
    sustain_minutes: int = Field(
        5, ge=1, le=60, description="how long a load must be held within the SLO before it counts as capacity"
    )
    traffic_stale_seconds: Seconds = Field(
        15, description="without a row of any task for so long, traffic is unknown"
    )
    replicas_stale_seconds: Seconds = Field(
        90,
        description="without a row of a task's replicas for so long, their number is unknown",
    )
    resources_stale_seconds: Seconds = Field(
        90, description="without a row of a task's resources for so long, its resource use is unknown"
    )


class Alerts(Group):
    """The job alerts, and `tidegate alerts send`."""

    consumer_group: str = Field(
        "tidegate-alerts", min_length=1, description="Kafka consumer group of the job"
    )
    rules: Path | None = Field(
        None, description="YAML file of alert rules; default: the rules that tidegate ships"
    )
    alertmanager_urls: tuple[Url, ...] = Field(
        (), description="addresses of Alertmanagers; each receives every alert"
    )
    webhook_url: Url | None = Field(
        None,
        description="URL that receives every alert by POST; its path is often a secret and is never shown",
        json_schema_extra={"secret_path": True},
    )
    resend_seconds: Seconds = Field(60, description="interval at which a firing alert is sent again")
    max_backoff_seconds: Seconds = Field(30, description="longest delay between attempts to reach a receiver")


class Autoscaling(Group):
    """Autoscaling signals, their KEDA scaler and their /metrics."""

    valid_seconds: Seconds = Field(60, description="how long a signal is valid")
    host: str = Field("127.0.0.1", description="address to listen on")
    grpc_port: Port = Field(9202, description="port of KEDA's external scaler; 0: any free one")
    metrics_port: Port = Field(9203, description="port of /metrics; 0: any free one")


class CallStatistics(Group):
    """The job call-statistics."""

    consumer_group: str = Field(
        "tidegate-call-statistics", min_length=1, description="Kafka consumer group of the job"
    )
    max_clients_per_task: int = Field(
        1000,
        ge=1,
        description="clients of a task that have rows of their own; further ones fold into __overflow__",
    )
