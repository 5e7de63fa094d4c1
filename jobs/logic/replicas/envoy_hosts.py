"""Ready replicas from the Envoys of the gateways (`/clusters?format=json` of their admin pages). Pure.

A host is ready if none of its active health checks fails or is pending, and its endpoint isn't draining. So a cluster
without active health checks has only ready hosts. Outlier ejection doesn't count: it depends on traffic, and so a limit
would depend on itself. If Envoys differ, the worst state of a host counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidegate.jobs.logic.identity import Identity, address_of, of_cluster
from tidegate.schemas.rows.limits import Replica, ReplicasRow, ReplicaState
from tidegate.schemas.settings import AccessLog

_WORST_LAST: tuple[ReplicaState, ...] = ("ready", "starting", "terminating")


@dataclass(frozen=True)
class TaskHosts:
    """The hosts of one task, by address."""

    workload: str
    hosts: Mapping[str, ReplicaState]


def hosts_of(answers: Iterable[Mapping[str, Any]], settings: AccessLog) -> dict[Identity, TaskHosts]:
    """Each task's hosts, from the answers of all Envoys. Clusters of one task (its versions) count together."""
    found: dict[Identity, TaskHosts] = {}
    for answer in answers:
        for status in answer.get("cluster_statuses") or []:
            cluster = of_cluster(str(status.get("name") or ""), settings)
            known = found.get(cluster.identity) or TaskHosts(cluster.workload, {})
            hosts = dict(known.hosts)
            for address, state in _hosts(status):
                hosts[address] = max(state, hosts.get(address, state), key=_WORST_LAST.index)
            found[cluster.identity] = TaskHosts(known.workload, hosts)
    return found


def row_of(identity: Identity, task: TaskHosts, observed_at: datetime) -> ReplicasRow:
    """The task's row."""
    states = list(task.hosts.values())
    return ReplicasRow(
        id=f"{identity.department}|{identity.task}|envoy",
        department=identity.department,
        task=identity.task,
        workload=task.workload,
        source="envoy",
        replicas_ready=states.count("ready"),
        replicas_starting=states.count("starting"),
        replicas_terminating=states.count("terminating"),
        replicas=tuple(
            Replica(name=address, address=address, state=state)
            for address, state in sorted(task.hosts.items())
        ),
        observed_at=observed_at,
    )


def _hosts(status: Mapping[str, Any]) -> Iterator[tuple[str, ReplicaState]]:
    for host in status.get("host_statuses") or []:
        address = _address(host.get("address") or {})
        if address:
            yield address, _state(host.get("health_status") or {})


def _address(address: Mapping[str, Any]) -> str | None:
    """The endpoint as the log's rows name it; of a host behind a listener of Envoy's own, the endpoint's id."""
    if socket := address.get("socket_address"):
        return address_of(socket["address"], socket["port_value"])
    internal = address.get("envoy_internal_address") or {}
    return internal.get("endpoint_id") or None


def _state(health: Mapping[str, Any]) -> ReplicaState:
    endpoint = health.get("eds_health_status", "HEALTHY")
    if health.get("pending_dynamic_removal") or endpoint == "DRAINING":
        return "terminating"
    failing = health.get("failed_active_health_check") or health.get("pending_active_hc")
    return "starting" if failing or endpoint in ("UNHEALTHY", "TIMEOUT") else "ready"
