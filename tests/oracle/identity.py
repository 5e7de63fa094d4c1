"""What the gateway's decision names: department, task, version and replica, by the contract's table.

Written as a list of forms, each a regular expression over the whole name; the first that fits holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.oracle.settings import OracleSettings
from tests.oracle.values import text

OVERFLOW = "__overflow__"
UNROUTED = "__unrouted__"
DEFAULT_DEPARTMENT = "default"
EXTERNAL_DEPARTMENT = "external"

Identity = tuple[str, str, str | None]

_DIRECTION = r"(?P<direction>outbound|inbound-vip)"
_ISTIO = (
    re.compile(rf"{_DIRECTION}\|[^|]*\|(?P<subset>[^|]*)\|(?P<host>[^|]*)", re.DOTALL),
    # An Istio name in the form for DNS has no bars; its first two fields end at the first separators.
    re.compile(rf"{_DIRECTION}_\..*?_\.(?P<subset>.*?)_\.(?P<host>.*)", re.DOTALL),
)
_SERVICE = re.compile(r"(?P<service>[^.]+)\.(?P<namespace>[^.]+)\.svc(?:\..*)?", re.DOTALL)
_POD_OF_SERVICE = re.compile(r"[^.]+\.(?P<service>[^.]+)\.(?P<namespace>[^.]+)\.svc(?:\..*)?", re.DOTALL)
_POOL = re.compile(r"(?P<pool>.+)-ip-[0-9a-f]{8}", re.DOTALL)
_ROUTE = re.compile(
    r"(?:http|grpc|tcp|tls|udp)route/(?P<namespace>[^/]+)/(?P<name>[^/]+)/rule/[^/]+(?:/.*)?", re.DOTALL
)
_UNROUTED = re.compile(r"PassthroughCluster|BlackHoleCluster|InboundPassthroughCluster.*", re.DOTALL)
_PROTOCOLS = ("http", "tcp", "internal")
_FORM = re.compile(r"[A-Za-z0-9._-]{1,128}")
_LISTENER = re.compile(r"(?:envoy://[^/]*/(?=.))+", re.DOTALL)


def identity_of(fields: dict[str, Any], settings: OracleSettings) -> Identity:
    """Department, task and version (or None) of a line."""
    name = text(fields.get(settings.name_key))
    return identity(text(fields.get("upstream_cluster")) if name is None else name, settings)


def identity(name: str | None, settings: OracleSettings) -> Identity:
    """Department, task and version (or None) that the gateway's choice means."""
    if name is None:
        return UNROUTED, UNROUTED, None
    while name.endswith(";"):
        name = name[:-1]
    department, task, version = next(_readings(name, settings))
    return _form(department), _form(task), _form(version) if version else None


def _readings(name: str, settings: OracleSettings) -> Iterator[tuple[str, str, str | None]]:
    if settings.name_pattern and (own := re.fullmatch(settings.name_pattern, name, re.ASCII)):
        groups = own.groupdict()
        if groups["task"]:
            namespace = groups.get("department")
            department = settings.departments.get(namespace, namespace) if namespace else DEFAULT_DEPARTMENT
            yield department, groups["task"], groups.get("version")
    istio = next(filter(None, (form.fullmatch(name) for form in _ISTIO)), None)
    if istio:
        yield from _istio(istio["direction"], istio["subset"], istio["host"], settings)
    if route := _ROUTE.fullmatch(name):
        yield settings.departments.get(route["namespace"], route["namespace"]), route["name"], None
    if _UNROUTED.fullmatch(name):
        yield UNROUTED, name, None
    yield DEFAULT_DEPARTMENT, name, None


def _istio(direction: str, subset: str, host: str, settings: OracleSettings) -> Iterator[Identity]:
    while host.endswith((".", ";")):
        host = host[:-1]
    if not host:
        return
    if direction == "inbound-vip":  # a waypoint's clusters have their protocol before the subset
        protocol, _, rest = subset.partition("/")
        subset = rest if protocol in _PROTOCOLS else subset
    service = _SERVICE.fullmatch(host) or _POD_OF_SERVICE.fullmatch(host)
    if not service:
        yield EXTERNAL_DEPARTMENT, host, subset
        return
    task = service["service"]
    if pool := _POOL.fullmatch(task):
        task = pool["pool"]
    elif task.startswith(settings.service_prefix) and task != settings.service_prefix:
        task = task[len(settings.service_prefix) :]
    yield settings.departments.get(service["namespace"], service["namespace"]), task, subset


def replica(host: str | None) -> str | None:
    """The endpoint, without the listeners of Envoy's own that it was reached through."""
    through = _LISTENER.match(host or "")
    return host[through.end() :] if host and through else host


def _form(name: str) -> str:
    name = re.sub(r"[/|]", ".", name)
    return name if _FORM.fullmatch(name) else OVERFLOW
