"""Which task a Kubernetes service is, or a gateway's cluster: the same reading as of `upstream_cluster` in its log."""

from __future__ import annotations

import re
from typing import NamedTuple

from tidegate.schemas.rows import OVERFLOW
from tidegate.schemas.settings import AccessLog

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Identity(NamedTuple):
    """A task and its department."""

    department: str
    task: str


def of_service(namespace: str, service: str, settings: AccessLog) -> Identity:
    """Department = namespace, through the map of departments; task = the service without the prefix.

    A name outside the contract's form is `__overflow__`, as in the service metrics.
    """
    department = settings.departments.get(namespace, namespace)
    task = service.removeprefix(settings.service_prefix) or service
    return Identity(_known(department), _known(task))


DEFAULT_DEPARTMENT = "default"
"""Of a cluster whose name says nothing of a namespace."""


class Cluster(NamedTuple):
    """What a cluster's name says. `workload`: namespace/service; the name itself where it says neither."""

    identity: Identity
    workload: str


def of_cluster(name: str, settings: AccessLog) -> Cluster:
    """`outbound|port|subset|service.namespace...`; a name of another form is a task of its own."""
    parts = name.split("|")
    if len(parts) == 4 and parts[0] == "outbound":
        labels = parts[3].split(".")
        if len(labels) >= 2 and labels[0] and labels[1]:
            service, namespace = labels[0], labels[1]
            return Cluster(of_service(namespace, service, settings), f"{namespace}/{service}")
    return Cluster(Identity(DEFAULT_DEPARTMENT, _known(name)), name)


def _known(name: str) -> str:
    return name if _NAME.fullmatch(name) else OVERFLOW
