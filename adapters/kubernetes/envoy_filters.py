"""The EnvoyFilter of each gateway with the limits of its tasks: read, created once and then patched.

A change reads the object, adds its limits, and applies the whole by server-side apply with the resourceVersion that it
read; on a conflict it starts over. So concurrent writers keep each other's changes, and an older revision is rejected.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from tidegate.adapters.kubernetes.errors import ApiFailed
from tidegate.adapters.kubernetes.objects import KubernetesObjects
from tidegate.jobs.logic.istio.objects import ENVOY_FILTER, OWNER, OWNER_LABEL, is_ours, replacing
from tidegate.jobs.logic.istio.rate_limits import (
    GatewayPlace,
    LimitRefusal,
    Put,
    body_patches,
    envoy_filter,
    held_patches,
    limits_in_force,
    put,
    task_patch,
)
from tidegate.jobs.logic.limits.envoy_limits import ENVOYS_DEFAULTS_BUT_GRPC, Limit, LimitedAnswer, TaskKey

log = logging.getLogger(__name__)

MOST_BYTES = 1_450_000
"""The maximum size of an object as it is sent: etcd's limit of 1.5 MiB, less room for the server's own fields."""
_TRIES = 12
_LONGEST_WAIT_SECONDS = 0.25


@dataclass(frozen=True)
class Written:
    """The result of a change. before: the former limits of these tasks. changed: the tasks whose limit has changed."""

    before: Mapping[TaskKey, Limit]
    changed: frozenset[TaskKey]
    refused: Mapping[TaskKey, LimitRefusal]


class EnvoyFilters:
    """The gateways' EnvoyFilters on one API server. Safe to use from several threads."""

    def __init__(self, objects: KubernetesObjects, answer: LimitedAnswer = ENVOYS_DEFAULTS_BUT_GRPC) -> None:
        self._objects = objects
        self._answer = answer

    def read(self, place: GatewayPlace) -> Mapping[TaskKey, Limit]:
        """The limits of the gateway's EnvoyFilter; none if it doesn't exist. Raises ApiFailed."""
        live = self._live(place)
        return {} if live is None else limits_in_force(live, place, self._answer)

    def change(self, place: GatewayPlace, limits: Iterable[Limit], *, dry_run: bool = False) -> Written:
        """Write these limits into the gateway's EnvoyFilter, unless it has all of them already.

        dry_run: the API server validates the change and stores nothing. Raises ApiFailed.
        """
        wanted = list(limits)
        for attempt in range(1, _TRIES + 1):
            live = self._live(place)
            before = {} if live is None else limits_in_force(live, place, self._answer)
            change, body, too_many = _fitting(live, place, wanted, self._answer)
            try:
                if change.changed:
                    self._apply(live, body, dry_run=dry_run)
            except ApiFailed as error:
                if error.failure != "conflict" or attempt == _TRIES:
                    raise
                time.sleep(random.uniform(0, _LONGEST_WAIT_SECONDS))  # noqa: S311 (no secret)
                continue
            held = {limit.key: before[limit.key] for limit in wanted if limit.key in before}
            return Written(held, change.written, dict(change.refused) | too_many)
        raise AssertionError("the last attempt returns or raises")

    def _live(self, place: GatewayPlace) -> dict[str, Any] | None:
        live = self._objects.get(ENVOY_FILTER, place.namespace, place.object_name)
        if live is not None and not is_ours(live):
            raise ApiFailed(
                "not-ours",
                f"EnvoyFilter {place.namespace}/{place.object_name} isn't tidegate's: it has no label "
                f"{OWNER_LABEL}={OWNER}. Remove or rename it; or add the label, if tidegate may manage it",
            )
        return live

    def _apply(self, live: Mapping[str, Any] | None, body: dict[str, Any], *, dry_run: bool) -> None:
        if live is None:
            self._objects.create(ENVOY_FILTER, body, dry_run=dry_run)
        else:
            self._objects.replace(ENVOY_FILTER, replacing(body, live), dry_run=dry_run)


def _fitting(
    live: Mapping[str, Any] | None, place: GatewayPlace, limits: list[Limit], answer: LimitedAnswer
) -> tuple[Put, dict[str, Any], dict[TaskKey, LimitRefusal]]:
    """The object with the limits; those that would make it too large are left out, new tasks first."""
    change = put(live, place, limits, answer)
    body = envoy_filter(place, change.patches)
    whole_bytes = _bytes(body)
    if whole_bytes <= MOST_BYTES:
        return change, body, {}
    patches = held_patches(live)
    held = {key: _bytes(patch) for key, patch in patches.items()}
    now_bytes = _bytes(envoy_filter(place, put(live, place, [], answer).patches))
    taken: list[Limit] = []
    for limit in sorted(limits, key=lambda limit: (limit.key not in held, limit.key)):
        growth = _bytes(task_patch(limit, answer, patches.get(limit.key))) + 1 - held.get(limit.key, 0)
        if growth <= 1 or now_bytes + growth <= MOST_BYTES:
            taken.append(limit)
            now_bytes += growth
    tasks = len(change.patches) - 1 - len(body_patches(answer))
    reason = (
        f"EnvoyFilter {place.namespace}/{place.object_name} would have {whole_bytes} bytes with "
        f"{tasks} tasks, more than {MOST_BYTES}; spread the tasks over more gateways"
    )
    taken_keys = {limit.key for limit in taken}
    too_many = {limit.key: LimitRefusal(reason) for limit in limits if limit.key not in taken_keys}
    log.warning("%d limits are not written: %s", len(too_many), reason)
    change = put(live, place, taken, answer)
    return change, envoy_filter(place, change.patches), too_many


def _bytes(part: Mapping[str, Any]) -> int:
    return len(orjson.dumps(part))
