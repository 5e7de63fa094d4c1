"""Which task a Kubernetes service is: the same reading as of a gateway's `upstream_cluster`."""

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


def _known(name: str) -> str:
    return name if _NAME.fullmatch(name) else OVERFLOW
