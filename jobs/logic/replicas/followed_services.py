"""The followed tasks with their EndpointSlices, while slices and namespaces change.

A task has all services that map to its identity, in the followed namespaces: their replicas together, each pod once.
Two services with the same pods (such as a headless one) are one set; two with different pods are the replicas that the
gateway's routes to either service reach.

A deleted service and one that is no longer followed differ: the first has zero replicas, the second has no row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from tidegate.jobs.logic.identity import Identity
from tidegate.jobs.logic.replicas.label_selectors import LabelSelector
from tidegate.jobs.logic.replicas.ready_sets import Slice

Service = tuple[str, str]
"""Namespace and name."""


class Absent(Enum):
    """Why a task is not followed."""

    DELETED = "deleted"
    LEFT_OUT = "left out"


@dataclass(frozen=True)
class Followed:
    """A followed task: its services, in order of their names, and their slices."""

    services: tuple[Service, ...]
    slices: tuple[Slice, ...]

    @property
    def workload(self) -> str:
        """The first of the services."""
        return "/".join(self.services[0])


class FollowedServices:
    """The current slices and namespaces. Every change returns the tasks that it may affect."""

    def __init__(self, identify: Callable[[str, str], Identity], selector: LabelSelector) -> None:
        """identify: namespace and service to identity. selector: of slices; one match selects the whole service."""
        self._identify = identify
        self._selector = selector
        self._slices: dict[str, Slice] = {}
        self._names: dict[Service, set[str]] = defaultdict(set)
        self._services: dict[Identity, set[Service]] = defaultdict(set)
        self._namespaces: frozenset[str] | None = frozenset()

    def replace_slices(self, slices: Mapping[str, Slice]) -> set[Identity]:
        """Replace all slices, by `namespace/name`."""
        gone = [name for name in self._slices if name not in slices]
        touched = [self.put_slice(name, None) for name in gone]
        touched += [self.put_slice(name, one) for name, one in slices.items()]
        return set().union(*touched)

    def put_slice(self, name: str, one: Slice | None) -> set[Identity]:
        """Add or change a slice, or remove it (None)."""
        touched = set()
        before = self._slices.pop(name, None)
        if before is not None:
            touched.add(self._forget(name, before))
        if one is not None:
            service = (one.namespace, one.service)
            identity = self._identify(*service)
            self._slices[name] = one
            self._names[service].add(name)
            self._services[identity].add(service)
            touched.add(identity)
        return touched

    def follow_namespaces(self, namespaces: Collection[str] | None) -> set[Identity]:
        """Follow the services of exactly these namespaces; None: of all."""
        wanted = None if namespaces is None else frozenset(namespaces)
        if wanted is None or self._namespaces is None:
            touched = set(self._services)
        else:
            changed = wanted ^ self._namespaces
            touched = {
                identity
                for identity, services in self._services.items()
                if any(namespace in changed for namespace, _ in services)
            }
        self._namespaces = wanted
        return touched

    def identities(self) -> Iterator[Identity]:
        """Every task with a slice, followed or not."""
        yield from list(self._services)

    def look(self, identity: Identity) -> Followed | Absent:
        """The task's current state."""
        services = self._services.get(identity)
        if not services:
            return Absent.DELETED
        followed = tuple(sorted(service for service in services if self._is_followed(service)))
        if not followed:
            return Absent.LEFT_OUT
        slices = tuple(self._slices[name] for service in followed for name in sorted(self._names[service]))
        return Followed(followed, slices)

    def _is_followed(self, service: Service) -> bool:
        """Whether any slice is selected: while labels change one by one, replicas must not seem to disappear."""
        if self._namespaces is not None and service[0] not in self._namespaces:
            return False
        return any(self._selector.matches(self._slices[name].labels) for name in self._names[service])

    def _forget(self, name: str, one: Slice) -> Identity:
        service = (one.namespace, one.service)
        identity = self._identify(*service)
        self._names[service].discard(name)
        if not self._names[service]:
            del self._names[service]
            self._services[identity].discard(service)
            if not self._services[identity]:
                del self._services[identity]
        return identity
