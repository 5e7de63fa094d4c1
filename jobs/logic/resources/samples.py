"""The samples that the job resource-metrics reads, with their pods."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tidegate.jobs.logic.resources.raw_samples import BadSample, at_ms_of, labels_of, value_of
from tidegate.jobs.logic.resources.series_identity import text_of

Kind = Literal["counter", "gauge", "events"]

CPU = "container_cpu_usage_seconds_total"
THROTTLED = "container_cpu_cfs_throttled_seconds_total"
MEMORY = "container_memory_working_set_bytes"
MEMORY_LIMIT = "container_spec_memory_limit_bytes"
CPU_QUOTA = "container_spec_cpu_quota"
CPU_PERIOD = "container_spec_cpu_period"
RECEIVED = "container_network_receive_bytes_total"
SENT = "container_network_transmit_bytes_total"
RESTARTS = "kube_pod_container_status_restarts_total"
GPU = "DCGM_FI_DEV_GPU_UTIL"
GPU_USED = "DCGM_FI_DEV_FB_USED"
GPU_FREE = "DCGM_FI_DEV_FB_FREE"
GPU_POWER = "DCGM_FI_DEV_POWER_USAGE"
DESIRED = "kube_deployment_spec_replicas"

KINDS: Mapping[str, Kind] = {
    CPU: "counter",
    THROTTLED: "counter",
    RECEIVED: "counter",
    SENT: "counter",
    RESTARTS: "events",
    MEMORY: "gauge",
    MEMORY_LIMIT: "gauge",
    CPU_QUOTA: "gauge",
    CPU_PERIOD: "gauge",
    GPU: "gauge",
    GPU_USED: "gauge",
    GPU_FREE: "gauge",
    GPU_POWER: "gauge",
    DESIRED: "gauge",
}
_OF_CONTAINERS = {CPU, THROTTLED, MEMORY, MEMORY_LIMIT, CPU_QUOTA, CPU_PERIOD}
_OF_GPUS = {GPU, GPU_USED, GPU_FREE, GPU_POWER}


@dataclass(frozen=True)
class ResourceSample:
    """One sample of a pod, or of a deployment (pod empty). part: the text of its series (series_identity.py)."""

    namespace: str
    pod: str
    deployment: str
    name: str
    part: str
    at_ms: int
    value: float


def sample_of(raw: Any, scraper_labels: Collection[str] = ()) -> ResourceSample | None:
    """Parse a message of `prometheus.metrics`; None for another metric, and for sums over a pod's containers.

    scraper_labels: names of labels that are no part of a series' identity. Raises BadSample.
    """
    labels = labels_of(raw)
    name = raw.get("name") or labels.get("__name__")
    if name not in KINDS:
        return None
    container = labels.get("container") or ""
    if name in _OF_CONTAINERS and container in ("", "POD"):
        return None  # cAdvisor's sum over the pod, and its sandbox
    part = container
    if name in (RECEIVED, SENT):
        part = labels.get("interface") or ""
    elif name in _OF_GPUS:
        part = str(labels.get("gpu") or labels.get("UUID") or "")
        if instance := labels.get("GPU_I_ID"):
            part = f"{part}/{instance}"
    # DCGM's exporter is a pod itself: the pod that uses the GPU is in exported_*.
    namespace = labels.get("exported_namespace") or labels.get("namespace")
    pod = labels.get("exported_pod") or labels.get("pod") or ""
    deployment = labels.get("deployment") or "" if name == DESIRED else ""
    if name in _OF_GPUS and not pod:
        return None  # an unused GPU
    if not namespace or not (deployment if name == DESIRED else pod):
        raise BadSample(f"{name} without namespace and {'deployment' if name == DESIRED else 'pod'}")
    return ResourceSample(
        str(namespace),
        "" if name == DESIRED else str(pod),
        str(deployment),
        str(name),
        text_of(str(part), labels, scraper_labels),
        at_ms_of(raw),
        value_of(raw),
    )
