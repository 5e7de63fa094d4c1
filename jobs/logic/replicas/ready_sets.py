"""The replicas of a task, from the EndpointSlices of its services; the ready pods of a gateway, from its pods.

A replica is one pod, in however many slices it is: services have several slices, one for each IP family, and a pod may
be in two for a moment while it moves. If these disagree, the least ready state counts: terminating before starting
before ready.

    terminating    the pod is being ended, whether it still answers or not
    ready          `ready` and `serving`, each unless it is false, as the API defines absent conditions
    starting       anything else

`serving` counts beside `ready` since a service with publishNotReadyAddresses reports every pod as ready; one that is
still warming up is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidegate.jobs.logic.identity import Identity, address_of
from tidegate.schemas.rows.limits import GatewayRow, Replica, ReplicasRow, ReplicaState

SERVICE_LABEL = "kubernetes.io/service-name"

_LESS_FIRST: tuple[ReplicaState, ...] = ("terminating", "starting", "ready")
_FAMILIES = {"IPv4": 0, "IPv6": 1, "FQDN": 2}
"""The order of preference for a replica's address: gateways of dual-stack clusters mostly use IPv4."""


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of a slice.

    pod, uid: its pod's name and uid; None without a pod. host: its IP or name. address: `ip:port`; None if the slice
    has no port.
    """

    pod: str | None
    uid: str | None
    host: str
    address: str | None
    state: ReplicaState

    @property
    def key(self) -> str:
        """The identity of a replica over all slices."""
        return self.uid or self.pod or self.address or self.host


@dataclass(frozen=True)
class Slice:
    """The relevant fields of an EndpointSlice."""

    namespace: str
    service: str
    family: str
    endpoints: tuple[Endpoint, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class GatewayPod:
    """A pod of a gateway."""

    name: str
    ready: bool


def slice_of(raw: Mapping[str, Any]) -> Slice | None:
    """An EndpointSlice as the API writes it (discovery.k8s.io/v1, JSON); None if it belongs to no service."""
    metadata = raw["metadata"]
    labels = metadata.get("labels") or {}
    service = labels.get(SERVICE_LABEL)
    if not service:
        return None
    port = _port(raw.get("ports") or ())
    endpoints = tuple(
        Endpoint(
            pod=(endpoint.get("targetRef") or {}).get("name"),
            uid=(endpoint.get("targetRef") or {}).get("uid"),
            host=endpoint["addresses"][0],
            address=None if port is None else address_of(endpoint["addresses"][0], port),
            state=_state(endpoint.get("conditions") or {}),
        )
        for endpoint in raw.get("endpoints") or ()
        if endpoint.get("addresses")
    )
    return Slice(metadata["namespace"], service, raw["addressType"], endpoints, labels)


def replicas_of(slices: Iterable[Slice]) -> tuple[Replica, ...]:
    """The replicas in these slices, each once, by name. The slices may be of several services.

    An endpoint without a pod can't be matched with its twin of the other IP family: of these, a service's preferred
    family counts.
    """
    mentioned = sorted(
        (
            (_FAMILIES.get(one.family, len(_FAMILIES)), one.namespace, one.service, endpoint)
            for one in slices
            for endpoint in one.endpoints
        ),
        key=lambda mention: (*mention[:3], mention[3].key, mention[3].address or ""),
    )
    nameless: dict[tuple[str, str], int] = {}
    found: dict[tuple[str, str], Replica] = {}
    for family, namespace, service, endpoint in mentioned:
        if endpoint.pod is None and nameless.setdefault((namespace, service), family) != family:
            continue
        known = found.get((namespace, endpoint.key))
        found[namespace, endpoint.key] = Replica(
            name=endpoint.pod or endpoint.address or endpoint.host,
            address=(known and known.address) or endpoint.address,
            state=min(known.state if known else endpoint.state, endpoint.state, key=_LESS_FIRST.index),
        )
    return tuple(sorted(found.values(), key=lambda replica: (replica.name, replica.address or "")))


def replicas_row(
    identity: Identity, workload: str, slices: Iterable[Slice], observed_at: datetime
) -> ReplicasRow:
    """The row of one task; without slices it has zero replicas."""
    replicas = replicas_of(slices)
    counts = Counter(replica.state for replica in replicas)
    return ReplicasRow(
        id=f"{identity.department}|{identity.task}|kubernetes",
        department=identity.department,
        task=identity.task,
        workload=workload,
        source="kubernetes",
        replicas_ready=counts["ready"],
        replicas_starting=counts["starting"],
        replicas_terminating=counts["terminating"],
        replicas=replicas,
        observed_at=observed_at,
    )


def gateway_pod_of(raw: Mapping[str, Any]) -> GatewayPod:
    """A pod as the API writes it (v1, JSON). Ready: it runs, its condition Ready is true, and it isn't terminating."""
    status = raw.get("status") or {}
    conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
    ready = (
        status.get("phase") == "Running"
        and conditions.get("Ready") == "True"
        and raw["metadata"].get("deletionTimestamp") is None
    )
    return GatewayPod(raw["metadata"]["name"], ready)


def gateway_row(gateway: str, pods: Iterable[GatewayPod], observed_at: datetime) -> GatewayRow:
    """The row of one gateway."""
    ready = tuple(sorted(pod.name for pod in pods if pod.ready))
    return GatewayRow(
        id=f"{gateway}|kubernetes",
        gateway=gateway,
        source="kubernetes",
        gateways_ready=len(ready),
        gateways=ready,
        observed_at=observed_at,
    )


def _state(conditions: Mapping[str, Any]) -> ReplicaState:
    if conditions.get("terminating") is True:
        return "terminating"
    # Null or absent: the API defines `ready` as true then, and `serving` as `ready`.
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving") is not False
    return "ready" if ready and serving else "starting"


def _port(ports: Iterable[Mapping[str, Any]]) -> int | None:
    """The port for requests: of several, the one for HTTP, by its protocol or its name."""
    known = [port for port in ports if port.get("port")]
    http = (port for port in known if _is_http(port))
    chosen = next(http, known[0] if known else None)
    return None if chosen is None else int(chosen["port"])


def _is_http(port: Mapping[str, Any]) -> bool:
    protocol = port.get("appProtocol") or port.get("name") or ""
    return str(protocol).removeprefix("kubernetes.io/").startswith(("http", "grpc", "h2c"))
