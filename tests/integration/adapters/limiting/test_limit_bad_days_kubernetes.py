"""The limit controller while the Kubernetes API refuses, hangs, or lets others write the same object."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_proxy import Fault, KubernetesProxy, proxy_to
from tests.support.limit_bad_days import ready, started, states
from tests.support.limit_world import CHAT, GATEWAY, World
from tests.support.waiting import until
from tidegate.adapters.limiting.targets.kubernetes import KubernetesTarget
from tidegate.jobs.logic.istio.objects import ENVOY_FILTER
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.settings import Kafka

pytestmark = pytest.mark.timeout(240)


class InKubernetes:
    """A world whose gateway is an EnvoyFilter, reached through a proxy that spoils requests."""

    def __init__(self, api: KubernetesApi, kafka: Kafka, folder: Path, kubeconfig: Path) -> None:
        self.api = api
        self.namespace = api.new_namespace()
        self.world = World(
            kafka,
            folder,
            target="kubernetes",
            namespace=self.namespace,
            limits="raise_every_seconds = 1\nreconcile_seconds = 1\nmax_backoff_seconds = 4",
            more=f"[kubernetes]\nkubeconfig = {json.dumps(str(kubeconfig))}\nrequest_timeout_seconds = 1",
        )
        self.target = KubernetesTarget(api.settings, {GATEWAY: Gateway(namespace=self.namespace)})
        self.objects = client.CustomObjectsApi(api.client())
        self.kind = (ENVOY_FILTER.group, ENVOY_FILTER.version, self.namespace, ENVOY_FILTER.plural)
        self.name = f"tidegate-rate-limits-{GATEWAY}"

    def held(self) -> Limit | None:
        return self.target.read(GATEWAY).get(CHAT)

    def live(self) -> dict[str, Any]:
        found: dict[str, Any] = self.objects.get_namespaced_custom_object(*self.kind, self.name)
        return found


@pytest.fixture
def proxy(kubernetes_api: KubernetesApi, tmp_path: Path) -> Iterator[KubernetesProxy]:
    with proxy_to(kubernetes_api.admin, tmp_path, request_timeout_seconds=1) as one:
        yield one


@pytest.fixture
def istio(
    kubernetes_api: KubernetesApi, kafka: Kafka, tmp_path: Path, proxy: KubernetesProxy
) -> Iterator[InKubernetes]:
    assert proxy.settings.kubeconfig is not None
    one = InKubernetes(kubernetes_api, kafka, tmp_path, proxy.settings.kubeconfig)
    try:
        yield one
    finally:
        proxy.fault = "none"
        one.world.end()


@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        ("500", "500"),
        pytest.param("429", "429", marks=pytest.mark.slow),
        pytest.param("silent", "doesn't answer", marks=pytest.mark.slow),
        pytest.param("closed", "doesn't answer", marks=pytest.mark.slow),
    ],
)
def test_an_api_server_in_trouble_keeps_the_last_limit_and_gets_the_newest_cut_afterwards(
    istio: InKubernetes, proxy: KubernetesProxy, fault: Fault, reported: str
) -> None:
    world = istio.world
    started(world)
    uid = istio.live()["metadata"]["uid"]
    writes = len(proxy.writes)
    proxy.fault = fault
    world.change(3)
    until(lambda: states(world)[-1] == ("failed", 2), "it is reported")
    assert reported in world.rows()[-1].reason
    time.sleep(4)
    world.change(1)
    until(lambda: states(world)[-1] == ("failed", 3), "the newer one is reported too")
    time.sleep(4)
    tries = len(proxy.writes) - writes
    assert tries <= 10, "a storm"
    held = istio.held()
    assert held is not None
    assert (held.revision, held.bucket.qps) == (1, 40)
    assert states(world)[2:] == [("decided", 2), ("failed", 2), ("decided", 3), ("failed", 3)], "once each"
    proxy.fault = "none"
    world.until_applied(10)
    held = istio.held()
    assert held is not None
    assert (held.revision, held.bucket.qps) == (3, 10)
    assert istio.live()["metadata"]["uid"] == uid


def test_a_crash_while_the_api_server_hangs_is_applied_once_after_the_restart(
    istio: InKubernetes, proxy: KubernetesProxy
) -> None:
    world = istio.world
    first = started(world)
    proxy.fault = "silent"
    world.change(2)
    until(lambda: ("decided", 2) in states(world), "it is decided")
    first.kill()
    held = istio.held()
    assert held is not None
    assert held.revision == 1
    proxy.fault = "none"
    generation = istio.live()["metadata"]["generation"]
    world.controller()
    world.until_applied(20)
    held = istio.held()
    assert held is not None
    assert (held.revision, held.bucket.qps) == (2, 20)
    assert istio.live()["metadata"]["generation"] == generation + 1
    assert [state for state in states(world) if state[1] == 2 and state[0] != "failed"] == [
        ("decided", 2),
        ("applied", 2),
    ]


def test_other_writers_of_the_same_object_lose_nothing_and_hold_up_nothing(istio: InKubernetes) -> None:
    world = istio.world
    started(world)
    other = KubernetesTarget(istio.api.settings, {GATEWAY: Gateway(namespace=istio.namespace)})
    written: list[Limit] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            one = Limit(TaskKey("other", "task"), "task", len(written) + 1, TokenBucket(10, 10, 1000))
            other.write(GATEWAY, [one])
            written.append(one)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for replicas in range(20, 0, -1):
            world.change(replicas)
            time.sleep(0.1)
        world.until_applied(10)
    finally:
        stop.set()
        thread.join()
    found = istio.target.read(GATEWAY)
    assert found[CHAT].bucket.qps == 10
    assert found[TaskKey("other", "task")] == written[-1]
    assert len(written) > 5


def test_no_right_to_the_object_is_reported_once_and_the_limit_comes_with_the_right(
    kubernetes_api: KubernetesApi, kafka: Kafka, tmp_path: Path
) -> None:
    account_namespace = kubernetes_api.new_namespace()
    core = client.CoreV1Api(kubernetes_api.client())
    core.create_namespaced_service_account(account_namespace, {"metadata": {"name": "limit"}})
    kubeconfig = kubernetes_api.settings_as(account_namespace, "limit").kubeconfig
    assert kubeconfig is not None
    istio = InKubernetes(kubernetes_api, kafka, tmp_path, kubeconfig)
    world = istio.world
    try:
        ready(world)
        world.controller()
        until(lambda: states(world) == [("failed", 0)], "it is reported")
        assert "403" in world.rows()[0].reason
        time.sleep(4)
        assert states(world) == [("failed", 0)]
        allow(kubernetes_api, istio.namespace, account_namespace)
        world.until_applied(40)
    finally:
        world.end()


def allow(api: KubernetesApi, namespace: str, account_namespace: str) -> None:
    rbac = client.RbacAuthorizationV1Api(api.client())
    rule = {
        "apiGroups": [ENVOY_FILTER.group],
        "resources": [ENVOY_FILTER.plural],
        "verbs": ["get", "create", "patch"],
    }
    rbac.create_namespaced_role(namespace, {"metadata": {"name": "limit"}, "rules": [rule]})
    rbac.create_namespaced_role_binding(
        namespace,
        {
            "metadata": {"name": "limit"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "limit"},
            "subjects": [{"kind": "ServiceAccount", "name": "limit", "namespace": account_namespace}],
        },
    )


def test_an_envoyfilter_that_is_not_ours_is_reported_once_and_not_touched(istio: InKubernetes) -> None:
    world = istio.world
    theirs = {
        "apiVersion": ENVOY_FILTER.api_version,
        "kind": ENVOY_FILTER.kind,
        "metadata": {"name": istio.name},
        "spec": {"configPatches": []},
    }
    version = istio.objects.create_namespaced_custom_object(*istio.kind, theirs)["metadata"][
        "resourceVersion"
    ]
    ready(world)
    world.controller()
    until(lambda: states(world) == [("failed", 0)], "it is reported")
    assert "isn't tidegate's" in world.rows()[0].reason
    time.sleep(4)
    assert states(world) == [("failed", 0)]
    assert istio.live()["metadata"]["resourceVersion"] == version
    istio.objects.delete_namespaced_custom_object(*istio.kind, istio.name)
    world.until_applied(40)
