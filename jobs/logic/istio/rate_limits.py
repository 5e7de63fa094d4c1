"""The EnvoyFilter of one gateway with the limits of all its tasks: pure functions from values to the object, and back.

The first patch adds the local rate limit filter to the listener, without a limit; it never changes, so that no
connection is drained. Each task has one patch of its route, which is matched by the route's name.

    configPatches[0]     HTTP_FILTER INSERT_BEFORE the router
    next                 NETWORK_FILTER MERGE of the connection manager, only where limited requests get a body
    the rest             HTTP_ROUTE MERGE, sorted by department and task

Fields of the limit filter that tidegate doesn't own are left as they are, and are no drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.jobs.logic.istio.objects import ENVOY_FILTER, owned_object
from tidegate.jobs.logic.limits.envoy_limits import (
    ENVOYS_DEFAULTS_BUT_GRPC,
    FILTER,
    Limit,
    LimitedAnswer,
    TaskKey,
    filter_without_limit,
    foreign_fields,
    local_reply_config,
    marks_of,
    read_route,
    route_parts,
)
from tidegate.schemas.catalog import Gateway

_ROUTER = "envoy.filters.http.router"
_CONNECTION_MANAGER = "envoy.filters.network.http_connection_manager"
_CONNECTION_MANAGER_TYPE = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_Patch = dict[str, Any]


@dataclass(frozen=True)
class GatewayPlace:
    """A gateway's place in Kubernetes. labels: the selector of its pods."""

    gateway: str
    namespace: str
    labels: Mapping[str, str]

    @classmethod
    def of(cls, name: str, gateway: Gateway) -> GatewayPlace:
        """The place of a gateway of the catalog."""
        return cls(name, gateway.namespace, gateway.labels or {"istio": name})

    @property
    def object_name(self) -> str:
        """The name of its EnvoyFilter."""
        return f"tidegate-rate-limits-{self.gateway}"


@dataclass(frozen=True)
class LimitRefusal:
    """Why a limit is not written. revision: that of the limit in the object, if it is the reason."""

    reason: str
    revision: int | None = None


@dataclass(frozen=True)
class Put:
    """The patches with the limits. written: the tasks whose patch differs from before.

    changed: whether the object must be written, possibly only to revert a manual edit.
    """

    patches: list[_Patch]
    written: frozenset[TaskKey]
    refused: Mapping[TaskKey, LimitRefusal]
    changed: bool


def envoy_filter(place: GatewayPlace, patches: Iterable[_Patch]) -> dict[str, Any]:
    """The whole object."""
    spec = {"workloadSelector": {"labels": dict(place.labels)}, "configPatches": list(patches)}
    return owned_object(ENVOY_FILTER, place.namespace, place.object_name, spec)


def listener_patch() -> _Patch:
    """The first patch: the HTTP filter, before the router."""
    return {
        "applyTo": "HTTP_FILTER",
        "match": {
            "context": "GATEWAY",
            "listener": {
                "filterChain": {"filter": {"name": _CONNECTION_MANAGER, "subFilter": {"name": _ROUTER}}}
            },
        },
        "patch": {"operation": "INSERT_BEFORE", "value": filter_without_limit()},
    }


def body_patches(answer: LimitedAnswer) -> list[_Patch]:
    """The patch that gives limited requests their body; none without a body.

    Whenever it changes, Istio changes the listener, and its connections are drained.
    """
    if not answer.body:
        return []
    config = {"@type": _CONNECTION_MANAGER_TYPE, "local_reply_config": local_reply_config(answer)}
    match = {"context": "GATEWAY", "listener": {"filterChain": {"filter": {"name": _CONNECTION_MANAGER}}}}
    value = {"name": _CONNECTION_MANAGER, "typed_config": config}
    return [
        {"applyTo": "NETWORK_FILTER", "match": match, "patch": {"operation": "MERGE", "value": value}},
    ]


def task_patch(
    limit: Limit, answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC, held: Mapping[str, Any] | None = None
) -> _Patch:
    """The patch of one task's route. held: its patch now, whose foreign fields of the limit filter are kept."""
    return {
        "applyTo": "HTTP_ROUTE",
        "match": {
            "context": "GATEWAY",
            "routeConfiguration": {"vhost": {"route": {"name": limit.route}}},
        },
        "patch": {"operation": "MERGE", "value": route_parts(limit, answer, _value(held or {}))},
    }


def limits_in_force(
    live: Mapping[str, Any], place: GatewayPlace, answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC
) -> dict[TaskKey, Limit]:
    """The limits that an object puts in force.

    Edited limits are reported as they are. No limit is in force if the listener lacks the filter or the answer's body,
    or other pods are selected; nor is the limit of a route that a foreign patch changes too.
    """
    spec = _spec(live)
    patches = _patches(spec)
    head = _head(patches, answer)
    if patches[: len(head)] != head or _selected(spec) != dict(place.labels):
        return {}
    limits: dict[TaskKey, Limit] = {}
    routes: list[str | None] = []
    for patch in patches[len(head) :]:
        routes.append(_route_of(patch))
        limit = _limit_of(patch, answer)
        if limit is not None:
            limits[limit.key] = limit
    if None in routes:
        return {}
    return {key: limit for key, limit in limits.items() if routes.count(limit.route) == 1}


def held_patches(live: Mapping[str, Any] | None) -> dict[TaskKey, _Patch]:
    """The patches of an object that name a task, edited or not."""
    patches = [] if live is None else _patches(_spec(live))
    return {key: patch for patch in patches if (key := _key_of(patch)) is not None}


def put(
    live: Mapping[str, Any] | None,
    place: GatewayPlace,
    limits: Iterable[Limit],
    answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC,
) -> Put:
    """Put limits into the live object, or into a new one. The limits of other tasks stay.

    A limit is rejected if the object has a newer revision, or another limit of the same revision.
    """
    before = [] if live is None else _patches(_spec(live))
    held = held_patches(live)
    by_key = {limit.key: limit for limit in limits}
    refused = {
        key: why
        for key, limit in by_key.items()
        if (why := _refusal(held.get(key), limit, answer)) is not None
    }
    new = {
        key: task_patch(limit, answer, held.get(key)) for key, limit in by_key.items() if key not in refused
    }
    taken_routes = {by_key[key].route for key in new}
    kept = {
        key: patch for key, patch in held.items() if key not in new and _route_of(patch) not in taken_routes
    }
    # A patch of a named route that lost its marks may be a task's only limit: it stays until that limit is written.
    unmarked = [
        patch
        for patch in before
        if _key_of(patch) is None and (route := _route_of(patch)) is not None and route not in taken_routes
    ]
    tasks = [patch for _, patch in sorted((kept | new).items())]
    patches = [*_head(before, answer), *tasks, *unmarked]
    written = frozenset(key for key, patch in new.items() if held.get(key) != patch)
    selected = live is not None and _selected(_spec(live)) == dict(place.labels)
    return Put(patches, written, refused, changed=bool(new) and not (selected and patches == before))


def _refusal(held: _Patch | None, limit: Limit, answer: LimitedAnswer) -> LimitRefusal | None:
    marks = None if held is None else marks_of(_value(held))
    if held is None or marks is None or marks[1] < limit.revision:
        return None
    if marks[1] > limit.revision:
        return LimitRefusal(f"the EnvoyFilter has revision {marks[1]}, newer than {limit.revision}", marks[1])
    there = _limit_of(held, answer)
    if there is None or there == limit:
        return None
    return LimitRefusal(f"the EnvoyFilter has another limit of the same revision, {limit.revision}", marks[1])


def _head(before: list[_Patch], answer: LimitedAnswer) -> list[_Patch]:
    """The patches of the listener. The filter's is that of the object, where only foreign fields differ."""
    listener = listener_patch()
    ours = listener["patch"]["value"]
    held = _value(before[0]) if before else {}
    config = held.get("typed_config")
    if isinstance(config, dict) and held.get("name") == FILTER:
        foreign = foreign_fields({"typed_per_filter_config": {FILTER: config}})
        listener["patch"]["value"] = ours | {"typed_config": foreign | ours["typed_config"]}
    return [listener, *body_patches(answer)]


def _spec(live: Mapping[str, Any]) -> Mapping[str, Any]:
    spec = live.get("spec")
    return spec if isinstance(spec, Mapping) else {}


def _patches(spec: Mapping[str, Any]) -> list[_Patch]:
    return [patch for patch in spec.get("configPatches") or [] if isinstance(patch, dict)]


def _selected(spec: Mapping[str, Any]) -> dict[str, str]:
    return (spec.get("workloadSelector") or {}).get("labels") or {}


def _value(patch: Mapping[str, Any]) -> dict[str, Any]:
    value = (patch.get("patch") or {}).get("value")
    return value if isinstance(value, dict) else {}


def _route_of(patch: _Patch) -> str | None:
    """The name of the route that a patch is for; None if it is for several routes or something else."""
    match = patch.get("match") or {}
    vhost = (match.get("routeConfiguration") or {}).get("vhost") or {}
    name = (vhost.get("route") or {}).get("name")
    return name if patch.get("applyTo") == "HTTP_ROUTE" and isinstance(name, str) and name else None


def _key_of(patch: _Patch) -> TaskKey | None:
    marks = marks_of(_value(patch))
    return marks[0] if marks is not None and _route_of(patch) is not None else None


def _limit_of(patch: _Patch, answer: LimitedAnswer) -> Limit | None:
    """The limit of a patch; None if the patch is anything but a limit of tidegate."""
    route = _route_of(patch)
    limit = None if route is None else read_route(_value(patch) | {"name": route}, answer)
    return limit if limit is not None and _same_but_for_the_limit(patch, limit) else None


def _same_but_for_the_limit(patch: _Patch, limit: Limit) -> bool:
    """Whether the patch changes only what tidegate's limits change."""
    wanted = task_patch(limit)
    return (
        {**patch, "patch": None} == {**wanted, "patch": None}
        and {**patch["patch"], "value": None} == {**wanted["patch"], "value": None}
        and _value(patch).keys() == _value(wanted).keys()
    )
