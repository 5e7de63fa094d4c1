"""The names of departments, tasks, versions and replicas, from what the gateway's log or Envoy's admin page calls them.

The job reads the log's lines by the same table, in Java (jobs/java/IdentityTable.java); this serves the roles.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from tidegate.schemas.rows.service_metrics import OVERFLOW, UNROUTED
from tidegate.schemas.settings import AccessLog
from tidegate.schemas.settings.access_log import CLUSTER_KEY, compiled

DEFAULT_DEPARTMENT = "default"
"""The department of a name of no known form."""
EXTERNAL = "external"
"""The department of hosts outside the cluster."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_DOTS = str.maketrans("/|", "..")
_POD = re.compile(
    r"(?P<deployment>.+)-[bcdfghjklmnpqrstvwxz2456789]{1,10}-[bcdfghjklmnpqrstvwxz2456789]{5}|(?P<set>.+)-\d{1,6}"
)
"""The names of pods: by the ReplicaSet of their Deployment, or by their StatefulSet."""
_POOL = re.compile(r"(?P<pool>.+)-ip-[0-9a-f]{8}", re.DOTALL)
"""Istio's service of an InferencePool: the pool's name (cut if it is long), and a hash of it."""
_DIRECTIONS = ("outbound", "inbound-vip")
_WAYPOINT = re.compile(r"(?:http|tcp|internal)(?:/(?P<subset>.*))?", re.DOTALL)
"""What a waypoint has in the subset's place: the protocol, then the subset."""
_ROUTE_KINDS = frozenset({"httproute", "grpcroute", "tcproute", "tlsroute", "udproute"})
_UNROUTED_CLUSTERS = frozenset({"PassthroughCluster", "BlackHoleCluster"})
_INBOUND_PASSTHROUGH = "InboundPassthroughCluster"
_INTERNAL_ADDRESS = "envoy://"


class Identity(NamedTuple):
    """A task and its department."""

    department: str
    task: str


class Cluster(NamedTuple):
    """A cluster by its name. `workload`: namespace/service; the name itself if it has another form.

    `version`: the subset; None without one.
    """

    identity: Identity
    workload: str
    version: str | None = None


def of_service(namespace: str, service: str, settings: AccessLog) -> Identity:
    """The identity of a service: the namespace's department, and the service's name without the prefix as the task.

    The service that Istio makes for an InferencePool has the pool's name. A name outside the contract's form is
    `__overflow__`, as in the service metrics.
    """
    return Identity(_department(namespace, settings), _known(_task_of_service(service, settings)))


def workload_of_pod(pod: str) -> str:
    """The Deployment or StatefulSet of a pod, by its name; the name itself if it has another form."""
    found = _POD.fullmatch(pod)
    return (found["deployment"] or found["set"]) if found else pod


def of_cluster(name: str | None, settings: AccessLog) -> Cluster:
    """A cluster (or what `access_log.name_key` holds) by its name; None: no cluster was chosen.

    The first form that fits holds: `name_pattern`; Istio's `outbound|port|subset|host`; Envoy Gateway's
    `httproute/namespace/name/rule/…`; Istio's clusters for what no route took; any other name is a task of its own.
    """
    if name is None:
        return Cluster(Identity(UNROUTED, UNROUTED), UNROUTED)
    name = name.rstrip(";")  # what Istio ends a cluster's alternative name for statistics with
    return (
        _by_pattern(name, settings)
        or _by_istio(name, settings)
        or _by_route(name, settings)
        or Cluster(Identity(UNROUTED if _is_unrouted(name) else DEFAULT_DEPARTMENT, _known(name)), name)
    )


def name_of_line(fields: Mapping[str, Any], settings: AccessLog) -> str | None:
    """What names department and task of a gateway's line: its `access_log.name_key`, else its cluster; or None."""
    return _text(fields.get(settings.name_key)) or _text(fields.get(CLUSTER_KEY))


def replica_of(upstream_host: str) -> str:
    """The replica's `ip:port` in the log's `upstream_host`, whatever listener of Envoy's own it was reached through.

    `envoy://connect_originate/10.0.0.1:8080` is `10.0.0.1:8080`; any other text stays as it is.
    """
    while upstream_host.startswith(_INTERNAL_ADDRESS):
        endpoint = upstream_host.removeprefix(_INTERNAL_ADDRESS).partition("/")[2]
        if not endpoint:
            break
        upstream_host = endpoint
    return upstream_host


def replica_of_line(fields: Mapping[str, Any]) -> str | None:
    """The replica that a gateway's line names; None: none was reached."""
    host = _text(fields.get("upstream_host"))
    return None if host is None else replica_of(host)


def address_of(ip: str, port: int) -> str:
    """As Envoy writes it: `ip:port`, an IPv6 address in brackets."""
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _by_pattern(name: str, settings: AccessLog) -> Cluster | None:
    if settings.name_pattern is None:
        return None
    found = _expression(settings.name_pattern).fullmatch(name)
    groups = found.groupdict() if found else {}
    if not groups.get("task"):
        return None
    namespace = groups.get("department")
    department = _department(namespace, settings) if namespace else DEFAULT_DEPARTMENT
    return Cluster(Identity(department, _known(groups["task"])), name, _version(groups.get("version")))


@lru_cache(maxsize=8)
def _expression(pattern: str) -> Any:
    return compiled(pattern)


def _by_istio(name: str, settings: AccessLog) -> Cluster | None:
    ways = (name.split("|"), name.split("_.", 3))
    parts = next((parts for parts in ways if len(parts) == 4 and parts[0] in _DIRECTIONS), None)
    if parts is None:
        return None
    direction, _, subset, host = parts
    host = host.rstrip(";.")
    if not host:
        return None
    if direction != "outbound" and (waypoint := _WAYPOINT.fullmatch(subset)):
        subset = waypoint["subset"] or ""
    version = _version(subset)
    service = _service_of(host)
    if service is None:
        return Cluster(Identity(EXTERNAL, _known(host)), host, version)
    return Cluster(of_service(*service, settings), "/".join(service), version)


def _service_of(host: str) -> tuple[str, str] | None:
    """Namespace and service of `service.namespace.svc…`, or of one of its pods, `pod.service.namespace.svc…`."""
    labels = host.split(".")
    for place in (2, 3):
        if labels[place : place + 1] == ["svc"] and all(labels[:place]):
            return labels[place - 1], labels[place - 2]
    return None


def _by_route(name: str, settings: AccessLog) -> Cluster | None:
    parts = name.split("/")
    if len(parts) < 5 or parts[0] not in _ROUTE_KINDS or parts[3] != "rule" or not all(parts[1:5]):
        return None
    _, namespace, route, *_ = parts
    return Cluster(Identity(_department(namespace, settings), _known(route)), f"{namespace}/{route}")


def _is_unrouted(name: str) -> bool:
    return name in _UNROUTED_CLUSTERS or name.startswith(_INBOUND_PASSTHROUGH)


def _task_of_service(service: str, settings: AccessLog) -> str:
    pool = _POOL.fullmatch(service)
    return pool["pool"] if pool else service.removeprefix(settings.service_prefix) or service


def _department(namespace: str, settings: AccessLog) -> str:
    return _known(settings.departments.get(namespace, namespace))


def _version(subset: str | None) -> str | None:
    return _known(subset) if subset else None


def _known(name: str) -> str:
    """The name as rows have it: `/` and `|` as dots; `__overflow__` for another form."""
    dotted = name.translate(_DOTS)
    return dotted if _NAME.fullmatch(dotted) else OVERFLOW


def _text(value: object) -> str | None:
    """A text that is known: not blank, and not `-`."""
    return value if isinstance(value, str) and value.strip(" ") not in ("", "-") else None
