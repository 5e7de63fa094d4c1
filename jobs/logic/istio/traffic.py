"""A task's traffic settings, each with its revision, as Istio objects, and back.

A task has one VirtualService (route, gateway, timeout, retries, weights of versions) and one DestinationRule (circuit
breaker, subsets of versions). Each is derived as a whole from the task's settings. An annotation of the object holds
the settings with their revisions, so that manual edits of the object can be detected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from tidegate.jobs.logic.istio.objects import DESTINATION_RULE, VIRTUAL_SERVICE, duration, owned_object
from tidegate.jobs.logic.istio.task_settings import (
    ASPECTS,
    OF_DESTINATION_RULE,
    OF_VIRTUAL_SERVICE,
    CircuitBreakerSetting,
    GatewaySetting,
    Held,
    RetriesSetting,
    RouteSetting,
    Setting,
    TimeoutSetting,
    Version,
    VersionsSetting,
)

_GUARDS = ("connectionPool", "outlierDetection")
SETTINGS_ANNOTATION = "tidegate.io/settings"
TASK_HEADER = "taskid"


@dataclass(frozen=True)
class TaskPlace:
    """A task's service in Kubernetes. domain: the cluster's."""

    department: str
    task: str
    namespace: str
    service: str
    domain: str = "cluster.local"

    @property
    def host(self) -> str:
        """The service's fully qualified name."""
        return f"{self.service}.{self.namespace}.svc.{self.domain}"

    @property
    def object_name(self) -> str:
        """The name of its VirtualService and DestinationRule."""
        return f"tidegate-{self.service}"


class IncompatibleSettings(ValueError):
    """Settings of a task that are incomplete or contradictory. The message names them."""


def virtual_service(place: TaskPlace, settings: Mapping[str, Held]) -> dict[str, Any]:
    """A task's VirtualService. Raises IncompatibleSettings, also without a gateway: it would route no request."""
    chosen = {aspect: settings[aspect].setting for aspect in OF_VIRTUAL_SERVICE if aspect in settings}
    gateway = chosen.get("gateway")
    if not isinstance(gateway, GatewaySetting):
        raise IncompatibleSettings(f"{place.department}/{place.task} has no gateway yet; set it first")
    if gateway.namespace is None:
        raise IncompatibleSettings(
            f"gateway {gateway.gateway!r}: its namespace is unknown; set it in the catalog"
        )
    spec = {
        "hosts": list(gateway.hosts),
        "gateways": [f"{gateway.namespace}/{gateway.gateway}"],
        "http": [_http_route(place, chosen)],
    }
    annotations = _annotations(settings, OF_VIRTUAL_SERVICE)
    return owned_object(VIRTUAL_SERVICE, place.namespace, place.object_name, spec, annotations)


def destination_rule(
    place: TaskPlace, settings: Mapping[str, Held], also: tuple[Version, ...] = ()
) -> dict[str, Any]:
    """A task's DestinationRule. also: further versions, to which requests are still routed."""
    spec: dict[str, Any] = {"host": place.host}
    breaker = settings.get("circuit-breaker")
    if breaker is not None and isinstance(breaker.setting, CircuitBreakerSetting):
        spec |= _traffic_policy(breaker.setting)
    versions = settings.get("versions")
    named = {version.name: version for version in also}
    if versions is not None and isinstance(versions.setting, VersionsSetting):
        named |= {version.name: version for version in versions.setting.versions}
    if named:
        spec["subsets"] = [
            {"name": name, "labels": version.selected} for name, version in sorted(named.items())
        ]
    annotations = _annotations(settings, OF_DESTINATION_RULE)
    return owned_object(DESTINATION_RULE, place.namespace, place.object_name, spec, annotations)


def settings_of(live: Mapping[str, Any] | None) -> dict[str, Held]:
    """The settings in an object's annotation. Unreadable ones are left out."""
    metadata = (live or {}).get("metadata") or {}
    text = (metadata.get("annotations") or {}).get(SETTINGS_ANNOTATION)
    try:
        written = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return {}
    held: dict[str, Held] = {}
    for aspect, model in ASPECTS.items():
        entry = written.get(aspect) if isinstance(written, dict) else None
        if not isinstance(entry, dict) or not isinstance(entry.get("revision"), int):
            continue
        body = {name: value for name, value in entry.items() if name != "revision"}
        try:
            held[aspect] = Held(entry["revision"], model.model_validate(body))
        except ValidationError:
            continue
    return held


def subsets_of(live: Mapping[str, Any] | None) -> dict[str, dict[str, str]]:
    """The subsets of a DestinationRule, with their labels."""
    subsets = ((live or {}).get("spec") or {}).get("subsets") or []
    return {
        subset["name"]: dict(subset.get("labels") or {})
        for subset in subsets
        if isinstance(subset, dict) and isinstance(subset.get("name"), str)
    }


def same_spec(wanted: Mapping[str, Any], live: Mapping[str, Any] | None) -> bool:
    """Whether two specs are equal in the fields that tidegate's settings determine."""
    return live is not None and _parts(live.get("spec")) == _parts(wanted["spec"])


def same_object(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Whether two objects are equal in spec and settings."""
    return same_spec(wanted, live) and settings_of(live) == settings_of(wanted)


def normalised(place: TaskPlace, setting: Setting) -> Setting:
    """The setting without redundant values, so that equal settings compare equal."""
    if isinstance(setting, RetriesSetting) and not setting.attempts:
        return RetriesSetting(attempts=0)
    if isinstance(setting, RouteSetting):
        names = {field: None for field in ("taskid", "name") if getattr(setting, field) == place.task}
        return setting.model_copy(update=names)
    if isinstance(setting, VersionsSetting):
        versions = tuple(
            version.model_copy(update={"labels": {}})
            if version.labels == {"version": version.name}
            else version
            for version in setting.versions
        )
        return VersionsSetting(versions=versions)
    return setting


def check_together(settings: Mapping[str, Held]) -> None:
    """Raises IncompatibleSettings for settings that contradict each other."""
    timeout, retries = settings.get("timeout"), settings.get("retries")
    if timeout is None or retries is None:
        return
    whole, one = timeout.setting, retries.setting
    if not (isinstance(whole, TimeoutSetting) and isinstance(one, RetriesSetting)):
        return
    if whole.timeout_ms and one.per_try_timeout_ms and one.per_try_timeout_ms > whole.timeout_ms:
        raise IncompatibleSettings(
            f"per_try_timeout_ms: {one.per_try_timeout_ms} is above timeout_ms, {whole.timeout_ms}, "
            "which ends the request before; lower it"
        )


def _http_route(place: TaskPlace, chosen: Mapping[str, Setting]) -> dict[str, Any]:
    route = chosen.get("route")
    route = route if isinstance(route, RouteSetting) else RouteSetting()
    match: dict[str, Any] = {"headers": {TASK_HEADER: {"exact": route.taskid or place.task}}}
    if route.path_prefix is not None:
        match["uri"] = {"prefix": route.path_prefix}
    # The match has no name: Istio would append it to the route's name, by which rate limits match.
    http: dict[str, Any] = {"name": route.name or place.task, "match": [match]}
    timeout, retries, versions = (chosen.get(aspect) for aspect in ("timeout", "retries", "versions"))
    if isinstance(timeout, TimeoutSetting) and timeout.timeout_ms is not None:
        http["timeout"] = duration(timeout.timeout_ms)
    if isinstance(retries, RetriesSetting):
        http["retries"] = _retries(retries)
    destination: dict[str, Any] = {"host": place.host}
    if route.port is not None:
        destination["port"] = {"number": route.port}
    if isinstance(versions, VersionsSetting) and versions.versions:
        http["route"] = [
            {"destination": destination | {"subset": version.name}, "weight": version.weight}
            for version in versions.versions
        ]
    else:
        http["route"] = [{"destination": destination}]
    return http


def _retries(retries: RetriesSetting) -> dict[str, Any]:
    if not retries.attempts:
        return {"attempts": 0}
    fields: dict[str, Any] = {"attempts": retries.attempts, "retryOn": ",".join(retries.retry_on)}
    if retries.per_try_timeout_ms is not None:
        fields["perTryTimeout"] = duration(retries.per_try_timeout_ms)
    return fields


TCP_NAMES = {"max_connections": "maxConnections", "connect_timeout_ms": "connectTimeout"}
HTTP_NAMES = {
    "max_pending_requests": "http1MaxPendingRequests",
    "max_requests": "http2MaxRequests",
    "max_requests_per_connection": "maxRequestsPerConnection",
    "idle_timeout_ms": "idleTimeout",
}
OUTLIER_NAMES = {
    "consecutive_5xx_errors": "consecutive5xxErrors",
    "consecutive_gateway_errors": "consecutiveGatewayErrors",
    "interval_ms": "interval",
    "base_ejection_ms": "baseEjectionTime",
    "max_ejection_percent": "maxEjectionPercent",
    "min_health_percent": "minHealthPercent",
}


def _traffic_policy(breaker: CircuitBreakerSetting) -> dict[str, Any]:
    policy: dict[str, Any] = {}
    if breaker.connection_pool is not None:
        parts = {
            "tcp": _renamed(breaker.connection_pool, TCP_NAMES),
            "http": _renamed(breaker.connection_pool, HTTP_NAMES),
        }
        policy["connectionPool"] = {name: part for name, part in parts.items() if part}
    if breaker.outlier_detection is not None:
        policy["outlierDetection"] = _renamed(breaker.outlier_detection, OUTLIER_NAMES)
    return {"trafficPolicy": policy} if policy else {}


def _renamed(setting: Setting, names: Mapping[str, str]) -> dict[str, Any]:
    values = {name: getattr(setting, name) for name in names}
    return {
        names[name]: duration(value) if name.endswith("_ms") else value
        for name, value in values.items()
        if value is not None
    }


def _annotations(settings: Mapping[str, Held], aspects: tuple[str, ...]) -> dict[str, str]:
    written = {
        aspect: {"revision": settings[aspect].revision, **settings[aspect].setting.model_dump(mode="json")}
        for aspect in aspects
        if aspect in settings
    }
    return {SETTINGS_ANNOTATION: orjson.dumps(written, option=orjson.OPT_SORT_KEYS).decode()}


def _parts(spec: object) -> dict[str, Any]:
    """The fields of a spec that tidegate's settings determine."""
    if not isinstance(spec, Mapping):
        return {}
    policy = spec.get("trafficPolicy")
    parts = {name: spec.get(name) for name in ("hosts", "gateways", "http", "host", "subsets")}
    guards = {name: policy.get(name) if isinstance(policy, Mapping) else None for name in _GUARDS}
    return parts | guards
