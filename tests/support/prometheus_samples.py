"""Messages of `prometheus.metrics`, as the Prometheus Kafka adapter writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def sample(name: str, at: datetime, value: str, **labels: str) -> dict[str, Any]:
    """One sample."""
    return {
        "timestamp": at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "value": value,
        "name": name,
        "labels": {"__name__": name, **labels},
    }


def deployment(
    at: datetime, value: str, name: str = "service-chat", namespace: str = "vision"
) -> dict[str, Any]:
    """How many replicas of a deployment are ready."""
    return sample(
        "kube_deployment_status_replicas_ready", at, value, namespace=namespace, deployment=name, job="ksm"
    )


def pod(
    at: datetime, name: str, value: str = "1", namespace: str = "vision", condition: str = "true"
) -> dict[str, Any]:
    """Whether a pod is ready."""
    return sample(
        "kube_pod_status_ready", at, value, namespace=namespace, pod=name, uid="u", condition=condition
    )
