"""The task of a Kubernetes service or an Envoy cluster, by the same mapping as of the log's `upstream_cluster`."""

from __future__ import annotations

import re
from typing import NamedTuple

from tidegate.schemas.rows.service_metrics import OVERFLOW
from tidegate.schemas.settings import AccessLog

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_POD = re.compile(
    r"(?P<deployment>.+)-[bcdfghjklmnpqrstvwxz2456789]{1,10}-[bcdfghjklmnpqrstvwxz2456789]{5}|(?P<set>.+)-\d{1,6}"
)
"""The names of pods: by the ReplicaSet of their Deployment, or by their StatefulSet."""


class Identity(NamedTuple):
    """A task and its department."""

    department: str
    task: str


def of_service(namespace: str, service: str, settings: AccessLog) -> Identity:
    """The identity of a service: the namespace's department, and the service's name without the prefix as the task.

    A name outside the contract's form is `__overflow__`, as in the service metrics.
    """
    department = settings.departments.get(namespace, namespace)
    task = service.removeprefix(settings.service_prefix) or service
    return Identity(_known(department), _known(task))


def workload_of_pod(pod: str) -> str:
    """The Deployment or StatefulSet of a pod, by its name; the name itself if it has another form."""
    found = _POD.fullmatch(pod)
    return (found["deployment"] or found["set"]) if found else pod


DEFAULT_DEPARTMENT = "default"
"""The department of a cluster whose name has no namespace."""


class Cluster(NamedTuple):
    """A cluster by its name. `workload`: namespace/service; the name itself if it has another form.

    `version`: the subset; None without one.
    """

    identity: Identity
    workload: str
    version: str | None = None


def of_cluster(name: str, settings: AccessLog) -> Cluster:
    """`outbound|port|subset|service.namespace...`; a name of another form is a task of its own."""
    parts = name.split("|")
    if len(parts) == 4 and parts[0] == "outbound":
        labels = parts[3].split(".")
        if len(labels) >= 2 and labels[0] and labels[1]:
            service, namespace = labels[0], labels[1]
            version = parts[2] if _NAME.fullmatch(parts[2]) else None
            return Cluster(of_service(namespace, service, settings), f"{namespace}/{service}", version)
    return Cluster(Identity(DEFAULT_DEPARTMENT, _known(name)), name)


def _known(name: str) -> str:
    return name if _NAME.fullmatch(name) else OVERFLOW
