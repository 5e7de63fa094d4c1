"""Objects of the Kubernetes API as tests write them: EndpointSlices and pods, which no controller makes here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from kubernetes import client

Condition = Literal["ready", "starting", "terminating", "draining", "unsaid", "ready though starting"]

_CONDITIONS: dict[Condition, dict[str, Any]] = {
    "ready": {"ready": True, "serving": True, "terminating": False},
    "starting": {"ready": False, "serving": False, "terminating": False},
    "terminating": {"ready": False, "serving": False, "terminating": True},
    "draining": {"ready": False, "serving": True, "terminating": True},
    "unsaid": {},
    # What a service with publishNotReadyAddresses says of a pod that is warming up.
    "ready though starting": {"ready": True, "serving": False, "terminating": False},
}


def endpoint(
    pod: str | None, host: str, condition: Condition = "ready", uid: str | None = None
) -> dict[str, Any]:
    """One endpoint; pod None: one that stands for itself."""
    raw: dict[str, Any] = {"addresses": [host], "conditions": _CONDITIONS[condition]}
    if pod is not None:
        raw["targetRef"] = {"kind": "Pod", "name": pod, "uid": uid or f"uid-of-{pod}"}
    return raw


def slice_body(
    namespace: str,
    service: str,
    endpoints: Iterable[Mapping[str, Any]],
    name: str | None = None,
    family: str = "IPv4",
    labels: Mapping[str, str] | None = None,
    port: int | None = 8080,
) -> dict[str, Any]:
    """One EndpointSlice."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name or f"{service}-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service, **(labels or {})},
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [] if port is None else [{"name": "http", "port": port, "protocol": "TCP"}],
    }


class Slices:
    """The EndpointSlices of one namespace, written as its controller would."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self._api = client.DiscoveryV1Api(api)
        self._written: set[str] = set()

    def put(
        self,
        service: str,
        conditions: Mapping[str, Condition],
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """One slice with these pods, `pod: condition`; their addresses are by their order."""
        endpoints = [
            endpoint(pod, f"10.1.0.{number}", condition)
            for number, (pod, condition) in enumerate(conditions.items(), start=1)
        ]
        body = slice_body(self.namespace, service, endpoints, name, labels=labels)
        name = body["metadata"]["name"]
        if name in self._written:
            self._api.replace_namespaced_endpoint_slice(name, self.namespace, body)
        else:
            self._api.create_namespaced_endpoint_slice(self.namespace, body)
            self._written.add(name)

    def delete(self, service: str) -> None:
        """All slices of a service that is deleted."""
        self._api.delete_collection_namespaced_endpoint_slice(
            self.namespace, label_selector=f"kubernetes.io/service-name={service}"
        )


def put_pod(
    api: client.ApiClient, namespace: str, name: str, labels: Mapping[str, str], *, ready: bool
) -> None:
    """A pod that runs, ready or not, as its node's kubelet would write it."""
    core = client.CoreV1Api(api)
    body = {
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"containers": [{"name": "proxy", "image": "none"}]},
    }
    try:
        core.create_namespaced_pod(namespace, body)
    except client.ApiException as error:
        if error.status != 409:
            raise
    now = datetime.now(UTC).isoformat()
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": now}
    core.patch_namespaced_pod_status(
        name, namespace, {"status": {"phase": "Running", "conditions": [condition]}}
    )
