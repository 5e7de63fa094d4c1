"""Settings of what is built on the windows: resources, profile, alerts, autoscaling, call statistics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s]+$")]


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    return text


Pattern = Annotated[str, AfterValidator(_is_pattern)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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


class RemoteWrite(_Group):
    """`tidegate remote-write`: Prometheus' remote write, into `prometheus.metrics`."""

    host: str = "127.0.0.1"
    port: int = Field(9201, ge=0, le=65535)
    names: tuple[str, ...] = Field(USED_NAMES, description="globs of the metrics that are written; * for all")
    drop_labels: tuple[Pattern, ...] = Field(
        (), description="regular expressions, each of a whole label's name: such labels are left out"
    )
    ha_cluster_label: str = Field("cluster", description="whose Prometheus it is")
    ha_replica_label: str = Field(
        "__replica__",
        description="which of several that scrape the same; one is taken, and the label left out",
    )
    ha_failover_seconds: Seconds = Field(30, description="another is taken when one was silent for so long")
    timeout_seconds: Seconds = Field(
        10, description="Kafka must have a request's samples by then, or it is 503"
    )
    retry_after_seconds: int = Field(5, ge=1, le=3600, description="what a 503 asks for")
    max_waiting_samples: int = Field(200_000, ge=1000, description="on their way to Kafka, of all requests")
    max_body_bytes: int = Field(16_777_216, ge=1024)
    max_unpacked_bytes: int = Field(67_108_864, ge=1024)


class ResourceMetrics(_Group):
    """The job resource-metrics."""

    consumer_group: str = Field("tidegate-resource-metrics", min_length=1)
    watermark_delay_seconds: float = Field(
        20, ge=0, le=3600, description="how long a window waits for its samples; above the scrape interval"
    )
    format: Literal["json", "avro"] = Field("json", description="how the samples in Kafka are written")


class ProfileSettings(_Group):
    """The job task-profile."""

    consumer_group: str = Field("tidegate-task-profile", min_length=1)
    renew_seconds: Seconds = Field(4, description="every task's row at least this often")
    traffic_window_seconds: int = Field(
        60, ge=10, le=600, multiple_of=5, description="what qps, p50, p99 and the error rate are over"
    )
    panic_window_seconds: int = Field(6, ge=1, le=60)
    sustain_minutes: int = Field(
        5, ge=1, le=60, description="so long a load must be held within the SLO to be learned"
    )
    traffic_stale_seconds: Seconds = Field(
        15, description="no row of any task for so long: nothing is known of traffic"
    )
    replicas_stale_seconds: Seconds = Field(90, description="the watcher tells every task each 30 s")
    resources_stale_seconds: Seconds = 90


class Alerts(_Group):
    """The job alerts, and `tidegate alerts send`."""

    consumer_group: str = Field("tidegate-alerts", min_length=1)
    rules: Path | None = Field(None, description="YAML; default: the rules that tidegate ships")
    alertmanager_urls: tuple[Url, ...] = Field((), description="each gets every alert")
    webhook_url: Url | None = None
    resend_seconds: Seconds = Field(60, description="a firing alert is sent again so often")
    max_backoff_seconds: Seconds = 30


class Autoscaling(_Group):
    """Autoscaling signals, their KEDA scaler and their /metrics."""

    valid_seconds: Seconds = Field(60, description="how long a signal holds")
    host: str = "127.0.0.1"
    grpc_port: int = Field(9202, ge=0, le=65535)
    metrics_port: int = Field(9203, ge=0, le=65535)


class CallStatistics(_Group):
    """The job call-statistics."""

    consumer_group: str = Field("tidegate-call-statistics", min_length=1)
    max_clients_per_task: int = Field(1000, ge=1, description="further clients fold into __overflow__")
