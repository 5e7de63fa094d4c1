"""The controller's bad days on real parts: Kafka, files, the Kubernetes API, sources and Envoys fail and come back."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import client

from benchmarks.limits import measure, report, task_names
from benchmarks.loop import Load
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_proxy import Fault, KubernetesProxy, proxy_to
from tests.support.limit_world import CHAT, GATEWAY, Caller, Controller, Envoys, World, ask, envoys, routes_of
from tests.support.waiting import until
from tidegate.adapters.limiting.targets.file import EnvoyFileTarget
from tidegate.adapters.limiting.targets.kubernetes import KubernetesTarget
from tidegate.demo.envoy_config import replace
from tidegate.jobs.logic.istio.objects import ENVOY_FILTER
from tidegate.jobs.logic.limits.envoy_limits import FILTER, Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.settings import Kafka, Settings, Stack
from tidegate.stack.kafka import KafkaServer
from tidegate.stack.local import LocalStack

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def world(kafka: Kafka, tmp_path: Path) -> Iterator[World]:
    """One task behind a route file that no Envoy reads; nothing said yet."""
    one = World(kafka, tmp_path)
    try:
        yield one
    finally:
        one.end()


def ready(world: World, replicas: int = 4, gateways: int = 1) -> None:
    world.alive(gateways, replicas)
    for task in world.tasks:
        world.change(replicas, task)


def started(world: World, qps: float = 40) -> Controller:
    """A controller whose first limit is in force."""
    ready(world)
    controller = world.controller()
    world.until_applied(qps)
    return controller


def states(world: World) -> list[tuple[str, int]]:
    return [(row.state, row.revision) for row in world.rows()]


def routes(world: World) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(world.routes.read_text())
    return content


def first_route(content: dict[str, Any]) -> dict[str, Any]:
    route: dict[str, Any] = content["resources"][0]["virtual_hosts"][0]["routes"][0]
    return route


# Kafka


@pytest.fixture
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A broker that a test may kill."""
    settings = Settings(stack=Stack(state_dir=tmp_path_factory.mktemp("broker"), start_timeout_seconds=240))
    stack = LocalStack(settings, [KafkaServer(settings)])
    try:
        stack.up()
        yield stack
    finally:
        stack.down()


def test_kafka_away_leaves_the_limits_alone_and_loses_nothing(
    own_kafka: LocalStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(own_kafka.settings.kafka, tmp_path)
    try:
        controller = started(world)
        own_kafka.kill("kafka")
        edited = routes(world)
        first_route(edited)["typed_per_filter_config"][FILTER]["token_bucket"]["max_tokens"] = 999
        replace(world.routes, edited)
        process = psutil.Process(controller.pid)
        before = sum(process.cpu_times()[:2])
        time.sleep(10)
        used = sum(process.cpu_times()[:2]) - before
        with capsys.disabled():
            print(f"\nKafka away for 10 s: the controller used {used:.2f} s of a core")  # noqa: T201
        assert used < 5, "it goes round and round"
        limit = world.in_file()
        assert limit is not None
        assert (limit.revision, limit.bucket.max_tokens) == (1, 999), "what can't be told isn't made"
        own_kafka.up(["kafka"])
        until(lambda: world.in_file() != limit, "the edit is put right")
        world.alive()
        world.change(2)
        world.until_applied(20)
        assert states(world) == [
            *(("decided", 1), ("applied", 1)),
            *(("decided", 2), ("applied", 2)),
            *(("decided", 3), ("applied", 3)),
        ]
        assert "drift: somebody had changed the limit" in world.rows()[3].reason
        assert controller.process.poll() is None
    finally:
        world.end()


@pytest.mark.slow
def test_a_controller_ends_when_told_to_though_kafka_is_away(own_kafka: LocalStack, tmp_path: Path) -> None:
    world = World(own_kafka.settings.kafka, tmp_path)
    try:
        first = started(world)
        own_kafka.kill("kafka")
        time.sleep(1)
        assert first.end(20) == 0
        assert world.qps_in_file() == 40
        own_kafka.up(["kafka"])
        second = world.controller()
        own_kafka.kill("kafka")
        time.sleep(9)  # its place in the group is lost by now
        assert second.end(20) == 0
    finally:
        world.end()


# The route file


def test_a_file_that_is_not_there_is_told_once_and_gets_its_limit_when_it_comes(world: World) -> None:
    content = routes(world)
    world.routes.unlink()
    ready(world)
    world.controller()
    until(lambda: states(world) == [("failed", 0)], "it is told")
    (failed,) = world.rows()
    assert f"{world.routes}: can't be read" in failed.reason
    assert failed.limit_qps is None
    time.sleep(3)
    assert states(world) == [("failed", 0)], "and not again with each try"
    replace(world.routes, content)
    world.until_applied(40)
    assert states(world)[1:] == [("decided", 1), ("applied", 1)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "can't be read"),
        ("{", "can't be read"),
        ("[]", "not a route configuration"),
        ('{"resources": {"a": 1}}', "not a route configuration"),
        ('{"resources": []}', "no route named 'chat'"),
    ],
)
def test_a_file_that_is_gone_or_broken_is_left_as_it_is_and_told_once(
    world: World, content: str | None, told: str
) -> None:
    started(world)
    good = routes(world)
    if content is None:
        world.routes.unlink()
    else:
        draft = world.routes.with_name("draft")
        draft.write_text(content)
        draft.replace(world.routes)
    world.change(2)
    until(lambda: states(world)[-1] == ("failed", 2), "it is told")
    assert told in world.rows()[-1].reason
    time.sleep(3)
    assert states(world).count(("failed", 2)) == 1
    assert (world.routes.read_text() if world.routes.exists() else None) == content
    replace(world.routes, good)
    world.until_applied(20, timeout_seconds=40)
    assert world.qps_in_file() == 20


def test_a_route_that_is_not_there_is_told_and_the_others_get_their_limits(
    kafka: Kafka, tmp_path: Path
) -> None:
    world = World(kafka, tmp_path, {"chat": "qps_per_replica: 10", "ocr": "qps_per_replica: 10"})
    try:
        replace(world.routes, routes_of(["chat"]))
        started(world)
        until(lambda: bool(world.rows("ocr")) and world.rows("ocr")[-1].state == "failed", "ocr is told")
        assert "the file has no route named 'ocr'" in world.rows("ocr")[-1].reason
        with_ocr = routes(world)
        with_ocr["resources"][0]["virtual_hosts"][0]["routes"] += routes_of(["ocr"])["resources"][0][
            "virtual_hosts"
        ][0]["routes"]
        replace(world.routes, with_ocr)
        world.until_applied(40, "ocr")
        assert [row.state for row in world.rows("ocr")] == ["decided", "failed", "applied"]
    finally:
        world.end()


def test_a_push_to_a_route_that_is_not_there_goes_to_the_right_one_when_the_catalog_says_so(
    world: World,
) -> None:
    world.write_catalog({"chat": "qps_per_replica: 10, route: wrong"})
    ready(world)
    world.controller()
    until(lambda: bool(world.rows()) and world.rows()[-1].state == "failed", "it is told")
    world.write_catalog({"chat": "qps_per_replica: 10"})
    world.until_applied(40)
    limit = world.in_file()
    assert limit is not None
    assert limit.route == "chat"
    assert "route is now 'chat'" in world.rows()[-1].reason


def test_what_the_platform_writes_stays_and_our_limit_comes_back(world: World) -> None:
    started(world)
    theirs = routes_of(["chat", "another"])
    first_route(theirs)["direct_response"]["status"] = 203
    first_route(theirs)["typed_per_filter_config"] = {"envoy.filters.http.other": {"@type": "x", "a": 1}}
    first_route(theirs)["metadata"] = {"filter_metadata": {"platform": {"team": "vision"}}}
    replace(world.routes, theirs)
    until(lambda: states(world)[-1] == ("applied", 2), "it is put right")
    assert "drift: the limit of revision 1 was gone" in world.rows()[-1].reason
    assert world.qps_in_file() == 40
    now = routes(world)
    route = first_route(now)
    del route["typed_per_filter_config"][FILTER]
    del route["metadata"]["filter_metadata"]["tidegate"]
    assert now == theirs


def test_a_limit_that_somebody_has_edited_is_put_right_and_told(world: World) -> None:
    started(world)
    edited = routes(world)
    first_route(edited)["typed_per_filter_config"][FILTER]["token_bucket"]["max_tokens"] = 999
    replace(world.routes, edited)
    until(lambda: states(world)[-1] == ("applied", 2), "it is put right")
    limit = world.in_file()
    assert limit is not None
    assert limit.bucket.max_tokens == 40
    assert "somebody had changed the limit to 40 qps, burst 999" in world.rows()[-1].reason
    time.sleep(2.5)
    assert states(world)[-1] == ("applied", 2), "once"


def test_a_cut_over_an_edit_tells_of_both(world: World) -> None:
    started(world)
    world.limits += "\n"
    edited = routes(world)
    first_route(edited)["typed_per_filter_config"][FILTER]["token_bucket"]["max_tokens"] = 999
    world.control(paused=True)
    until(lambda: states(world)[-1][0] == "held", "paused")
    replace(world.routes, edited)
    time.sleep(2.5)
    assert states(world)[-1][0] == "held", "a pause is a pause"
    world.change(2)
    world.control(paused=False)
    world.until_applied(20)
    assert "cut from 40 to 20" in world.rows()[-1].reason
    assert "drift: somebody had changed the limit" in world.rows()[-1].reason


# Silence


@pytest.mark.slow
def test_a_silent_source_holds_the_limit_and_when_it_speaks_again_it_goes_on(
    kafka: Kafka, tmp_path: Path
) -> None:
    world = World(kafka, tmp_path, limits="silent_seconds = 3\nraise_every_seconds = 1")
    try:
        controller = started(world)
        until(lambda: states(world)[-1] == ("held", 1), "the silence is told")
        held = world.rows()[-1]
        assert held.limit_qps == 40
        assert "has been silent since" in held.reason
        world.change(8)
        time.sleep(3)
        assert world.qps_in_file() == 40, "nothing rises in silence"
        assert states(world).count(("held", 1)) == 1
        controller.kill()
        world.controller()
        time.sleep(5)
        assert world.qps_in_file() == 40
        current = world.current()
        assert current is not None
        assert current.state == "held"
        world.alive(replicas=8)
        world.until_applied(80)
        assert {limit for _, _, limit in world.told()} == {40, 80}, "never lower, never zero"
    finally:
        world.end()


def test_the_newest_row_is_not_held_any_longer_when_the_silence_is_over(kafka: Kafka, tmp_path: Path) -> None:
    world = World(kafka, tmp_path, limits="silent_seconds = 4")
    try:
        started(world)
        until(lambda: states(world)[-1] == ("held", 1), "the silence is told")
        before = world.rows()[1]
        world.alive()
        until(lambda: states(world)[-1] == ("applied", 1), "the end of it is told")
        assert world.rows()[-1] == before, "the same row again, so that its document stays one"
        newest = before.model_copy(update={"id": "vision/chat"})
        # It goes on speaking, or it would soon be silent again.
        until(lambda: world.current() == newest, "the newest row says so too", step=world.alive)
    finally:
        world.end()


# The Kubernetes API


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
    ("fault", "told"),
    [
        ("500", "500"),
        pytest.param("429", "429", marks=pytest.mark.slow),
        pytest.param("silent", "doesn't answer", marks=pytest.mark.slow),
        pytest.param("closed", "doesn't answer", marks=pytest.mark.slow),
    ],
)
def test_an_api_server_in_trouble_keeps_the_last_limit_and_gets_the_newest_cut_afterwards(
    istio: InKubernetes, proxy: KubernetesProxy, fault: Fault, told: str
) -> None:
    world = istio.world
    started(world)
    uid = istio.live()["metadata"]["uid"]
    writes = len(proxy.writes)
    proxy.fault = fault
    world.change(3)
    until(lambda: states(world)[-1] == ("failed", 2), "it is told")
    assert told in world.rows()[-1].reason
    time.sleep(4)
    world.change(1)
    until(lambda: states(world)[-1] == ("failed", 3), "the newer one is told too")
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


def test_no_right_to_the_object_is_told_once_and_the_limit_comes_with_the_right(
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
        until(lambda: states(world) == [("failed", 0)], "it is told")
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


def test_an_envoyfilter_that_is_not_ours_is_told_once_and_not_touched(istio: InKubernetes) -> None:
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
    until(lambda: states(world) == [("failed", 0)], "it is told")
    assert "isn't tidegate's" in world.rows()[0].reason
    time.sleep(4)
    assert states(world) == [("failed", 0)]
    assert istio.live()["metadata"]["resourceVersion"] == version
    istio.objects.delete_namespaced_custom_object(*istio.kind, istio.name)
    world.until_applied(40)


# Envoys


@pytest.fixture
def gateway(kafka: Kafka, tmp_path: Path) -> Iterator[tuple[World, Envoys]]:
    """A world with one real Envoy that reads its route file, and is read back."""
    world = World(kafka, tmp_path, {"chat": "qps_per_replica: 10", "ocr": "qps_per_replica: 10"})
    with envoys(tmp_path / "envoys", world.routes, "envoy-a") as running:
        world.admins = running.admins()
        try:
            yield world, running
        finally:
            world.end()


def in_force(running: Envoys, *names: str) -> float | None:
    admins = tuple(f"127.0.0.1:{running.port(name, 'admin')}" for name in names or running.names)
    limit = EnvoyFileTarget({}, {GATEWAY: admins}).read(GATEWAY).get(CHAT)
    return None if limit is None else round(limit.bucket.qps, 6)


def test_an_envoy_that_restarts_comes_back_with_its_limit_and_nothing_is_pushed(
    gateway: tuple[World, Envoys],
) -> None:
    world, running = gateway
    started(world)
    running.stack.kill("envoy-a")
    time.sleep(2.5)  # it is looked at, and found away
    running.stack.up(["envoy-a"])
    assert in_force(running) == 40
    time.sleep(2.5)
    assert states(world) == [("decided", 1), ("applied", 1)]
    with Load(running.ports(), qps=80) as load:
        time.sleep(6)
        now = time.time()
    assert load.admitted_qps(now - 4, now) == pytest.approx(40, rel=0.05)


def test_two_envoys_share_the_limit_and_a_hung_one_holds_up_nothing(kafka: Kafka, tmp_path: Path) -> None:
    world = World(kafka, tmp_path)
    with envoys(tmp_path / "envoys", world.routes, "envoy-a", "envoy-b") as running:
        world.admins = running.admins()
        try:
            started(world)
            assert in_force(running) == 40
            world.alive(gateways=2)
            until(lambda: in_force(running) == 20, "each has its half")
            with Load(running.ports(), qps=80) as load:
                time.sleep(8)
                now = time.time()
            admitted = load.admitted_qps(now - 5, now)
            assert admitted == pytest.approx(40, rel=0.05)

            psutil.Process(running.pid("envoy-b")).suspend()
            world.change(2)
            world.until_applied(20)
            assert in_force(running, "envoy-a") == 10
            psutil.Process(running.pid("envoy-b")).resume()
            until(lambda: in_force(running, "envoy-b") == 10, "the hung one has it too")
            time.sleep(2.5)
            pushes = [row for row in world.rows() if row.state == "decided"]
            assert [row.limit_qps_per_gateway for row in pushes] == [40, 20, 10]

            running.stack.kill("envoy-b")
            world.alive(gateways=1)
            world.until_applied(20)
            until(lambda: in_force(running, "envoy-a") == 20, "the other one has it all")
        finally:
            world.end()


def test_a_change_of_one_route_fills_the_buckets_of_all(gateway: tuple[World, Envoys]) -> None:
    """Why raises go together (docs/decisions/every-push-refills-the-buckets.md)."""
    world, running = gateway
    started(world)
    world.until_applied(40, "ocr")
    time.sleep(1.5)
    (port,) = running.ports()
    drained = burst(port)
    still_empty = burst(port, most=20)
    world.change(2, "ocr")
    world.until_applied(20, "ocr")
    refilled = burst(port)
    assert drained >= 40
    assert still_empty < 10
    assert refilled >= 40, "chat's own limit was not changed"


def burst(port: int, most: int = 200) -> int:
    """How many of these requests in a row are admitted."""
    return sum(ask(port, {}) == 200 for _ in range(most))


def test_a_task_whose_route_changes_has_its_limit_on_the_new_one(gateway: tuple[World, Envoys]) -> None:
    world, _running = gateway
    started(world)
    content = routes_of(["chat-2", "chat", "ocr"])
    old = routes(world)["resources"][0]["virtual_hosts"][0]["routes"]
    content["resources"][0]["virtual_hosts"][0]["routes"][1:] = old
    for order in (1, -1):  # the new one before the old one, and after it
        moved = copy.deepcopy(content)
        moved["resources"][0]["virtual_hosts"][0]["routes"] = content["resources"][0]["virtual_hosts"][0][
            "routes"
        ][::order]
        replace(world.routes, moved)
        time.sleep(0.5)
        name = "chat-2" if order == 1 else "chat"
        world.write_catalog({"chat": f"qps_per_replica: 10, route: {name}", "ocr": "qps_per_replica: 10"})
        until(lambda name=name: world.rows()[-1].reason == f"route is now '{name}'", "it is told")  # type: ignore[misc]
        until(lambda: world.rows()[-1].state == "applied", "it is in force")
        limit = world.in_file()
        assert limit is not None
        assert limit.route == name
        content = routes(world)


# Many at once


@pytest.mark.timeout(600)
def test_a_thousand_tasks_that_change_at_once_all_get_their_limits_and_cuts_dont_wait_for_raises(
    kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are those of `python -m benchmarks.limits`; here it is what comes of it that counts."""
    world = World(kafka, tmp_path, task_names(1000), limits="")
    with envoys(tmp_path / "envoys", world.routes, "envoy-a") as running:
        world.admins = running.admins()
        target = EnvoyFileTarget({GATEWAY: world.routes}, {GATEWAY: world.admins})
        try:
            measured = measure(world, target)
            rows = world.all_rows()
        finally:
            world.end()
    with capsys.disabled():
        print("", *report("file", measured), sep="\n")  # noqa: T201 (figures for people)
    assert measured.last_cut_seconds <= measured.last_raise_seconds
    assert measured.revisions == 2000, "one push a task and change"
    assert {row.state for row in rows} == {"decided", "applied"}
    assert len(rows) == 4000


# Clients


CLIENTS = "qps_per_replica: 10, clients: {limit_qps: 15, named: {greedy: 5, batch: 30}}"


@pytest.mark.slow
def test_a_greedy_client_is_refused_at_its_own_rate_and_the_others_get_through(
    kafka: Kafka, tmp_path: Path
) -> None:
    world = World(kafka, tmp_path, {"chat": CLIENTS})
    with envoys(tmp_path / "envoys", world.routes, "envoy-a") as running:
        world.admins = running.admins()
        try:
            started(world)
            (port,) = running.ports()
            with (
                Caller(port, 100, {"x-client-id": "greedy"}) as greedy,
                Caller(port, 12, {"x-client-id": "anna"}) as anna,
                Caller(port, 60, {"x-client-id": "bert"}) as bert,
            ):
                time.sleep(7)
                end = time.monotonic()
            begin = end - 4
            # 5 + 12 + 15 are below the task's 40: each gets all of its own, and the refused take none of it.
            assert greedy.qps(200, begin, end) == pytest.approx(5, abs=0.6)
            assert greedy.qps(429, begin, end) > 50
            assert anna.qps(429, begin, end) == 0
            assert bert.qps(200, begin, end) == pytest.approx(15, rel=0.1)

            # The header is what a client says of itself: who says another's name has that one's bucket, and who
            # says none has only the task's.
            with (
                Caller(port, 20, {"x-client-id": "greedy"}) as liar,
                Caller(port, 20, {"x-client-id": "greedy"}) as greedy,
                Caller(port, 20, {}) as nameless,
            ):
                time.sleep(6)
                end = time.monotonic()
            begin = end - 4
            together = liar.qps(200, begin, end) + greedy.qps(200, begin, end)
            assert together == pytest.approx(5, abs=0.6)
            assert nameless.qps(429, begin, end) == 0

            with (
                Caller(port, 60, {"x-client-id": "batch"}) as batch,
                Caller(port, 60, {}) as nameless,
            ):
                time.sleep(6)
                end = time.monotonic()
            begin = end - 4
            both = batch.qps(200, begin, end) + nameless.qps(200, begin, end)
            assert both == pytest.approx(40, rel=0.06), "all together stay within the task's limit"
        finally:
            world.end()
