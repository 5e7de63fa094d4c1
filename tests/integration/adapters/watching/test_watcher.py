"""The Kubernetes watcher on a real API server: what comes and goes there, as rows."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from kubernetes import client

from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_objects import Slices, put_pod
from tests.support.paths import ROOT
from tests.support.waiting import LIMIT_SECONDS, until
from tidegate.adapters.catalog.source import CatalogSource, FileSource
from tidegate.adapters.kubernetes.client import connect
from tidegate.adapters.watching.kubernetes import KubernetesSource
from tidegate.adapters.watching.list_watch import Changed, Expired, Feed, FeedEvent, Kind, Listed
from tidegate.adapters.watching.publisher import SourceFailed, WatchRow
from tidegate.jobs.logic.replicas.label_selectors import LabelSelector
from tidegate.jobs.logic.replicas.ready_sets import slice_of
from tidegate.schemas.catalog import Catalog, CatalogError
from tidegate.schemas.rows.limits import GatewayRow, ReplicasRow
from tidegate.schemas.settings import Settings
from tidegate.schemas.settings.limits import Kubernetes, Watcher
from tidegate.stack.kubernetes_api import API_SERVER, ETCD
from tidegate.stack.local import LocalStack
from tidegate.stack.ports import is_free

RBAC = ROOT / "deploy" / "kubernetes" / "watcher-rbac.yaml"
SLICES = Kind("EndpointSlices", "/apis/discovery.k8s.io/v1/endpointslices", slice_of)

Counts = tuple[int, int, int]
"""Ready, starting, terminating."""


class Following:
    """A source, and the rows that it has published."""

    def __init__(self, source: KubernetesSource) -> None:
        self.source = source
        self.rows: list[WatchRow] = []

    def listen(self, seconds: float) -> list[WatchRow]:
        """What comes within this time."""
        deadline, before = time.monotonic() + seconds, len(self.rows)
        while time.monotonic() < deadline:
            self.rows += self.source.rows(0.05)
        return self.rows[before:]

    def until(self, condition: Callable[[], bool]) -> None:
        """Listen until this holds."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.rows[-10:]
            self.rows += self.source.rows(0.05)

    def task(self, department: str, task: str = "chat") -> list[ReplicasRow]:
        """The rows of one task."""
        return [
            row
            for row in self.rows
            if isinstance(row, ReplicasRow) and (row.department, row.task) == (department, task)
        ]

    def counts(self, department: str, task: str = "chat") -> list[Counts]:
        """What the rows of one task say, repetitions left out."""
        said: list[Counts] = []
        for row in self.task(department, task):
            counts = (row.replicas_ready, row.replicas_starting, row.replicas_terminating)
            if said[-1:] != [counts]:
                said.append(counts)
        return said

    def gateways(self, name: str) -> list[tuple[str, ...]]:
        """The ready pods that each row of one gateway tells."""
        return [row.gateways for row in self.rows if isinstance(row, GatewayRow) and row.gateway == name]


def settings(kubernetes: Kubernetes, **watcher: Any) -> Settings:
    """Fast ones: watches of a second, and rows every three."""
    return Settings(
        kubernetes=kubernetes.model_copy(update={"request_timeout_seconds": 2.0}),
        watcher=Watcher(**{"refresh_seconds": 3, "max_backoff_seconds": 0.5} | watcher),
    )


class NoCatalog:
    """The source of a catalog without a gateway."""

    place = "no catalog"
    catalog = Catalog({}, {})

    def changed(self) -> bool:
        """Never."""
        return False

    def refresh(self) -> None:
        """Nothing changes."""

    def close(self) -> None:
        """Nothing is open."""


def source_of(catalog: Path | None) -> CatalogSource:
    """Looked at often."""
    return NoCatalog() if catalog is None else FileSource(catalog, poll_seconds=0.1)


@contextmanager
def following(kubernetes: Kubernetes, catalog: Path | None = None, **watcher: Any) -> Iterator[Following]:
    source = KubernetesSource(settings(kubernetes, **watcher), source_of(catalog))
    try:
        yield Following(source)
    finally:
        source.close()


@pytest.fixture(scope="module")
def kubernetes_api(own_kubernetes_api: KubernetesApi) -> KubernetesApi:
    """An API of this worker's own, whose servers are killed and frozen here."""
    return own_kubernetes_api


@pytest.fixture
def slices(kubernetes_api: KubernetesApi) -> Slices:
    """A namespace of the test's own."""
    return Slices(kubernetes_api.client(), kubernetes_api.new_namespace())


def test_every_change_is_a_row_and_a_warm_up_is_no_ready_replica(
    kubernetes_api: KubernetesApi, slices: Slices
) -> None:
    slices.put("service-chat", {"a": "ready", "b": "ready"})
    with following(kubernetes_api.settings) as watched:
        watched.until(lambda: watched.counts(slices.namespace) == [(2, 0, 0)])
        slices.put("service-chat", {"a": "ready", "b": "ready", "c": "starting"})
        watched.until(lambda: watched.counts(slices.namespace)[-1] == (2, 1, 0))
        slices.put("service-chat", {"a": "ready", "b": "draining", "c": "ready"})
        watched.until(lambda: watched.counts(slices.namespace)[-1] == (2, 0, 1))
        slices.put("service-chat", {"a": "ready", "c": "ready"})
        watched.until(lambda: watched.counts(slices.namespace)[-1] == (2, 0, 0))
    assert watched.counts(slices.namespace) == [(2, 0, 0), (2, 1, 0), (2, 0, 1), (2, 0, 0)]
    row = watched.task(slices.namespace)[-1]
    assert (row.id, row.workload) == (
        f"{slices.namespace}|chat|kubernetes",
        f"{slices.namespace}/service-chat",
    )
    assert [(replica.name, replica.address) for replica in row.replicas] == [
        ("a", "10.1.0.1:8080"),
        ("c", "10.1.0.2:8080"),
    ]


def test_a_deleted_service_has_one_row_without_replicas_and_then_none(
    kubernetes_api: KubernetesApi, slices: Slices
) -> None:
    slices.put("service-chat", {"a": "ready"})
    slices.put("service-chat", {"b": "ready"}, name="service-chat-2")
    with following(kubernetes_api.settings) as watched:
        watched.until(lambda: watched.counts(slices.namespace) == [(2, 0, 0)])
        slices.delete("service-chat")
        watched.until(lambda: watched.counts(slices.namespace)[-1] == (0, 0, 0))
        rows = len(watched.task(slices.namespace))
        watched.listen(4)
        assert len(watched.task(slices.namespace)) == rows
        slices.put("service-chat", {"a": "ready"}, name="service-chat-3")
        watched.until(lambda: watched.counts(slices.namespace)[-1] == (1, 0, 0))


def test_rows_come_again_while_the_api_proves_that_they_are_so(
    kubernetes_api: KubernetesApi, slices: Slices
) -> None:
    slices.put("service-chat", {"a": "ready"})
    with following(kubernetes_api.settings) as watched:
        watched.until(lambda: len(watched.task(slices.namespace)) >= 4)
    reported = [row.observed_at for row in watched.task(slices.namespace)]
    assert reported == sorted(set(reported))
    assert watched.counts(slices.namespace) == [(1, 0, 0)]


def test_a_version_that_the_api_has_forgotten_is_listed_anew(
    kubernetes_api: KubernetesApi, slices: Slices, own_stack: LocalStack
) -> None:
    slices.put("service-chat", {"a": "ready"})
    _kill(own_stack)  # what it remembers of changes begins anew
    own_stack.up([API_SERVER])

    class Outdated(Feed[Any]):
        """Its first list is as old as can be."""

        lists = 0

        def list_all(self) -> tuple[dict[str, Any], str]:
            objects, version = super().list_all()
            self.lists += 1
            return objects, version if self.lists > 1 else "1"

    news: SimpleQueue[FeedEvent] = SimpleQueue()
    feed = Outdated(
        kubernetes_api.client(), SLICES, news, request_seconds=2, watch_seconds=1, max_backoff_seconds=0.5
    )
    with pytest.raises(Expired):
        next(feed.watch("1"))
    feed.start()
    try:
        found = [news.get(timeout=LIMIT_SECONDS) for _ in range(2)]
        assert all(isinstance(one, Listed) for one in found)  # without being lost in between
        slices.put("service-chat", {"a": "ready", "b": "ready"})
        while not isinstance(found[-1], Changed):
            found.append(news.get(timeout=LIMIT_SECONDS))
        assert found[-1].key == f"{slices.namespace}/service-chat-1"
    finally:
        feed.close()


def test_a_list_of_several_pages_is_one_list(
    kubernetes_api: KubernetesApi, slices: Slices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.adapters.watching.list_watch._PAGE", 2)
    for number in range(5):
        slices.put(f"service-{number}", {"a": "ready"})
    news: SimpleQueue[FeedEvent] = SimpleQueue()
    feed = Feed(
        kubernetes_api.client(), SLICES, news, request_seconds=2, watch_seconds=1, max_backoff_seconds=0.5
    )
    objects, _ = feed.list_all()
    found = {one.service for one in objects.values() if one.namespace == slices.namespace}
    assert found == {f"service-{number}" for number in range(5)}


@pytest.mark.parametrize("crash", [True, False], ids=["killed", "ended"])
def test_while_the_api_server_is_down_nothing_is_reported_and_nothing_seems_to_leave(
    kubernetes_api: KubernetesApi, slices: Slices, own_stack: LocalStack, crash: bool
) -> None:
    slices.put("service-chat", {"a": "ready", "b": "ready"})
    slices.put("service-embed", {"e": "ready"})
    with following(kubernetes_api.settings) as watched:
        watched.until(lambda: watched.counts(slices.namespace) == [(2, 0, 0)])
        if crash:
            _kill(own_stack)
        else:
            own_stack.down([API_SERVER])
        watched.listen(0.5)  # what was on its way
        assert watched.listen(5) == []
        own_stack.up([API_SERVER])
        slices.put("service-chat", {"a": "ready"})
        slices.delete("service-embed")
        watched.until(lambda: watched.counts(slices.namespace)[-1] == (1, 0, 0))
        watched.until(lambda: watched.counts(slices.namespace, "embed")[-1] == (0, 0, 0))
    assert watched.counts(slices.namespace) == [(2, 0, 0), (1, 0, 0)]


@pytest.mark.parametrize("server", [API_SERVER, ETCD])
def test_an_api_that_hangs_or_has_lost_its_store_is_silence_too(
    kubernetes_api: KubernetesApi, slices: Slices, own_stack: LocalStack, server: str
) -> None:
    slices.put("service-chat", {"a": "ready"})
    (pid,) = [one.pid for one in own_stack.status() if one.name == server]
    assert pid is not None
    with following(kubernetes_api.settings) as watched:
        watched.until(lambda: watched.counts(slices.namespace) == [(1, 0, 0)])
        os.kill(pid, signal.SIGSTOP)
        try:
            watched.listen(2)  # a proof from just before
            assert watched.listen(6) == []
        finally:
            os.kill(pid, signal.SIGCONT)
        reported = len(watched.task(slices.namespace))
        watched.until(lambda: len(watched.task(slices.namespace)) > reported)
        slices.put("service-chat", {"a": "starting"})
        watched.until(lambda: watched.counts(slices.namespace)[-1] == (0, 1, 0))
    assert watched.counts(slices.namespace) == [(1, 0, 0), (0, 1, 0)]


def test_namespaces_come_and_go_by_the_selector_and_leaving_is_no_zero(
    kubernetes_api: KubernetesApi,
) -> None:
    mark = f"mark-{time.time_ns()}"
    inside, outside = (
        Slices(kubernetes_api.client(), kubernetes_api.new_namespace(labels)) for labels in ({mark: "on"}, {})
    )
    for one in (inside, outside):
        one.put("service-chat", {"a": "ready"})
    core = client.CoreV1Api(kubernetes_api.client())
    with following(kubernetes_api.settings, namespace_selector=f"{mark}=on") as watched:
        watched.until(lambda: watched.counts(inside.namespace) == [(1, 0, 0)])
        core.patch_namespace(outside.namespace, {"metadata": {"labels": {mark: "on"}}})
        watched.until(lambda: watched.counts(outside.namespace) == [(1, 0, 0)])
        core.patch_namespace(inside.namespace, {"metadata": {"labels": {mark: None}}})
        inside.put("service-chat", {"a": "ready", "b": "ready"})
        outside.put("service-chat", {"a": "ready", "b": "ready"})
        watched.until(lambda: watched.counts(outside.namespace)[-1] == (2, 0, 0))
        watched.listen(4)
        assert (0, 0, 0) not in watched.counts(inside.namespace)
        known = len(watched.task(inside.namespace))
        watched.listen(4)
        assert len(watched.task(inside.namespace)) == known
    assert {row.department for row in watched.rows if isinstance(row, ReplicasRow)} == {
        inside.namespace,
        outside.namespace,
    }


def test_a_service_that_is_not_selected_any_more_is_silent_and_one_that_is_deleted_is_zero(
    kubernetes_api: KubernetesApi, slices: Slices
) -> None:
    wanted = {"tier": f"t{time.time_ns()}"}
    for service in ("service-chat", "service-embed"):
        slices.put(service, {"a": "ready"}, labels=wanted)
    slices.put("service-other", {"o": "ready"})
    with following(kubernetes_api.settings, service_selector=f"tier={wanted['tier']}") as watched:
        watched.until(lambda: watched.counts(slices.namespace, "embed") == [(1, 0, 0)])
        slices.put("service-chat", {"a": "ready", "b": "ready"}, labels={})
        slices.delete("service-embed")
        watched.until(lambda: watched.counts(slices.namespace, "embed")[-1] == (0, 0, 0))
    assert watched.counts(slices.namespace, "chat") == [(1, 0, 0)]
    assert watched.counts(slices.namespace, "other") == []


def test_gateways_are_their_ready_pods_under_the_catalogs_names(
    kubernetes_api: KubernetesApi, tmp_path: Path
) -> None:
    namespace = kubernetes_api.new_namespace()
    api, core = kubernetes_api.client(), client.CoreV1Api(kubernetes_api.client())
    catalog = tmp_path / "tasks.yaml"
    catalog.write_text(f"gateways: {{edge: {{namespace: {namespace}}}}}\n")
    put_pod(api, namespace, "edge-1", {"istio": "edge"}, ready=True)
    put_pod(api, namespace, "edge-2", {"istio": "edge"}, ready=False)
    put_pod(api, namespace, "inner-1", {"app": "inner"}, ready=True)
    with following(kubernetes_api.settings, catalog) as watched:
        watched.until(lambda: watched.gateways("edge")[-1:] == [("edge-1",)])
        put_pod(api, namespace, "edge-2", {"istio": "edge"}, ready=True)
        watched.until(lambda: watched.gateways("edge")[-1:] == [("edge-1", "edge-2")])
        core.delete_namespaced_pod("edge-1", namespace, grace_period_seconds=0)
        watched.until(lambda: watched.gateways("edge")[-1:] == [("edge-2",)])
        catalog.write_text(
            f"gateways:\n  edge: {{namespace: {namespace}, labels: {{istio: none}}}}\n"
            f"  inner: {{namespace: {namespace}, labels: {{app: inner}}}}\n"
        )
        watched.until(lambda: watched.gateways("inner")[-1:] == [("inner-1",)])
        watched.until(lambda: watched.gateways("edge")[-1:] == [()])
        catalog.write_text("gateways: nonsense\n")
        watched.listen(0.5)
        watched.rows.clear()
        watched.until(
            lambda: watched.gateways("inner") == [("inner-1",)]
        )  # published again, of the last good catalog


def test_a_wrong_catalog_or_selector_is_a_clear_failure(
    kubernetes_api: KubernetesApi, tmp_path: Path
) -> None:
    catalog = tmp_path / "tasks.yaml"
    catalog.write_text("gateways: nonsense\n")
    with pytest.raises(CatalogError, match=r"tasks\.yaml: gateways"):
        KubernetesSource(settings(kubernetes_api.settings), source_of(catalog))
    with pytest.raises(
        SourceFailed, match=r"watcher.namespace_selector: 'a b' is not a valid label selector"
    ):
        KubernetesSource(settings(kubernetes_api.settings, namespace_selector="a b"), NoCatalog())
    with pytest.raises(SourceFailed, match=r"set kubernetes\.kubeconfig"):
        KubernetesSource(settings(Kubernetes(kubeconfig=tmp_path / "none")), NoCatalog())


def test_the_watchers_account_suffices_and_may_do_nothing_else(
    kubernetes_api: KubernetesApi, slices: Slices, tmp_path: Path
) -> None:
    core = client.CoreV1Api(kubernetes_api.client())
    if "tidegate" not in {namespace.metadata.name for namespace in core.list_namespace().items}:
        core.create_namespace({"metadata": {"name": "tidegate"}})
    kubernetes_api.apply(RBAC)
    as_watcher = kubernetes_api.settings_as("tidegate", "tidegate-watcher")
    catalog = tmp_path / "tasks.yaml"
    catalog.write_text(f"gateways: {{edge: {{namespace: {slices.namespace}}}}}\n")
    put_pod(kubernetes_api.client(), slices.namespace, "edge-1", {"istio": "edge"}, ready=True)
    slices.put("service-chat", {"a": "ready"})
    named = f"kubernetes.io/metadata.name={slices.namespace}"
    with following(as_watcher, catalog, namespace_selector=named) as watched:
        watched.until(lambda: watched.counts(slices.namespace) == [(1, 0, 0)])
        watched.until(lambda: watched.gateways("edge")[-1:] == [("edge-1",)])
    may = _permissions(kubernetes_api, connect(as_watcher))
    assert may == {
        (verb, group, resource)
        for verb in ("get", "list", "watch")
        for group, resource in (("discovery.k8s.io", "endpointslices"), ("", "namespaces"), ("", "pods"))
    }


def test_an_account_without_the_role_is_silent_until_it_has_it(
    kubernetes_api: KubernetesApi, slices: Slices, caplog: pytest.LogCaptureFixture
) -> None:
    api = kubernetes_api.client()
    client.CoreV1Api(api).create_namespaced_service_account(slices.namespace, {"metadata": {"name": "w"}})
    slices.put("service-chat", {"a": "ready"})
    with following(kubernetes_api.settings_as(slices.namespace, "w")) as watched:
        assert watched.listen(2) == []
        assert "403" in caplog.text
        assert "watcher-rbac.yaml" in caplog.text
        kubernetes_api.apply(RBAC)
        client.RbacAuthorizationV1Api(api).create_cluster_role_binding(
            {
                "metadata": {"name": slices.namespace},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "tidegate-watcher",
                },
                "subjects": [{"kind": "ServiceAccount", "name": "w", "namespace": slices.namespace}],
            }
        )
        watched.until(lambda: watched.counts(slices.namespace) == [(1, 0, 0)])


@pytest.fixture(scope="module")
def labelled(kubernetes_api: KubernetesApi) -> tuple[str, dict[str, dict[str, str]]]:
    """A namespace with objects, and the labels of each."""
    core = client.CoreV1Api(kubernetes_api.client())
    namespace = kubernetes_api.new_namespace()
    some: list[dict[str, str]] = [
        *({}, {"a": "1"}, {"a": "2"}, {"a": ""}),
        *({"a": "1", "b": "x"}, {"a": "2", "b": "x"}, {"b": "y"}, {"c.io/d": "e"}),
    ]
    found = {f"m{number}": labels for number, labels in enumerate(some)}
    for name, labels in found.items():
        core.create_namespaced_config_map(namespace, {"metadata": {"name": name, "labels": labels}})
    return namespace, found


@pytest.mark.parametrize(
    "selector",
    [
        "a",
        "!a",
        "a=1",
        "a==2",
        "a!=1",
        "a in (1, 2),b",
        "a notin (1),b=x",
        "a=",
        "b notin (x, y)",
        "c.io/d=e",
    ],
)
def test_a_selector_means_here_what_it_means_to_the_api(
    kubernetes_api: KubernetesApi, labelled: tuple[str, dict[str, dict[str, str]]], selector: str
) -> None:
    namespace, labels = labelled
    core = client.CoreV1Api(kubernetes_api.client())
    found = core.list_namespaced_config_map(namespace, label_selector=selector).items
    parsed = LabelSelector.parse(selector)
    assert {one.metadata.name for one in found} == {
        name for name, its in labels.items() if parsed.matches(its)
    }


def _permissions(kubernetes_api: KubernetesApi, api: client.ApiClient) -> set[tuple[str, str, str]]:
    """Every verb on every resource that this server has, as far as RBAC lets this account."""
    verbs = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
    may = set()
    admin = kubernetes_api.client()
    groups = client.ApisApi(admin).get_api_versions().groups
    lists = [("", client.CoreV1Api(admin).get_api_resources())]
    lists += [
        (group.name, client.CustomObjectsApi(admin).get_api_resources(group.name, version.version))
        for group in groups
        for version in group.versions
    ]
    for group, found in lists:
        for resource in found.resources:
            # Who may ask about himself is said by the API server's own roles, to everybody who is logged in.
            if group in {"authorization.k8s.io", "authentication.k8s.io"}:
                continue
            may |= {
                (verb, group, resource.name)
                for verb in verbs
                if kubernetes_api.allowed(api, verb, group, resource.name)
            }
    return may


def _kill(own_stack: LocalStack) -> None:
    """Kill the API server. Its last thread closes its port, so that it comes up at the same one."""
    (server,) = [server for server in own_stack.status() if server.name == API_SERVER]
    assert server.addresses is not None
    own_stack.kill(API_SERVER)
    until(lambda: is_free(int(server.addresses["url"].rpartition(":")[2])))
