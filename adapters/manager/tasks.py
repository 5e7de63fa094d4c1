"""A task's VirtualService and DestinationRule in Kubernetes: reads what is in force, puts a setting with its revision.

Every write derives the whole object from its annotation, and is conditional on the resourceVersion that was read. So
the next setting, whichever it is, reverts a manual edit of the spec.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tidegate.adapters.kubernetes.errors import ApiFailed
from tidegate.adapters.kubernetes.objects import KubernetesObjects
from tidegate.jobs.logic.istio.objects import (
    DESTINATION_RULE,
    OWNER,
    OWNER_LABEL,
    VIRTUAL_SERVICE,
    Kind,
    is_ours,
    replacing,
)
from tidegate.jobs.logic.istio.task_settings import ASPECTS, Held, Setting, Version, VersionsSetting
from tidegate.jobs.logic.istio.traffic import (
    IncompatibleSettings,
    TaskPlace,
    check_together,
    destination_rule,
    normalised,
    same_object,
    settings_of,
    subsets_of,
    virtual_service,
)
from tidegate.jobs.logic.istio.traffic_read import read_destination_rule, read_virtual_service, with_labels
from tidegate.schemas.settings import AccessLog

_TRIES = 8
_LONGEST_WAIT_SECONDS = 0.25
Object = dict[str, Any]


class Outdated(Exception):
    """The object holds a newer revision of the setting, or another setting of the same revision."""

    def __init__(self, held: Held, revision: int) -> None:
        newer = held.revision > revision
        super().__init__(
            f"revision {held.revision} is in force, newer than {revision}"
            if newer
            else f"revision {revision} is in force with another content; use a higher revision"
        )
        self.held = held


@dataclass(frozen=True)
class InForce:
    """One setting of a task: as it was set, and as the objects have it in force. drifted: these differ."""

    revision: int | None
    was_set: Setting | None
    in_force: Setting | None

    @property
    def drifted(self) -> bool:
        """Whether the setting was changed outside of the manager."""
        return self.was_set is not None and self.was_set != self.in_force


@dataclass(frozen=True)
class Changed:
    """The outcome of a put."""

    outcome: Literal["applied", "unchanged"]
    before: Held | None
    after: Held


def place_of(
    department: str, task: str, namespace: str | None, access_log: AccessLog, domain: str
) -> TaskPlace:
    """The place of a task's service: the inverse of the access log's mapping.

    Raises IncompatibleSettings if a department has several namespaces and none is given.
    """
    mapped = sorted(name for name, owner in access_log.departments.items() if owner == department)
    if namespace is None and len(mapped) > 1:
        raise IncompatibleSettings(
            f"department {department} has the namespaces {', '.join(mapped)}; choose one with ?namespace="
        )
    if namespace is not None and access_log.departments.get(namespace, namespace) != department:
        raise IncompatibleSettings(f"namespace {namespace} does not belong to department {department}")
    where = namespace or (mapped[0] if mapped else department)
    if access_log.departments.get(where, where) != department:
        raise IncompatibleSettings(
            f"department {department} has no namespace; map one to it in access_log.departments"
        )
    return TaskPlace(department, task, where, access_log.service_prefix + task, domain)


class TaskObjects:
    """The tasks' objects in one cluster."""

    def __init__(self, objects: KubernetesObjects) -> None:
        self._objects = objects

    def read(self, place: TaskPlace) -> dict[str, InForce]:
        """Every setting of a task. Raises ApiFailed."""
        service, rule = self._live(VIRTUAL_SERVICE, place), self._live(DESTINATION_RULE, place)
        held = settings_of(rule) | settings_of(service)
        in_force = read_virtual_service(service or {}, place) | read_destination_rule(rule or {}, place)
        versions = in_force.get("versions")
        if isinstance(versions, VersionsSetting):
            in_force["versions"] = with_labels(versions, subsets_of(rule))
        return {
            aspect: InForce(
                revision=held[aspect].revision if aspect in held else None,
                was_set=held[aspect].setting if aspect in held else None,
                in_force=in_force.get(aspect),
            )
            for aspect in ASPECTS
        }

    def put(
        self, place: TaskPlace, aspect: str, setting: Setting, revision: int, *, dry_run: bool = False
    ) -> Changed:
        """Put one setting, without a write if it is in force already.

        Raises Outdated, IncompatibleSettings, ApiFailed.
        """
        wanted = Held(revision, normalised(place, setting))
        for attempt in range(1, _TRIES + 1):
            try:
                return self._try(place, aspect, wanted, dry_run)
            except ApiFailed as error:
                if error.failure != "conflict" or attempt == _TRIES:
                    raise
                time.sleep(random.uniform(0, _LONGEST_WAIT_SECONDS))  # noqa: S311 (no secret)
        raise AssertionError("the last attempt returns or raises")

    def _try(self, place: TaskPlace, aspect: str, wanted: Held, dry_run: bool) -> Changed:
        service, rule = self._live(VIRTUAL_SERVICE, place), self._live(DESTINATION_RULE, place)
        of_service, of_rule = settings_of(service), settings_of(rule)
        before = (of_rule if aspect == "circuit-breaker" else of_service).get(aspect)
        if before is not None and (
            before.revision > wanted.revision
            or (before.revision == wanted.revision and before.setting != wanted.setting)
        ):
            raise Outdated(before, wanted.revision)
        check_together(of_service | {aspect: wanted})
        writer = _Writer(self._objects, dry_run)
        routed = _versions(of_service)
        if aspect == "circuit-breaker":
            writer.write(DESTINATION_RULE, destination_rule(place, of_rule | {aspect: wanted}, routed), rule)
        else:
            new_service = virtual_service(place, of_service | {aspect: wanted})
            if aspect == "versions":
                # A subset exists before the first request is routed to it, and until after the last one.
                new_rule = of_rule | {aspect: wanted}
                rule = writer.write(DESTINATION_RULE, destination_rule(place, new_rule, routed), rule)
                writer.write(VIRTUAL_SERVICE, new_service, service)
                if not dry_run:
                    writer.write(DESTINATION_RULE, destination_rule(place, new_rule), rule)
            else:
                writer.write(VIRTUAL_SERVICE, new_service, service)
        return Changed("applied" if writer.written else "unchanged", before, wanted)

    def _live(self, kind: Kind, place: TaskPlace) -> Object | None:
        live = self._objects.get(kind, place.namespace, place.object_name)
        if live is not None and not is_ours(live):
            raise ApiFailed(
                "not-ours",
                f"{kind.kind} {place.namespace}/{place.object_name} isn't tidegate's: it has no label "
                f"{OWNER_LABEL}={OWNER}. Remove or rename it; or add the label, if tidegate may manage it",
            )
        return live


class _Writer:
    """Writes objects that differ from the live ones."""

    def __init__(self, objects: KubernetesObjects, dry_run: bool) -> None:
        self._objects = objects
        self._dry_run = dry_run
        self.written = False

    def write(self, kind: Kind, wanted: Object, live: Object | None) -> Object:
        """Write the object if it differs, and return the live one."""
        if live is not None and same_object(wanted, live):
            return live
        self.written = True
        if live is None:
            return self._objects.create(kind, wanted, dry_run=self._dry_run)
        return self._objects.replace(kind, replacing(wanted, live), dry_run=self._dry_run)


def _versions(held: Mapping[str, Held]) -> tuple[Version, ...]:
    versions = held.get("versions")
    return versions.setting.versions if versions and isinstance(versions.setting, VersionsSetting) else ()
