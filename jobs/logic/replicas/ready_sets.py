"""The replicas of a task, from the EndpointSlices of its services; the ready pods of a gateway, from its pods.

A replica is one pod, in however many slices it stands: services have several slices, one for each IP family, and a
pod may be in two for a moment while it moves. Where these disagree, the one that says less is believed: terminating
before starting before ready.

    terminating    it is being ended, whether it still answers or not
    ready          `ready` and `serving`, both unless they say no, as the API defines what isn't said
    starting       anything else

`serving` decides beside `ready` since a service with publishNotReadyAddresses calls every pod ready; one that is still
warming up isn't, whatever its service says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidegate.jobs.logic.identity import Identity
from tidegate.schemas.rows.limits import GatewayRow, Replica, ReplicasRow, ReplicaState

SERVICE_LABEL = "kubernetes.io/service-name"

_LESS_FIRST: tuple[ReplicaState, ...] = ("terminating", "starting", "ready")
_FAMILIES = {"IPv4": 0, "IPv6": 1, "FQDN": 2}
"""As preferred for a replica's address: a gateway of a dual-stack cluster mostly speaks IPv4."""


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of a slice.

    pod, uid: what it stands for, and which of those that had this name; None where it stands for itself.
    host: its IP or name. address: `ip:port`; None where the slice names no port.
    """

    pod: str | None
    uid: str | None
    host: str
    address: str | None
    state: ReplicaState

    @property
    def key(self) -> str:
        """The same for every mention of one replica."""
        return self.uid or self.pod or self.address or self.host


@dataclass(frozen=True)
class Slice:
    """One EndpointSlice, as far as it matters here."""

    namespace: str
    service: str
    family: str
    endpoints: tuple[Endpoint, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True)
class GatewayPod:
    """One pod of a gateway."""

    name: str
    ready: bool


def slice_of(raw: Mapping[str, Any]) -> Slice | None:
    """An EndpointSlice as the API writes it (discovery.k8s.io/v1, JSON); None where it belongs to no service."""
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
            address=_address(endpoint["addresses"][0], port),
            state=_state(endpoint.get("conditions") or {}),
        )
        for endpoint in raw.get("endpoints") or ()
        if endpoint.get("addresses")
    )
    return Slice(metadata["namespace"], service, raw["addressType"], endpoints, labels)


def replicas_of(slices: Iterable[Slice]) -> tuple[Replica, ...]:
    """The replicas in these slices, each once, by name. The slices may be of several services.

    An endpoint without a pod can't be told from its twin of the other family: of those a service's preferred family
    counts.
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
    """The row of one task; without a slice it has no replica."""
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
    """A pod as the API writes it (v1, JSON). Ready: it runs, says so itself, and isn't being ended."""
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
    # Null or absent: the API says to take `ready` as true, and `serving` as `ready`.
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving") is not False
    return "ready" if ready and serving else "starting"


def _port(ports: Iterable[Mapping[str, Any]]) -> int | None:
    """The port that requests come to, where there are several: one for HTTP, by its protocol or its name."""
    known = [port for port in ports if port.get("port")]
    http = (port for port in known if _is_http(port))
    chosen = next(http, known[0] if known else None)
    return None if chosen is None else int(chosen["port"])


def _is_http(port: Mapping[str, Any]) -> bool:
    said = port.get("appProtocol") or port.get("name") or ""
    return str(said).removeprefix("kubernetes.io/").startswith(("http", "grpc", "h2c"))


def _address(host: str, port: int | None) -> str | None:
    """As Envoy writes `upstream_host`."""
    if port is None:
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
