"""The target kubernetes on a real API server: one EnvoyFilter a gateway, patched, fenced, and nobody else's."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from kubernetes import client

from tests.support.kubernetes_accounts import RESOURCES, VERBS, namespaces
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_proxy import Fault, KubernetesProxy, proxy_to
from tests.support.waiting import until
from tidegate.adapters.kubernetes.envoy_filters import MOST_BYTES, EnvoyFilters
from tidegate.adapters.kubernetes.errors import ApiFailed, Failure
from tidegate.adapters.kubernetes.objects import KubernetesObjects
from tidegate.adapters.limiting.targets.base import Target, TargetFailed
from tidegate.adapters.limiting.targets.kubernetes import KubernetesTarget
from tidegate.jobs.logic.istio.objects import ENVOY_FILTER, replacing
from tidegate.jobs.logic.istio.rate_limits import GatewayPlace, envoy_filter, listener_patch, put
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.settings.limits import Kubernetes
from tidegate.stack.kubernetes_api import API_SERVER
from tidegate.stack.local import LocalStack
from tidegate.stack.ports import is_free

GATEWAY = "vision-gateway"
NAME = f"tidegate-rate-limits-{GATEWAY}"


def limit(task: str = "chat", revision: int = 1, qps: int = 10) -> Limit:
    return Limit(TaskKey("vision", task), task, revision, TokenBucket(2 * qps, qps, 1000))


class World:
    """A namespace of its own with a gateway in it, and an administrator's hands."""

    def __init__(self, api: KubernetesApi, namespace: str = "") -> None:
        self.api = api
        self.namespace = namespace or api.new_namespace()
        self.gateways = {GATEWAY: Gateway(namespace=self.namespace)}
        self.place = GatewayPlace(GATEWAY, self.namespace, {"istio": GATEWAY})
        self.objects = client.CustomObjectsApi(api.client())
        self.target = KubernetesTarget(api.settings, self.gateways)

    def through(self, settings: Kubernetes) -> KubernetesTarget:
        """Another writer of the same gateway."""
        return KubernetesTarget(settings, self.gateways)

    def all(self) -> list[dict[str, Any]]:
        """Every EnvoyFilter of the namespace."""
        found = self.objects.list_namespaced_custom_object(*self._kind)
        items: list[dict[str, Any]] = found["items"]
        return items

    def live(self) -> dict[str, Any]:
        """The gateway's one."""
        (only,) = self.all()
        return only

    def create(self, body: dict[str, Any]) -> None:
        self.objects.create_namespaced_custom_object(*self._kind, body)

    def edit(self, body: dict[str, Any]) -> None:
        """As `kubectl edit` does it."""
        self.objects.replace_namespaced_custom_object(*self._kind, NAME, body, field_manager="kubectl-edit")

    def remove(self) -> None:
        self.objects.delete_namespaced_custom_object(*self._kind, NAME)

    @property
    def _kind(self) -> tuple[str, str, str, str]:
        return ENVOY_FILTER.group, ENVOY_FILTER.version, self.namespace, ENVOY_FILTER.plural


@pytest.fixture
def world(kubernetes_api: KubernetesApi) -> World:
    return World(kubernetes_api)


@pytest.fixture
def proxy(kubernetes_api: KubernetesApi, tmp_path: Path) -> Iterator[KubernetesProxy]:
    with proxy_to(kubernetes_api.admin, tmp_path, request_timeout_seconds=1) as one:
        yield one


def config_patches(live: dict[str, Any]) -> list[dict[str, Any]]:
    patches: list[dict[str, Any]] = live["spec"]["configPatches"]
    return patches


def failure_of(error: TargetFailed) -> Failure:
    """The kind of the API server's failure behind the target's."""
    assert isinstance(error.__cause__, ApiFailed)
    return error.__cause__.failure


def test_a_gateway_without_an_object_holds_nothing_and_the_first_write_makes_one(world: World) -> None:
    target: Target = world.target
    assert target.read(GATEWAY) == {}
    assert target.write(GATEWAY, [limit("chat"), limit("embed")]) == {}
    assert target.read(GATEWAY) == {one.key: one for one in (limit("chat"), limit("embed"))}
    assert world.live()["metadata"]["name"] == NAME


def test_after_many_changes_there_is_one_object_with_the_same_uid_and_listener_part(world: World) -> None:
    world.target.write(GATEWAY, [limit(task) for task in ("chat", "embed", "rank")])
    first = world.live()
    for revision in range(2, 31):
        task = ("chat", "embed", "rank")[revision % 3]
        before = config_patches(world.live())
        world.target.write(GATEWAY, [limit(task, revision, qps=revision)])
        after = config_patches(world.live())
        changed = [
            new["match"]["routeConfiguration"]["vhost"]["route"]["name"]
            for old, new in zip(before, after, strict=True)
            if old != new
        ]
        assert changed == [task]
    last = world.live()
    assert last["metadata"]["uid"] == first["metadata"]["uid"]
    assert last["metadata"]["creationTimestamp"] == first["metadata"]["creationTimestamp"]
    assert orjson.dumps(config_patches(last)[0]) == orjson.dumps(config_patches(first)[0])
    assert config_patches(last)[0] == listener_patch()
    managers = {(entry["manager"], entry["operation"]) for entry in last["metadata"]["managedFields"]}
    assert managers == {("tidegate", "Apply")}


def test_what_stands_there_already_is_not_written(world: World, proxy: KubernetesProxy) -> None:
    world.target.write(GATEWAY, [limit("chat"), limit("embed")])
    version = world.live()["metadata"]["resourceVersion"]
    assert world.through(proxy.settings).write(GATEWAY, [limit("embed"), limit("chat")]) == {}
    assert proxy.writes == []
    assert world.live()["metadata"]["resourceVersion"] == version


def test_an_older_revision_is_refused_with_the_newer_and_the_others_are_taken(world: World) -> None:
    world.target.write(GATEWAY, [limit("chat", 5)])
    refused = world.target.write(GATEWAY, [limit("chat", 4, qps=1), limit("embed", 1)])
    assert refused[TaskKey("vision", "chat")].revision == 5
    assert "newer than 4" in refused[TaskKey("vision", "chat")].reason
    assert set(refused) == {TaskKey("vision", "chat")}
    assert world.target.read(GATEWAY) == {one.key: one for one in (limit("chat", 5), limit("embed", 1))}


def test_two_writers_at_once_lose_nothing_and_nothing_older_wins(world: World) -> None:
    shared = [limit("shared", revision, qps=revision) for revision in range(1, 21)]

    def write_all(writer: int) -> None:
        target = world.through(world.api.settings)
        for number, one in enumerate(shared):
            if number % 2 == writer:
                target.write(GATEWAY, [one, limit(f"own-{writer}-{number}")])

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(write_all, writer) for writer in (0, 1)]:
            done.result()
    held = world.target.read(GATEWAY)
    assert held[TaskKey("vision", "shared")] == shared[-1]
    assert {key.task for key in held} == {"shared"} | {f"own-{n % 2}-{n}" for n in range(20)}
    assert len(world.all()) == 1


def test_two_writers_that_both_make_the_object_lose_nothing(world: World) -> None:
    with ThreadPoolExecutor(8) as threads:
        writes = [
            threads.submit(world.through(world.api.settings).write, GATEWAY, [limit(f"task-{number}")])
            for number in range(8)
        ]
        for done in writes:
            done.result()
    assert {key.task for key in world.target.read(GATEWAY)} == {f"task-{number}" for number in range(8)}


def test_a_stale_write_is_a_conflict_also_after_the_object_was_made_anew(world: World) -> None:
    objects = KubernetesObjects(world.api.settings)
    world.target.write(GATEWAY, [limit("chat", 1)])
    seen = world.live()
    stale = replacing(envoy_filter(world.place, put(seen, world.place, [limit("chat", 2)]).patches), seen)
    world.remove()
    with pytest.raises(ApiFailed) as gone:
        objects.replace(ENVOY_FILTER, stale)
    assert gone.value.failure == "conflict"
    world.target.write(GATEWAY, [limit("chat", 9)])
    with pytest.raises(ApiFailed) as another:
        objects.replace(ENVOY_FILTER, stale)
    assert another.value.failure == "conflict"
    assert world.target.read(GATEWAY)[TaskKey("vision", "chat")].revision == 9


def test_an_edit_by_somebody_else_shows_and_is_put_right(world: World) -> None:
    world.target.write(GATEWAY, [limit("chat", 3), limit("embed", 1)])
    edited = world.live()
    value = config_patches(edited)[1]["patch"]["value"]
    value["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]["token_bucket"]["max_tokens"] = (
        5000
    )
    world.edit(edited)
    assert world.target.read(GATEWAY)[TaskKey("vision", "chat")].bucket.max_tokens == 5000
    assert world.target.write(GATEWAY, [limit("chat", 4)]) == {}
    assert world.target.read(GATEWAY) == {one.key: one for one in (limit("chat", 4), limit("embed", 1))}
    assert world.live()["metadata"]["uid"] == edited["metadata"]["uid"]


def test_a_removed_listener_part_is_no_limit_and_is_put_right(world: World) -> None:
    world.target.write(GATEWAY, [limit("chat", 3)])
    edited = world.live()
    del config_patches(edited)[0]
    world.edit(edited)
    assert world.target.read(GATEWAY) == {}
    assert world.target.write(GATEWAY, [limit("chat", 3)]) == {}
    assert config_patches(world.live())[0] == listener_patch()
    assert world.target.read(GATEWAY) == {limit().key: limit("chat", 3)}


def test_what_others_have_added_beside_ours_stays(world: World) -> None:
    world.target.write(GATEWAY, [limit("chat", 1)])
    edited = world.live()
    edited["metadata"].setdefault("annotations", {})["team"] = "vision"
    edited["spec"]["priority"] = 10
    world.edit(edited)
    world.target.write(GATEWAY, [limit("chat", 2)])
    assert world.live()["metadata"]["annotations"]["team"] == "vision"
    assert world.live()["spec"]["priority"] == 10
    assert world.target.read(GATEWAY) == {limit().key: limit("chat", 2)}


def test_changed_labels_of_a_gateway_select_its_pods_anew(world: World) -> None:
    world.target.write(GATEWAY, [limit("chat", 1)])
    world.target.use_gateways({GATEWAY: Gateway(namespace=world.namespace, labels={"app": "edge"})})
    assert world.target.read(GATEWAY) == {}
    world.target.write(GATEWAY, [limit("chat", 1)])
    assert world.live()["spec"]["workloadSelector"]["labels"] == {"app": "edge"}
    assert world.target.read(GATEWAY) == {limit().key: limit("chat", 1)}


def test_an_envoyfilter_that_is_not_ours_is_not_touched(world: World) -> None:
    theirs = {
        "apiVersion": ENVOY_FILTER.api_version,
        "kind": ENVOY_FILTER.kind,
        "metadata": {"name": NAME, "labels": {"app.kubernetes.io/managed-by": "Helm"}},
        "spec": {"configPatches": []},
    }
    world.create(theirs)
    version = world.live()["metadata"]["resourceVersion"]
    for call in (world.target.read, lambda gateway: world.target.write(gateway, [limit()])):
        with pytest.raises(TargetFailed, match=r"isn't tidegate's: it has no label .* Remove or rename it"):
            call(GATEWAY)
    assert world.live()["metadata"]["resourceVersion"] == version


def test_a_token_that_is_not_known_is_reported_as_such(world: World, tmp_path: Path) -> None:
    config = yaml.safe_load(world.api.admin.read_text())
    config["users"][0]["user"] = {"token": "nobody's"}
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(TargetFailed, match=r"401.*the account's token is not valid") as failed:
        world.through(Kubernetes(kubeconfig=path)).read(GATEWAY)
    assert failure_of(failed.value) == "forbidden"
    assert "nobody's" not in str(failed.value)


def test_an_unknown_gateway_is_reported_as_such(world: World) -> None:
    with pytest.raises(TargetFailed, match="gateway 'elsewhere' is not in the task catalog"):
        world.target.read("elsewhere")


def test_a_dry_run_is_checked_by_the_server_and_keeps_nothing(world: World, proxy: KubernetesProxy) -> None:
    filters = EnvoyFilters(KubernetesObjects(proxy.settings))
    written = filters.change(world.place, [limit()], dry_run=True)
    assert written.changed == {limit().key}
    assert all("dryRun=All" in path for path in proxy.writes)
    assert len(proxy.writes) == 1
    assert world.all() == []


@pytest.mark.parametrize(
    ("fault", "reported", "retry_after"),
    [
        ("429", "429: injected", 7),
        ("500", "500: injected", None),
        ("503-page", "no healthy upstream", None),
        ("silent", "doesn't answer", None),
        ("closed", "doesn't answer", None),
        ("answer-lost", "doesn't answer", None),
        ("not-json", "not a JSON object", None),
    ],
)
def test_a_server_in_trouble_is_a_failure_with_its_reason_and_the_last_limit_stays(
    world: World, proxy: KubernetesProxy, fault: Fault, reported: str, retry_after: float | None
) -> None:
    world.target.write(GATEWAY, [limit("chat", 1)])
    uid = world.live()["metadata"]["uid"]
    through_the_proxy = world.through(proxy.settings)
    proxy.fault = fault
    with pytest.raises(TargetFailed, match=reported) as failed:
        through_the_proxy.write(GATEWAY, [limit("chat", 2)])
    assert failed.value.retry_after_seconds == retry_after
    assert len(proxy.writes) <= 1, "nothing is tried again here"
    proxy.fault = "none"
    held = through_the_proxy.read(GATEWAY)[limit().key]
    assert held == limit("chat", 2 if fault == "answer-lost" else 1)
    assert through_the_proxy.write(GATEWAY, [limit("chat", 2)]) == {}
    assert through_the_proxy.read(GATEWAY) == {limit().key: limit("chat", 2)}
    assert world.live()["metadata"]["uid"] == uid


def test_an_api_server_that_dies_is_a_failure_and_its_limits_are_there_afterwards(
    own_kubernetes_api: KubernetesApi, own_stack: LocalStack
) -> None:
    world = World(own_kubernetes_api)
    world.target.write(GATEWAY, [limit("chat", 1)])
    uid = world.live()["metadata"]["uid"]
    port = int(KubernetesObjects(world.api.settings).address.rpartition(":")[2])
    own_stack.kill(API_SERVER)
    try:
        with pytest.raises(TargetFailed, match=r"doesn't answer.*kubernetes\.kubeconfig"):
            world.target.write(GATEWAY, [limit("chat", 2)])
    finally:
        until(lambda: is_free(port))  # the kernel takes a moment to close a killed server's port
        own_stack.up([API_SERVER])
    assert world.target.read(GATEWAY) == {limit().key: limit("chat", 1)}
    assert world.target.write(GATEWAY, [limit("chat", 2)]) == {}
    assert world.live()["metadata"]["uid"] == uid


def test_an_admission_policy_that_refuses_is_reported_and_the_last_limit_stays(
    kubernetes_api: KubernetesApi,
) -> None:
    label = f"policy-{uuid.uuid4().hex[:8]}"
    world = World(kubernetes_api, namespace=kubernetes_api.new_namespace({"policy": label}))
    world.target.write(GATEWAY, [limit("chat", 1)])
    admission = client.AdmissionregistrationV1Api(kubernetes_api.client())
    rule = {
        "apiGroups": [ENVOY_FILTER.group],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": [ENVOY_FILTER.plural],
    }
    admission.create_validating_admission_policy(
        {
            "metadata": {"name": label},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [rule]},
                "validations": [{"expression": "false", "message": "frozen for the night"}],
            },
        }
    )
    admission.create_validating_admission_policy_binding(
        {
            "metadata": {"name": label},
            "spec": {
                "policyName": label,
                "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {"policy": label}}},
            },
        }
    )
    try:
        # The server learns of a policy in its own time.
        deadline = time.monotonic() + 30
        revision = 2
        while True:
            try:
                world.target.write(GATEWAY, [limit("chat", revision)])
            except TargetFailed as error:
                refused = error
                break
            assert time.monotonic() < deadline, "the policy is never in force"
            revision += 1
            time.sleep(0.1)
        assert failure_of(refused) == "refused"
        assert "frozen for the night" in str(refused)
        assert world.target.read(GATEWAY) == {limit().key: limit("chat", revision - 1)}
    finally:
        admission.delete_validating_admission_policy_binding(label)
        admission.delete_validating_admission_policy(label)


def test_without_istio_the_missing_kind_is_reported_and_not_taken_for_no_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(ENVOY_FILTER, group="networking.nowhere.io")
    monkeypatch.setattr("tidegate.adapters.kubernetes.envoy_filters.ENVOY_FILTER", other)
    with pytest.raises(TargetFailed, match="Istio's CRDs are missing; install them"):
        world.target.read(GATEWAY)


def test_the_controllers_account_may_patch_its_gateways_envoyfilters_and_nothing_else(
    kubernetes_api: KubernetesApi,
) -> None:
    namespaces(kubernetes_api, "tidegate", "istio-ingress")
    kubernetes_api.apply(Path("deploy/kubernetes/limit-rbac.yaml"))
    gateway = f"g-{uuid.uuid4().hex[:8]}"
    settings = kubernetes_api.settings_as("tidegate", "tidegate-limit")
    elsewhere = kubernetes_api.new_namespace()
    target = KubernetesTarget(
        settings, {gateway: Gateway(namespace="istio-ingress"), "other": Gateway(namespace=elsewhere)}
    )
    assert target.write(gateway, [limit("chat", 1)]) == {}
    assert target.write(gateway, [limit("chat", 2)]) == {}
    assert target.read(gateway) == {limit().key: limit("chat", 2)}

    mine = kubernetes_api.client_as("tidegate", "tidegate-limit")
    for verb in VERBS:
        for group, resource in RESOURCES:
            allowed = kubernetes_api.allowed(mine, verb, group, resource, "istio-ingress")
            expected = resource == "envoyfilters" and verb in ("get", "create", "patch")
            assert allowed is expected, (verb, group, resource)
            assert not kubernetes_api.allowed(mine, verb, group, resource, elsewhere), (verb, resource)
    with pytest.raises(TargetFailed, match="give this account the rights of deploy/kubernetes") as forbidden:
        target.write("other", [limit()])
    assert failure_of(forbidden.value) == "forbidden"
    name = f"tidegate-rate-limits-{gateway}"
    with pytest.raises(client.ApiException) as denied:
        client.CustomObjectsApi(mine).delete_namespaced_custom_object(
            ENVOY_FILTER.group, ENVOY_FILTER.version, "istio-ingress", ENVOY_FILTER.plural, name
        )
    assert denied.value.status == 403
    with pytest.raises(client.ApiException) as secrets:
        client.CoreV1Api(mine).list_namespaced_secret("istio-ingress")
    assert secrets.value.status == 403


def test_a_thousand_tasks_are_one_object(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [limit(f"task-{number:04}") for number in range(1000)]
    started = time.perf_counter()
    assert world.target.write(GATEWAY, tasks) == {}
    created = time.perf_counter() - started
    started = time.perf_counter()
    assert world.target.write(GATEWAY, [limit(one.key.task, 2, qps=20) for one in tasks]) == {}
    all_changed = time.perf_counter() - started
    started = time.perf_counter()
    assert world.target.write(GATEWAY, [limit("task-0500", 3)]) == {}
    one_changed = time.perf_counter() - started
    started = time.perf_counter()
    held = world.target.read(GATEWAY)
    read = time.perf_counter() - started
    assert len(held) == 1000
    size = len(orjson.dumps(world.live()))
    with capsys.disabled():
        print(  # noqa: T201 (a figure for people)
            f"\n1000 tasks in one EnvoyFilter: {size:,} bytes; created in {created:.2f} s, all changed in "
            f"{all_changed:.2f} s, one changed in {one_changed:.2f} s, read in {read:.2f} s"
        )


def test_an_object_that_would_grow_too_large_takes_what_fits_and_still_cuts_the_old_ones(
    world: World,
) -> None:
    many = [limit(f"task-{number:05}") for number in range(1700)]
    world.target.write(GATEWAY, many)
    more = [limit(f"more-{number:05}") for number in range(1700)]
    cut = limit("task-00000", 2, qps=1)
    refused = world.target.write(GATEWAY, [*more, cut])
    assert set(refused) < {one.key for one in more}
    reason = f"more than {MOST_BYTES}; spread the tasks over more gateways"
    assert all(reason in why.reason and why.revision is None for why in refused.values())
    held = world.target.read(GATEWAY)
    assert held[cut.key] == cut
    assert held.keys() == {one.key for one in (*many, *more)} - refused.keys()
    assert MOST_BYTES - 1000 < len(orjson.dumps(world.live()["spec"])) <= MOST_BYTES
    lower = [limit(f"task-{number:05}", 3, qps=1) for number in range(1700)]
    assert world.target.write(GATEWAY, lower) == {}


def test_the_largest_object_that_we_allow_is_taken_by_the_server(world: World) -> None:
    size, number, tasks = 0, 0, []
    while size < MOST_BYTES - 2000:
        tasks = [limit(f"task-{n:05}") for n in range(number)]
        size = len(orjson.dumps(envoy_filter(world.place, put(None, world.place, tasks).patches)))
        number += max(1, (MOST_BYTES - size) // 1000)
    assert size <= MOST_BYTES
    assert world.target.write(GATEWAY, tasks) == {}
    assert len(world.target.read(GATEWAY)) == len(tasks)
