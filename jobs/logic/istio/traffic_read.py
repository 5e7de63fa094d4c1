"""The settings that a task's Istio objects put in force: the inverse of traffic.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.jobs.logic.istio.objects import duration_ms
from tidegate.jobs.logic.istio.task_settings import (
    CircuitBreakerSetting,
    ConnectionPool,
    GatewaySetting,
    OutlierDetection,
    RetriesSetting,
    RouteSetting,
    Setting,
    TimeoutSetting,
    VersionsSetting,
)
from tidegate.jobs.logic.istio.traffic import HTTP_NAMES, OUTLIER_NAMES, TASK_HEADER, TCP_NAMES, TaskPlace


def read_virtual_service(live: Mapping[str, Any], place: TaskPlace) -> dict[str, Setting]:
    """The settings of a VirtualService, by aspect.

    An aspect is left out if the object doesn't define it, or in a way that no setting produces.
    """
    read: dict[str, Setting] = {}
    spec = live.get("spec") or {}
    routes = spec.get("http") or []
    if len(routes) == 1 and isinstance(routes[0], dict):
        for aspect in ("timeout", "retries", "route", "versions"):
            _read(read, aspect, routes[0], place)
    _read(read, "gateway", spec, place)
    return read


def read_destination_rule(live: Mapping[str, Any], place: TaskPlace) -> dict[str, Setting]:
    """The settings of a DestinationRule: the circuit breaker."""
    read: dict[str, Setting] = {}
    _read(read, "circuit-breaker", live.get("spec") or {}, place)
    return read


def with_labels(versions: VersionsSetting, subsets: Mapping[str, Mapping[str, str]]) -> VersionsSetting:
    """The versions with the labels of a DestinationRule, without those that it lacks."""
    labelled = tuple(
        version
        if subsets[version.name] == version.selected
        else version.model_copy(update={"labels": dict(subsets[version.name])})
        for version in versions.versions
        if subsets.get(version.name)
    )
    return VersionsSetting.model_construct(versions=labelled)


def _named_back(fields: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    if unknown := fields.keys() - set(names.values()):
        raise ValueError(f"{', '.join(sorted(unknown))}: not part of tidegate's settings")
    return {
        ours: duration_ms(fields[theirs]) if ours.endswith("_ms") else fields[theirs]
        for ours, theirs in names.items()
        if theirs in fields
    }


def _read(into: dict[str, Setting], aspect: str, source: Mapping[str, Any], place: TaskPlace) -> None:
    try:
        into[aspect] = _READERS[aspect](source, place)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return


def _read_timeout(http: Mapping[str, Any], _: TaskPlace) -> TimeoutSetting:
    return TimeoutSetting(timeout_ms=duration_ms(http["timeout"]) if "timeout" in http else None)


def _read_retries(http: Mapping[str, Any], _: TaskPlace) -> RetriesSetting:
    retries = http["retries"]
    if not retries.get("attempts"):
        return RetriesSetting(attempts=0)
    per_try = retries.get("perTryTimeout")
    reasons = {"retry_on": retries["retryOn"].split(",")} if "retryOn" in retries else {}
    return RetriesSetting.model_validate(
        {
            "attempts": retries["attempts"],
            "per_try_timeout_ms": None if per_try is None else duration_ms(per_try),
            **reasons,
        }
    )


def _read_route(http: Mapping[str, Any], place: TaskPlace) -> RouteSetting:
    (match,) = http["match"]
    if match.keys() - {"headers", "uri"} or match["headers"].keys() != {TASK_HEADER}:
        raise ValueError("it matches by more than tidegate's settings do")
    ports = {(route["destination"].get("port") or {}).get("number") for route in http["route"]}
    hosts = {route["destination"]["host"] for route in http["route"]}
    if hosts != {place.host}:
        raise ValueError(f"it goes to {', '.join(sorted(hosts))}")
    (port,) = ports
    taskid, name = match["headers"][TASK_HEADER]["exact"], http["name"]
    return RouteSetting(
        taskid=None if taskid == place.task else taskid,
        name=None if name == place.task else name,
        path_prefix=match["uri"]["prefix"] if "uri" in match else None,
        port=port,
    )


def _read_versions(http: Mapping[str, Any], _: TaskPlace) -> VersionsSetting:
    routes = http["route"]
    if len(routes) == 1 and "subset" not in routes[0]["destination"]:
        return VersionsSetting(versions=())
    return VersionsSetting.model_validate(
        {
            "versions": [
                {
                    "name": route["destination"]["subset"],
                    "weight": route.get("weight", 100 if len(routes) == 1 else 0),
                }
                for route in routes
            ]
        }
    )


def _read_gateway(spec: Mapping[str, Any], _: TaskPlace) -> GatewaySetting:
    (gateway,) = spec["gateways"]
    namespace, name = gateway.split("/")
    return GatewaySetting.model_validate({"gateway": name, "namespace": namespace, "hosts": spec["hosts"]})


def _read_circuit_breaker(spec: Mapping[str, Any], _: TaskPlace) -> CircuitBreakerSetting:
    policy = spec.get("trafficPolicy") or {}
    pool, outliers = policy.get("connectionPool"), policy.get("outlierDetection")
    if unknown := policy.keys() - {"connectionPool", "outlierDetection"}:
        raise ValueError(f"{', '.join(sorted(unknown))}: not part of tidegate's settings")
    return CircuitBreakerSetting(
        connection_pool=None
        if pool is None
        else ConnectionPool.model_validate(
            _named_back(pool.get("tcp") or {}, TCP_NAMES) | _named_back(pool.get("http") or {}, HTTP_NAMES)
        ),
        outlier_detection=None
        if outliers is None
        else OutlierDetection.model_validate(_named_back(outliers, OUTLIER_NAMES)),
    )


_READERS = {
    "timeout": _read_timeout,
    "retries": _read_retries,
    "route": _read_route,
    "versions": _read_versions,
    "gateway": _read_gateway,
    "circuit-breaker": _read_circuit_breaker,
}
