"""Ready replicas from the Kubernetes API: EndpointSlices of the tasks' services, pods of the gateways."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from kubernetes import client

from tidegate.adapters.catalog.source import CatalogSource
from tidegate.adapters.kubernetes.client import connect
from tidegate.adapters.kubernetes.errors import KubernetesUnknown
from tidegate.adapters.watching.list_watch import Changed, Feed, FeedEvent, Kind, Listed, Lost, Proven
from tidegate.adapters.watching.publisher import PublishedRows, SourceFailed, WatchRow
from tidegate.jobs.logic.identity import Identity, of_service
from tidegate.jobs.logic.replicas.followed_services import Absent, FollowedServices
from tidegate.jobs.logic.replicas.label_selectors import LabelSelector
from tidegate.jobs.logic.replicas.ready_sets import (
    GatewayPod,
    gateway_pod_of,
    gateway_row,
    replicas_row,
    slice_of,
)
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.rows.limits import ReplicasRow
from tidegate.schemas.settings import Settings
from tidegate.schemas.settings.limits import Watcher
from tidegate.schemas.timestamps import from_epoch_ms

log = logging.getLogger(__name__)

_SLICES = Kind("EndpointSlices", "/apis/discovery.k8s.io/v1/endpointslices", slice_of)
_NAMESPACES = "namespaces"
_AT_ONCE = 200


class KubernetesSource:
    """Follows the API from its creation on. Emits rows only of states that the API has proven.

    Raises SourceFailed without access to the API or for an invalid selector.
    """

    def __init__(self, settings: Settings, catalog: CatalogSource) -> None:
        """catalog: closed with the source."""
        self._watcher = settings.watcher
        self._request_seconds = settings.kubernetes.request_timeout_seconds
        self._watch_seconds = max(1, int(settings.watcher.refresh_seconds / 3))
        # A row is refreshed with the last proof before it would be too old.
        self._published = PublishedRows(max(0.0, settings.watcher.refresh_seconds - self._watch_seconds))
        _selector("namespace_selector", settings.watcher)
        self._services = FollowedServices(
            partial(of_service, settings=settings.access_log), _selector("service_selector", settings.watcher)
        )
        self._catalog = catalog
        try:
            self._api: client.ApiClient = connect(settings.kubernetes)
        except KubernetesUnknown as error:
            raise SourceFailed(str(error)) from error
        self._events: SimpleQueue[FeedEvent] = SimpleQueue()
        self._feeds: dict[str, Feed[Any]] = {}
        self._proven_ms: dict[str, int] = {}
        self._namespaces: set[str] | None = None
        self._gateways: dict[str, str] = {}
        self._pods: dict[str, dict[str, GatewayPod]] = {}
        self._warned_of: set[Identity] = set()
        self._follow(_SLICES)
        if settings.watcher.namespace_selector:
            self._follow(
                Kind(_NAMESPACES, "/api/v1/namespaces", _name_of, settings.watcher.namespace_selector)
            )
        else:
            self._services.follow_namespaces(None)
        self._follow_gateways(catalog.catalog.gateways)

    @property
    def about(self) -> str:
        """The API server, the followed objects, and the gateways."""
        namespaces = self._watcher.namespace_selector
        which = f"namespaces with {namespaces}" if namespaces else "all namespaces"
        slices = f" with {self._watcher.service_selector}" if self._watcher.service_selector else ""
        gateways = ", ".join(sorted(self._gateways.values())) or f"none in {self._catalog.place}"
        return (
            f"the Kubernetes API at {self._api.configuration.host}: EndpointSlices{slices} of {which}; "
            f"gateways: {gateways}"
        )

    def rows(self, wait_seconds: float) -> Iterator[WatchRow]:
        """The rows that the API's events cause, in order."""
        if self._catalog.changed():
            self._follow_gateways(self._catalog.catalog.gateways)
        for turn in range(_AT_ONCE):  # then Kafka's answers are looked at, however much goes on here
            try:
                event = self._events.get(timeout=0 if turn else wait_seconds)
            except Empty:
                return
            yield from (row for row in self._take(event) if self._published.due(row))

    def close(self) -> None:
        """End every watch."""
        for feed in self._feeds.values():
            feed.halt()
        for feed in self._feeds.values():
            feed.close()
        self._api.close()
        self._catalog.close()

    def _take(self, event: FeedEvent) -> Iterator[WatchRow]:
        """The rows that an event may have changed, or proves once more."""
        if isinstance(event, Lost):
            self._proven_ms.pop(event.kind, None)
            return
        if event.kind not in self._feeds:
            return  # of a gateway that was removed from the catalog
        if isinstance(event, Listed) or event.kind in self._proven_ms:
            self._proven_ms[event.kind] = max(event.at_ms, self._proven_ms.get(event.kind, 0))
        if event.kind == _SLICES.name:
            yield from self._take_slices(event)
        elif event.kind == _NAMESPACES:
            yield from self._take_namespaces(event)
        else:
            yield from self._take_pods(event)

    def _take_slices(self, event: Listed[Any] | Changed[Any] | Proven) -> Iterator[ReplicasRow]:
        if isinstance(event, Listed):
            touched = self._services.replace_slices(event.objects)
            yield from self._task_rows(touched, event.at_ms)
            log.info("EndpointSlices listed: %d, of %d tasks", len(event.objects), len(touched))
        elif isinstance(event, Changed):
            yield from self._task_rows(self._services.put_slice(event.key, event.now), event.at_ms)
        else:
            yield from self._proven_rows()

    def _take_namespaces(self, event: Listed[Any] | Changed[Any] | Proven) -> Iterator[ReplicasRow]:
        if isinstance(event, Proven):
            yield from self._proven_rows()
            return
        if isinstance(event, Listed):
            self._namespaces = set(event.objects.values())
        elif self._namespaces is not None:
            name = event.key.rpartition("/")[2]
            (self._namespaces.discard if event.now is None else self._namespaces.add)(name)
        touched = self._services.follow_namespaces(self._namespaces or ())
        yield from self._task_rows(touched, event.at_ms)

    def _task_rows(self, identities: Iterable[Identity], at_ms: int) -> Iterator[ReplicasRow]:
        """The tasks' rows; none until the slices and the selected namespaces are listed."""
        if _SLICES.name not in self._proven_ms or (_NAMESPACES in self._feeds and self._namespaces is None):
            return
        for identity in identities:
            row = self._task_row(identity, from_epoch_ms(at_ms))
            if row is not None:
                yield row

    def _proven_rows(self) -> Iterator[ReplicasRow]:
        """All rows, as of the moment up to which all of their inputs are proven."""
        needed = [kind for kind in (_SLICES.name, _NAMESPACES) if kind in self._feeds]
        if all(kind in self._proven_ms for kind in needed):
            at_ms = min(self._proven_ms[kind] for kind in needed)
            yield from self._task_rows(self._services.identities(), at_ms)

    def _task_row(self, identity: Identity, at: datetime) -> ReplicasRow | None:
        """The task's row; zero replicas if its service was deleted, None if it is no longer followed."""
        found = self._services.look(identity)
        if isinstance(found, Absent):
            row_id = replicas_row(identity, "", (), at).id
            last = self._published.last(row_id)
            self._published.forget(row_id)
            if found is Absent.LEFT_OUT or not isinstance(last, ReplicasRow):
                return None
            log.info("%s/%s: its service was deleted; publishing zero replicas", *identity)
            return replicas_row(identity, last.workload, (), at)
        if len(found.services) > 1 and identity not in self._warned_of:
            self._warned_of.add(identity)
            names = ", ".join("/".join(service) for service in found.services)
            log.warning(
                "%s/%s has several services: %s; their pods are counted together, each once", *identity, names
            )
        return replicas_row(identity, found.workload, found.slices, at)

    def _take_pods(self, event: Listed[Any] | Changed[Any] | Proven) -> Iterator[WatchRow]:
        if isinstance(event, Listed):
            self._pods[event.kind] = dict(event.objects)
        elif isinstance(event, Changed):
            pods = {key: pod for key, pod in self._pods[event.kind].items() if key != event.key}
            self._pods[event.kind] = pods | ({} if event.now is None else {event.key: event.now})
        if event.kind in self._proven_ms:
            at = from_epoch_ms(self._proven_ms[event.kind])
            yield gateway_row(self._gateways[event.kind], self._pods[event.kind].values(), at)

    def _follow_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        """Follow the pods of exactly these gateways."""
        wanted = {kind.name: (name, kind) for name, kind in _pods_of(gateways)}
        for gone in self._gateways.keys() - wanted.keys():
            self._feeds.pop(gone).halt()
            self._published.forget(gateway_row(self._gateways.pop(gone), (), from_epoch_ms(0)).id)
            self._pods.pop(gone, None)
            self._proven_ms.pop(gone, None)
        for new in wanted.keys() - self._gateways.keys():
            name, kind = wanted[new]
            self._gateways[new] = name
            self._pods[new] = {}
            self._follow(kind)

    def _follow(self, kind: Kind[Any]) -> None:
        self._feeds[kind.name] = Feed(
            self._api,
            kind,
            self._events,
            request_seconds=self._request_seconds,
            watch_seconds=self._watch_seconds,
            max_backoff_seconds=self._watcher.max_backoff_seconds,
        )
        self._feeds[kind.name].start()


def _pods_of(gateways: Mapping[str, Gateway]) -> Iterator[tuple[str, Kind[GatewayPod]]]:
    for name, gateway in gateways.items():
        labels = gateway.labels or {"istio": name}
        selector = ",".join(f"{label}={value}" for label, value in sorted(labels.items()))
        path = f"/api/v1/namespaces/{gateway.namespace}/pods"
        # The name holds the whole definition, so a changed gateway is followed as a new kind.
        kind = Kind(
            f"pods of gateway {name} ({gateway.namespace}, {selector})", path, gateway_pod_of, selector
        )
        yield name, kind


def _selector(name: str, watcher: Watcher) -> LabelSelector:
    try:
        return LabelSelector.parse(getattr(watcher, name))
    except ValueError as error:
        raise SourceFailed(f"watcher.{name}: {error}") from error


def _name_of(raw: Mapping[str, Any]) -> str:
    return str(raw["metadata"]["name"])
