"""The K8S manager end to end: the real server in front of a real API server, with its audit in a real Kafka."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client

from tests.support.kafka_messages import messages
from tests.support.kubernetes_accounts import RESOURCES, VERBS, namespaces
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_proxy import Fault, KubernetesProxy, proxy_to
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.limiting.targets.base import Target, TargetFailed
from tidegate.adapters.limiting.targets.http import HttpTarget
from tidegate.jobs.logic.istio.objects import DESTINATION_RULE, ENVOY_FILTER, VIRTUAL_SERVICE, Kind
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.rows.limits import ChangeRow
from tidegate.schemas.settings import Kafka, Settings, Stack
from tidegate.schemas.settings.limits import Kubernetes, Limits
from tidegate.schemas.topics import CHANGES
from tidegate.stack import local_stack as local_stack_of
from tidegate.stack.local import LocalStack
from tidegate.stack.ports import is_free

GATEWAY = "vision-gateway"
TOKENS = {"controller": ("read", "limit"), "platform": ("read", "route"), "viewer": ("read",)}
BUCKET = {"max_tokens": 20, "tokens_per_fill": 10, "fill_interval_ms": 1000}
LIMIT = {"revision": 1, "route": "chat", "bucket": BUCKET}


class Running:
    """A manager that runs, and what is around it."""

    def __init__(
        self, url: str, kafka: Kafka, api: KubernetesApi, department: str, gateway_namespace: str
    ) -> None:
        self.url = url
        self.kafka = kafka
        self.department = department
        self.gateway_namespace = gateway_namespace
        self.objects = client.CustomObjectsApi(api.client())
        self.limit_path = f"/v1/gateways/{GATEWAY}/tasks/{department}/chat/rate-limit"
        self.task_path = f"/v1/tasks/{department}/chat"

    def ask(
        self, method: str, path: str, body: Any = None, who: str | None = "platform", **more: Any
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer token-of-{who}"} if who else {}
        return httpx.request(method, self.url + path, json=body, headers=headers, timeout=30, **more)

    def put(self, path: str, body: Any, who: str | None = "platform", **query: Any) -> httpx.Response:
        return self.ask("PUT", path, body, who, params=query)

    def get(self, path: str, who: str | None = "viewer") -> Any:
        answer = self.ask("GET", path, who=who)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def audit(self) -> list[ChangeRow]:
        """Every row, in the order of writing."""
        return [ChangeRow.model_validate_json(one.value() or b"") for one in messages(self.kafka, CHANGES)]

    def outcomes(self) -> dict[str, ChangeRow]:
        """The last word on each change."""
        return {row.id: row for row in self.audit()}

    def live(self, kind: Kind, name: str = "tidegate-service-chat") -> dict[str, Any]:
        namespace = self.gateway_namespace if kind == ENVOY_FILTER else self.department
        found: dict[str, Any] = self.objects.get_namespaced_custom_object(
            kind.group, kind.version, namespace, kind.plural, name
        )
        return found

    def edit(self, kind: Kind, change: Callable[[dict[str, Any]], None]) -> None:
        """As `kubectl edit` does it."""
        live = self.live(kind)
        change(live)
        self.objects.replace_namespaced_custom_object(
            kind.group, kind.version, self.department, kind.plural, live["metadata"]["name"], live,
            field_manager="kubectl-edit",
        )  # fmt: skip

    def with_gateway(self) -> None:
        assert self.put(f"{self.task_path}/gateway", {"revision": 1, "gateway": GATEWAY}).status_code == 200


@contextmanager
def manager(
    folder: Path,
    kafka: Kafka,
    api: KubernetesApi,
    kubernetes: Kubernetes,
    department: str = "",
    gateways: str = "",
) -> Iterator[Running]:
    """`tidegate manager` as a process of its own, as a user starts it."""
    department, gateways = department or api.new_namespace(), gateways or api.new_namespace()
    callers = [
        {
            "name": name,
            "token_sha256": hashlib.sha256(f"token-of-{name}".encode()).hexdigest(),
            "roles": list(roles),
        }
        for name, roles in TOKENS.items()
    ]
    (folder / "tokens.yaml").write_text(yaml.safe_dump(callers))
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"gateways": {GATEWAY: {"namespace": gateways}}}))
    (folder / "tidegate.toml").write_text(
        f"""
        [kafka]
        bootstrap_servers = "{kafka.bootstrap_servers}"
        topic_prefix = "{kafka.topic_prefix}"
        [kubernetes]
        kubeconfig = "{kubernetes.kubeconfig}"
        request_timeout_seconds = {kubernetes.request_timeout_seconds}
        [catalog]
        file = "{folder}/catalog.yaml"
        [manager]
        tokens_file = "{folder}/tokens.yaml"
        port = 0
        """
    )
    with (folder / "manager.log").open("w") as log:
        process = subprocess.Popen(
            (sys.executable, "-u", "-m", "tidegate.cli.main", "manager"),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http"), (folder / "manager.log").read_text()
        yield Running(line.split()[-1], kafka, api, department, gateways)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    said = (folder / "manager.log").read_text()
    assert "token-of-" not in said
    assert "Traceback" not in said


@pytest.fixture
def running(tmp_path: Path, kafka: Kafka, kubernetes_api: KubernetesApi) -> Iterator[Running]:
    with manager(tmp_path, kafka, kubernetes_api, kubernetes_api.settings) as one:
        yield one


@pytest.fixture
def proxied(
    tmp_path: Path, kafka: Kafka, kubernetes_api: KubernetesApi
) -> Iterator[tuple[Running, KubernetesProxy]]:
    with ExitStack() as stack:
        proxy = stack.enter_context(proxy_to(kubernetes_api.admin, tmp_path, request_timeout_seconds=1))
        yield stack.enter_context(manager(tmp_path, kafka, kubernetes_api, proxy.settings)), proxy


def test_a_rate_limit_is_set_once_and_an_older_revision_is_refused(running: Running) -> None:
    first = running.put(running.limit_path, LIMIT, "controller")
    assert (first.status_code, first.json()["outcome"]) == (200, "applied")
    version = running.live(ENVOY_FILTER, f"tidegate-rate-limits-{GATEWAY}")["metadata"]["resourceVersion"]
    again = running.put(running.limit_path, LIMIT, "controller")
    assert (again.status_code, again.json()["outcome"]) == (200, "unchanged")
    assert (
        running.live(ENVOY_FILTER, f"tidegate-rate-limits-{GATEWAY}")["metadata"]["resourceVersion"]
        == version
    )
    newer = running.put(running.limit_path, LIMIT | {"revision": 5}, "controller")
    assert newer.json()["limit"]["qps"] == 10
    older = running.put(running.limit_path, LIMIT | {"revision": 4}, "controller")
    assert older.status_code == 409
    assert older.json()["revision"] == 5
    other = running.put(
        running.limit_path, LIMIT | {"revision": 5, "bucket": BUCKET | {"max_tokens": 1}}, "controller"
    )
    assert (other.status_code, other.json()["revision"]) == (409, 5)
    assert running.get(running.limit_path)["revision"] == 5
    rows = list(running.outcomes().values())
    assert [row.outcome for row in rows] == ["applied", "unchanged", "applied", "conflict", "conflict"]
    assert {(row.actor, row.role, row.department, row.task, row.gateway) for row in rows} == {
        ("controller", "limit", running.department, "chat", GATEWAY)
    }
    assert [row.revision for row in rows] == [1, 1, 5, 4, 5]
    assert rows[2].before is not None
    assert rows[2].after is not None
    assert (rows[2].before["revision"], rows[2].after["revision"]) == (1, 5)


def test_every_change_is_in_the_audit_before_it_is_made(running: Running) -> None:
    running.put(running.limit_path, LIMIT, "controller")
    begun, done = running.audit()
    assert begun.id == done.id
    assert begun.reason.startswith("begun")
    assert (begun.outcome, done.outcome) == ("begun", "applied")
    assert begun.after == LIMIT


def test_a_dry_run_is_checked_by_the_server_and_changes_nothing(running: Running) -> None:
    dry = running.put(running.limit_path, LIMIT, "controller", dry_run=True)
    assert (dry.status_code, dry.json()["outcome"], dry.json()["dry_run"]) == (200, "applied", True)
    assert running.ask("GET", running.limit_path).status_code == 404
    (row,) = running.audit()
    assert (row.dry_run, row.outcome) == (True, "applied")
    with pytest.raises(client.ApiException):
        running.live(ENVOY_FILTER, f"tidegate-rate-limits-{GATEWAY}")
    running.with_gateway()
    versions = {"revision": 1, "versions": [{"name": "v1", "weight": 100}]}
    assert running.put(f"{running.task_path}/versions", versions, dry_run=True).json()["outcome"] == "applied"
    assert running.get(f"{running.task_path}/versions")["revision"] is None
    with pytest.raises(client.ApiException):
        running.live(DESTINATION_RULE)


def test_a_gray_release_goes_step_by_step_and_what_was_set_is_what_is_in_force(running: Running) -> None:
    running.with_gateway()
    settings: list[tuple[str, dict[str, Any]]] = [
        ("versions", {"versions": [{"name": "v1", "weight": 100}]}),
        ("versions", {"versions": [{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]}),
        ("timeout", {"timeout_ms": 30_000}),
        ("retries", {"attempts": 2, "per_try_timeout_ms": 5000, "retry_on": ["5xx", "reset"]}),
        (
            "circuit-breaker",
            {"outlier_detection": {"consecutive_5xx_errors": 7}, "connection_pool": {"max_requests": 9}},
        ),
        ("route", {"path_prefix": "/v1/", "port": 8080}),
        ("versions", {"versions": [{"name": "v2", "weight": 100, "labels": {"build": "42"}}]}),
    ]  # fmt: skip
    for number, (aspect, body) in enumerate(settings, start=2):
        answer = running.put(f"{running.task_path}/{aspect}", body | {"revision": number})
        assert (answer.status_code, answer.json().get("outcome")) == (200, "applied"), answer.text
        shown = running.get(f"{running.task_path}/{aspect}")
        assert (shown["revision"], shown["drifted"]) == (number, False)
        assert shown["in_force"] == shown["was_set"]
        again = running.put(f"{running.task_path}/{aspect}", body | {"revision": number})
        assert (again.status_code, again.json()["outcome"]) == (200, "unchanged")
    host = f"service-chat.{running.department}.svc.cluster.local"
    service, rule = running.live(VIRTUAL_SERVICE), running.live(DESTINATION_RULE)
    assert service["spec"]["gateways"] == [f"{running.gateway_namespace}/{GATEWAY}"]
    (http,) = service["spec"]["http"]
    assert http["name"] == "chat"
    assert http["match"] == [{"headers": {"taskid": {"exact": "chat"}}, "uri": {"prefix": "/v1/"}}]
    assert http["timeout"] == "30s"
    assert http["retries"] == {"attempts": 2, "perTryTimeout": "5s", "retryOn": "5xx,reset"}
    assert http["route"] == [
        {"destination": {"host": host, "subset": "v2", "port": {"number": 8080}}, "weight": 100}
    ]
    assert rule["spec"]["subsets"] == [{"name": "v2", "labels": {"build": "42"}}]
    assert rule["spec"]["trafficPolicy"]["outlierDetection"]["consecutive5xxErrors"] == 7
    assert rule["spec"]["trafficPolicy"]["connectionPool"] == {"http": {"http2MaxRequests": 9}}
    everything = running.get(running.task_path)
    assert {aspect: one["revision"] for aspect, one in everything.items()} == {
        "gateway": 1, "timeout": 4, "retries": 5, "circuit-breaker": 6, "route": 7, "versions": 8,
    }  # fmt: skip


def test_no_request_is_ever_routed_to_a_version_without_labels(running: Running) -> None:
    running.with_gateway()
    releases = [["v1"], ["v1", "v2"], ["v2"], ["v3", "v4"], ["v1"]]
    stop = False
    seen: list[set[str]] = []

    def watch() -> None:
        while not stop:
            # Labels are read last: those of a version must be there by then if it was routed to.
            service = running.live(VIRTUAL_SERVICE)
            try:
                subsets = {one["name"] for one in running.live(DESTINATION_RULE)["spec"].get("subsets", [])}
            except client.ApiException:
                subsets = set()
            if (
                running.live(VIRTUAL_SERVICE)["metadata"]["resourceVersion"]
                != service["metadata"]["resourceVersion"]
            ):
                continue
            routed = {
                route["destination"]["subset"]
                for route in service["spec"]["http"][0]["route"]
                if "subset" in route["destination"]
            }
            seen.append(routed - subsets)

    with ThreadPoolExecutor(1) as threads:
        watching = threads.submit(watch)
        for revision, names in enumerate(releases * 3, start=1):
            weights = [100 // len(names)] * len(names)
            versions = [{"name": name, "weight": weight} for name, weight in zip(names, weights, strict=True)]
            body = {"revision": revision, "versions": versions}
            assert running.put(f"{running.task_path}/versions", body).status_code == 200
        stop = True
        watching.result()
    assert len(seen) > 10
    assert not any(seen)


def test_an_edit_of_the_object_shows_as_drift_and_the_same_put_again_puts_it_right(running: Running) -> None:
    running.with_gateway()
    body = {"revision": 2, "timeout_ms": 1000}
    assert running.put(f"{running.task_path}/timeout", body).status_code == 200

    def slower(live: dict[str, Any]) -> None:
        live["spec"]["http"][0]["timeout"] = "1h"

    running.edit(VIRTUAL_SERVICE, slower)
    shown = running.get(f"{running.task_path}/timeout")
    assert (shown["drifted"], shown["in_force"], shown["was_set"]) == (
        True, {"timeout_ms": 3_600_000}, {"timeout_ms": 1000},
    )  # fmt: skip
    again = running.put(f"{running.task_path}/timeout", body)
    assert (again.status_code, again.json()["outcome"]) == (200, "applied")
    assert running.get(f"{running.task_path}/timeout")["drifted"] is False


def test_an_older_revision_of_a_setting_is_refused_with_what_is_in_force(running: Running) -> None:
    running.with_gateway()
    path = f"{running.task_path}/timeout"
    assert running.put(path, {"revision": 9, "timeout_ms": 1000}).status_code == 200
    for body in ({"revision": 8, "timeout_ms": 5}, {"revision": 9, "timeout_ms": 5}):
        refused = running.put(path, body)
        assert refused.status_code == 409
        assert refused.json()["revision"] == 9
        assert refused.json()["in_force"] == {"timeout_ms": 1000}
    assert running.get(path)["in_force"] == {"timeout_ms": 1000}


def test_many_writers_of_one_task_lose_nothing(running: Running) -> None:
    running.with_gateway()
    bodies: dict[str, dict[str, Any]] = {
        "timeout": {"timeout_ms": 5000},
        "retries": {"attempts": 1},
        "route": {"path_prefix": "/x"},
        "versions": {"versions": [{"name": "v1", "weight": 100}]},
        "circuit-breaker": {"connection_pool": {"max_requests": 3}},
    }
    with ThreadPoolExecutor(5) as threads:
        answers = list(
            threads.map(
                lambda one: running.put(f"{running.task_path}/{one[0]}", one[1] | {"revision": 2}),
                bodies.items(),
            )
        )
    assert [answer.status_code for answer in answers] == [200] * 5
    shown = running.get(running.task_path)
    assert all(shown[aspect]["revision"] == 2 and not shown[aspect]["drifted"] for aspect in bodies)


WRONG_BODIES: list[tuple[str, Any, str]] = [
    ("timeout", {"revision": 1, "timeout_ms": 0}, "timeout_ms"),
    ("timeout", {"timeout_ms": 5}, "revision"),
    ("versions", {"revision": 1, "versions": [{"name": "v1", "weight": 30}]}, "the whole"),
    ("retries", {"revision": 1, "attempts": 99}, "attempts"),
    (
        "circuit-breaker",
        {"revision": 1, "connection_pool": {"max_requests": 0}},
        "connection_pool.max_requests",
    ),
    ("route", {"revision": 1, "port": 70_000}, "port"),
    ("gateway", {"revision": 1, "gateway": GATEWAY, "hosts": ["a b"]}, "hosts.0"),
    ("timeout", [], "the whole"),
]


def test_a_wrong_body_is_refused_with_its_field_and_audited(running: Running) -> None:
    for aspect, body, field in WRONG_BODIES:
        answer = running.put(f"{running.task_path}/{aspect}", body)
        assert answer.status_code == 422
        assert [one["field"] for one in answer.json()["fields"]] == [field]
    rows = running.outcomes().values()
    assert [(row.outcome, row.actor) for row in rows] == [("refused", "platform")] * len(WRONG_BODIES)


def test_odd_bodies_are_refused_and_audited_and_never_a_fault(running: Running) -> None:
    path = f"{running.task_path}/timeout"
    headers = {"Authorization": "Bearer token-of-platform", "Content-Type": "application/json"}
    odd = [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"revision": 1, "timeout_ms": NaN}',
        b'{"revision": 1, "timeout_ms": 5, "x": "\\ud800"}',
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        b"[" * 100_000,
        b'{"revision": 1' + b"0" * 5000 + b"}",
    ]
    for body in odd:
        answer = httpx.put(running.url + path, content=body, headers=headers, timeout=30)
        assert 400 <= answer.status_code < 500, (body[:40], answer.status_code, answer.text)
    too_large = httpx.put(running.url + path, content=b" " * 5_000_000, headers=headers, timeout=30)
    assert too_large.status_code == 413
    endless = httpx.put(running.url + path, content=iter([b"{}"]), headers=headers, timeout=30)
    assert endless.status_code == 413
    rows = running.outcomes().values()
    assert [row.outcome for row in rows] == ["refused"] * (len(odd) + 2)


def test_settings_that_do_not_go_together_are_refused(running: Running) -> None:
    early = running.put(f"{running.task_path}/timeout", {"revision": 1, "timeout_ms": 1000})
    assert early.status_code == 422
    assert "has no gateway yet; set it first" in early.json()["reason"]
    running.with_gateway()
    assert running.put(f"{running.task_path}/timeout", {"revision": 1, "timeout_ms": 1000}).status_code == 200
    longer = running.put(
        f"{running.task_path}/retries", {"revision": 1, "attempts": 1, "per_try_timeout_ms": 2000}
    )
    assert longer.status_code == 422
    assert "above timeout_ms" in longer.json()["reason"]


def test_who_has_no_token_or_not_the_role_is_refused_and_audited(running: Running) -> None:
    for who in (None, "stranger"):
        for method, path in (("GET", running.limit_path), ("PUT", running.limit_path)):
            answer = running.ask(method, path, LIMIT if method == "PUT" else None, who)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    for who, path, body in (
        ("viewer", running.limit_path, LIMIT),
        ("platform", running.limit_path, LIMIT),
        ("controller", f"{running.task_path}/timeout", {"revision": 1, "timeout_ms": 5}),
    ):
        assert running.put(path, body, who).status_code == 403
    assert running.ask("GET", running.limit_path, who="viewer").status_code == 404
    until(lambda: len(running.outcomes()) == 5)
    rows = running.outcomes().values()
    assert sorted(row.actor for row in rows) == ["(nobody)", "(nobody)", "controller", "platform", "viewer"]
    assert {row.outcome for row in rows} == {"refused"}


def test_a_token_that_is_taken_away_ends_at_once(running: Running, tmp_path: Path) -> None:
    assert running.ask("GET", running.task_path, who="viewer").status_code == 200
    path = tmp_path / "tokens.yaml"
    path.write_text(
        yaml.safe_dump([one for one in yaml.safe_load(path.read_text()) if one["name"] != "viewer"])
    )
    assert running.ask("GET", running.task_path, who="viewer").status_code == 401


def test_an_unknown_gateway_is_404_until_the_catalog_has_it(running: Running, tmp_path: Path) -> None:
    path = running.limit_path.replace(GATEWAY, "edge")
    answer = running.put(path, LIMIT, "controller")
    assert answer.status_code == 404
    assert f"not in the task catalog ({GATEWAY})" in answer.json()["reason"]
    gateways = {
        GATEWAY: {"namespace": running.gateway_namespace},
        "edge": {"namespace": running.gateway_namespace},
    }
    (tmp_path / "catalog.yaml").write_text(yaml.safe_dump({"gateways": gateways}))
    assert running.put(path, LIMIT, "controller").status_code == 200


def test_objects_that_are_not_ours_are_not_touched(running: Running) -> None:
    theirs = {
        "apiVersion": VIRTUAL_SERVICE.api_version,
        "kind": VIRTUAL_SERVICE.kind,
        "metadata": {"name": "tidegate-service-chat"},
        "spec": {"hosts": ["theirs"]},
    }
    running.objects.create_namespaced_custom_object(
        VIRTUAL_SERVICE.group, VIRTUAL_SERVICE.version, running.department, VIRTUAL_SERVICE.plural, theirs
    )
    answer = running.put(f"{running.task_path}/gateway", {"revision": 1, "gateway": GATEWAY})
    assert answer.status_code == 409
    assert "isn't tidegate's" in answer.json()["reason"]
    assert running.live(VIRTUAL_SERVICE)["spec"] == {"hosts": ["theirs"]}


TROUBLE: list[tuple[Fault, int, str | None]] = [
    ("429", 429, "7"), ("500", 503, None), ("503-page", 503, None), ("silent", 503, None), ("closed", 503, None),
]  # fmt: skip


def test_an_api_server_in_trouble_is_told_as_what_it_is(proxied: tuple[Running, KubernetesProxy]) -> None:
    running, proxy = proxied
    running.with_gateway()
    for fault, status, retry_after in TROUBLE:
        proxy.fault = fault
        for path, body, who in (
            (running.limit_path, LIMIT, "controller"),
            (f"{running.task_path}/timeout", {"revision": 2, "timeout_ms": 5}, "platform"),
        ):
            answer = running.put(path, body, who)
            assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after), (
                answer.text
            )
    proxy.fault = "none"
    assert running.put(running.limit_path, LIMIT, "controller").json()["outcome"] == "applied"
    outcomes = [row.outcome for row in running.outcomes().values()]
    assert outcomes == ["applied", *["failed"] * 2 * len(TROUBLE), "applied"]


def test_ready_says_whether_the_api_server_answers(proxied: tuple[Running, KubernetesProxy]) -> None:
    running, proxy = proxied
    assert running.ask("GET", "/readyz", who=None).status_code == 200
    proxy.fault = "closed"
    assert running.ask("GET", "/readyz", who=None).status_code == 503
    assert running.ask("GET", "/healthz", who=None).status_code == 200


def test_the_openapi_page_names_every_path_and_its_problems(running: Running) -> None:
    page = running.ask("GET", "/openapi.json", who=None).json()
    puts = {path for path, methods in page["paths"].items() if "put" in methods}
    assert puts == {
        "/v1/gateways/{gateway}/rate-limits",
        "/v1/gateways/{gateway}/tasks/{department}/{task}/rate-limit",
        *(
            f"/v1/tasks/{{department}}/{{task}}/{aspect}"
            for aspect in ("timeout", "retries", "circuit-breaker", "versions", "route", "gateway")
        ),
    }
    for path in puts:
        put = page["paths"][path]["put"]
        assert {"200", "401", "403", "409", "422", "429", "503"} <= put["responses"].keys()
        assert put["security"] == [{"HTTPBearer": []}]
        assert put["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")
    assert running.ask("GET", "/docs", who=None).status_code == 200


def limits_settings(running: Running, who: str = "controller") -> Limits:
    return Limits(target="http", manager_url=running.url, manager_token=f"token-of-{who}")


def limit(task: str, revision: int = 1, qps: int = 10) -> Limit:
    return Limit(
        TaskKey("vision", task), f"route-{task}", revision, TokenBucket(2 * qps, qps, 1000),
        TokenBucket(5, 5, 1000), {"batch": TokenBucket(1, 1, 2000)},
    )  # fmt: skip


def test_the_http_target_holds_limits_as_the_kubernetes_target_does(running: Running) -> None:
    target: Target = HttpTarget(limits_settings(running))
    assert target.read(GATEWAY) == {}
    assert target.write(GATEWAY, [limit("chat", 5), limit("embed")]) == {}
    assert target.read(GATEWAY) == {one.key: one for one in (limit("chat", 5), limit("embed"))}
    assert target.write(GATEWAY, [limit("chat", 5)]) == {}
    refused = target.write(GATEWAY, [limit("chat", 4), limit("rank")])
    assert {key.task: why.revision for key, why in refused.items()} == {"chat": 5}
    assert {key.task for key in target.read(GATEWAY)} == {"chat", "embed", "rank"}
    rows = [row for row in running.outcomes().values() if row.task is not None]
    assert sorted((row.task, row.revision, row.outcome) for row in rows) == [
        ("chat", 4, "conflict"), ("chat", 5, "applied"), ("chat", 5, "unchanged"),
        ("embed", 1, "applied"), ("rank", 1, "applied"),
    ]  # fmt: skip


def test_the_http_targets_failures_say_what_to_do(proxied: tuple[Running, KubernetesProxy]) -> None:
    running, proxy = proxied
    target = HttpTarget(limits_settings(running))
    with pytest.raises(TargetFailed, match="404: gateway 'edge'"):
        target.read("edge")
    with pytest.raises(TargetFailed, match=r"403.*the roles read and limit"):
        HttpTarget(limits_settings(running, "viewer")).write(GATEWAY, [limit("chat")])
    with pytest.raises(TargetFailed, match=r"401.*limits\.manager_token"):
        HttpTarget(limits_settings(running, "stranger")).read(GATEWAY)
    proxy.fault = "429"
    with pytest.raises(TargetFailed, match="429") as busy:
        target.write(GATEWAY, [limit("chat")])
    assert busy.value.retry_after_seconds == 7
    nowhere = limits_settings(running).model_copy(update={"manager_url": "http://127.0.0.1:1"})
    with pytest.raises(TargetFailed, match=r"doesn't answer.*limits\.manager_url"):
        HttpTarget(nowhere).read(GATEWAY)


def test_a_thousand_limits_go_through_the_manager_in_one_request(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    target = HttpTarget(limits_settings(running))
    limits = [limit(f"task-{number:04}") for number in range(1000)]
    started = time.perf_counter()
    assert target.write(GATEWAY, limits) == {}
    seconds = time.perf_counter() - started
    assert len(target.read(GATEWAY)) == 1000
    with capsys.disabled():
        print(f"\n1000 limits through the manager, each with two client buckets, audited: {seconds:.2f} s")  # noqa: T201


def test_the_managers_account_is_enough_for_it_and_may_nothing_else(
    tmp_path: Path, kafka: Kafka, kubernetes_api: KubernetesApi
) -> None:
    namespaces(kubernetes_api, "tidegate", "istio-ingress", "vision")
    kubernetes_api.apply(Path("deploy/kubernetes/manager-rbac.yaml"))
    account = ("tidegate", "tidegate-manager")
    task = f"t{uuid.uuid4().hex[:8]}"
    with manager(
        tmp_path, kafka, kubernetes_api, kubernetes_api.settings_as(*account), "vision", "istio-ingress"
    ) as running:
        path = f"/v1/tasks/vision/{task}"
        for revision in (1, 2):
            limit_path = running.limit_path.replace("/chat/", f"/{task}/")
            body = LIMIT | {"revision": int(time.time() * 1000) + revision, "route": task}
            assert running.put(limit_path, body, "controller").status_code == 200
            for aspect, setting in (
                ("gateway", {"gateway": GATEWAY}),
                ("versions", {"versions": [{"name": f"v{revision}", "weight": 100}]}),
                ("circuit-breaker", {"connection_pool": {"max_requests": revision}}),
            ):
                answer = running.put(f"{path}/{aspect}", setting | {"revision": revision})
                assert answer.status_code == 200, answer.text
        elsewhere = kubernetes_api.new_namespace()
        forbidden = running.put(f"/v1/tasks/{elsewhere}/chat/gateway", {"revision": 1, "gateway": GATEWAY})
        assert forbidden.status_code == 502
        assert "give this account the rights of deploy/kubernetes" in forbidden.json()["reason"]
    mine = kubernetes_api.client_as(*account)
    allowed_in = {
        "istio-ingress": {"envoyfilters"},
        "vision": {"virtualservices", "destinationrules"},
        elsewhere: set(),
    }
    for namespace, allowed in allowed_in.items():
        for verb in VERBS:
            for group, resource in RESOURCES:
                may = kubernetes_api.allowed(mine, verb, group, resource, namespace)
                assert may is (resource in allowed and verb in ("get", "create", "patch")), (
                    namespace,
                    verb,
                    resource,
                )


@pytest.fixture
def own_stack() -> Iterator[LocalStack]:
    """A stack of this test's own, whose Kafka may be killed."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-manager-"))
    stack = local_stack_of(Settings(stack=Stack(state_dir=folder, start_timeout_seconds=240)))
    try:
        stack.up(["kafka"])
        yield stack
    finally:
        stack.down(purge=True)
        shutil.rmtree(folder)


def _kill_kafka(stack: LocalStack) -> None:
    port = int(stack.settings.kafka.bootstrap_servers.rpartition(":")[2])
    stack.kill("kafka")
    until(lambda: is_free(port))  # so that it comes back where it was


@pytest.mark.slow
@pytest.mark.usefixtures("kafka_server")  # its parts are there, or the test is skipped with the reason
def test_without_kafka_nothing_is_changed_and_no_audit_is_lost(
    tmp_path: Path, own_stack: LocalStack, kubernetes_api: KubernetesApi
) -> None:
    kafka = own_stack.settings.kafka
    with ExitStack() as stack:
        proxy = stack.enter_context(proxy_to(kubernetes_api.admin, tmp_path, request_timeout_seconds=60))
        running = stack.enter_context(manager(tmp_path, kafka, kubernetes_api, proxy.settings))
        assert running.put(running.limit_path, LIMIT, "controller").status_code == 200

        # Kafka dies while a change is on its way to the API server: made, and not yet told.
        proxy.fault = "held"
        with ThreadPoolExecutor(1) as threads:
            on_its_way = threads.submit(
                running.put, running.limit_path, LIMIT | {"revision": 2}, "controller"
            )
            until(lambda: len(proxy.writes) == 2)
            _kill_kafka(own_stack)
            proxy.fault = "none"
            answer = on_its_way.result()
        assert answer.status_code == 503
        assert "it was changed (applied)" in answer.json()["reason"]
        assert running.get(running.limit_path)["revision"] == 2

        # Without Kafka nothing more is changed, and GET still answers.
        refused = running.put(running.limit_path, LIMIT | {"revision": 3}, "controller")
        assert refused.status_code == 503
        assert "nothing was changed: Kafka" in refused.json()["reason"]
        assert refused.headers["Retry-After"] == "5"
        assert running.get(running.limit_path)["revision"] == 2
        assert len(proxy.writes) == 2
        assert running.ask("GET", "/readyz", who=None).status_code == 503

        own_stack.up(["kafka"])
        until(lambda: running.ask("GET", "/readyz", who=None).status_code == 200)
        again = running.put(running.limit_path, LIMIT | {"revision": 3}, "controller")
        assert (again.status_code, again.json()["outcome"]) == (200, "applied")
        told = [(row.revision, row.outcome) for row in running.outcomes().values()]
        assert told == [(1, "applied"), (2, "applied"), (3, "failed"), (3, "applied")]
        assert [row.revision for row in running.audit() if row.reason.startswith("begun")] == [1, 2, 3, 3]


def test_without_a_tokens_file_it_does_not_start(tmp_path: Path) -> None:
    ended = subprocess.run(
        (sys.executable, "-m", "tidegate.cli.main", "manager"),
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "manager.tokens_file: not set" in ended.stderr


def test_gateways_come_from_the_catalogs_topic_where_there_is_no_file(
    tmp_path: Path, kafka: Kafka, kubernetes_api: KubernetesApi
) -> None:
    from confluent_kafka import Producer

    from tidegate.adapters.manager.serve import gateways_of
    from tidegate.jobs.logic.catalog_rows import rows_of
    from tidegate.schemas.catalog import parse
    from tidegate.schemas.settings import Settings
    from tidegate.schemas.timestamps import from_epoch_ms
    from tidegate.schemas.topics import TASKS

    ensure_topics(kafka, [TASKS])
    producer = Producer(kafka.client_config())
    with gateways_of(Settings(kafka=kafka)) as gateways:
        assert gateways() == {}
        text = """
        gateways: {edge: {namespace: here}}
        departments: {vision: {gateway: edge, tasks: {chat: {qps_per_replica: 5}}}}
        """
        for row in rows_of(parse(text, "catalog"), from_epoch_ms(0)):
            producer.produce(kafka.topic(TASKS), row.model_dump_json(), row.id)
        producer.produce(kafka.topic(TASKS), b"no row", b"vision/broken")
        producer.flush(30)
        until(lambda: "edge" in gateways())
        assert gateways()["edge"].namespace == "here"
