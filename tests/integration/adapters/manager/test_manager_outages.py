"""The K8S manager while the API server is in trouble, and while its Kafka is killed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_proxy import Fault, KubernetesProxy, proxy_to
from tests.support.manager import LIMIT, Managed, limit, limits_settings, manager
from tests.support.waiting import until
from tidegate.adapters.limiting.targets.base import TargetFailed
from tidegate.adapters.limiting.targets.http import HttpTarget
from tidegate.schemas.settings import Kafka
from tidegate.stack.local import LocalStack
from tidegate.stack.ports import is_free

TROUBLE: list[tuple[Fault, int, str | None]] = [
    ("429", 429, "7"), ("500", 503, None), ("503-page", 503, None), ("silent", 503, None), ("closed", 503, None),
]  # fmt: skip


def test_an_api_server_in_trouble_is_reported_as_what_it_is(
    managed_through_proxy: tuple[Managed, KubernetesProxy],
) -> None:
    managed, proxy = managed_through_proxy
    managed.with_gateway()
    for fault, status, retry_after in TROUBLE:
        proxy.fault = fault
        for path, body, who in (
            (managed.limit_path, LIMIT, "controller"),
            (f"{managed.task_path}/timeout", {"revision": 2, "timeout_ms": 5}, "platform"),
        ):
            answer = managed.put(path, body, who)
            assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after), (
                answer.text
            )
    proxy.fault = "none"
    assert managed.put(managed.limit_path, LIMIT, "controller").json()["outcome"] == "applied"
    outcomes = [row.outcome for row in managed.outcomes().values()]
    assert outcomes == ["applied", *["failed"] * 2 * len(TROUBLE), "applied"]


def test_ready_says_whether_the_api_server_answers(
    managed_through_proxy: tuple[Managed, KubernetesProxy],
) -> None:
    managed, proxy = managed_through_proxy
    assert managed.ask("GET", "/readyz", who=None).status_code == 200
    proxy.fault = "closed"
    assert managed.ask("GET", "/readyz", who=None).status_code == 503
    assert managed.ask("GET", "/healthz", who=None).status_code == 200


def test_the_http_targets_failures_say_what_to_do(
    managed_through_proxy: tuple[Managed, KubernetesProxy],
) -> None:
    managed, proxy = managed_through_proxy
    target = HttpTarget(limits_settings(managed))
    with pytest.raises(TargetFailed, match="404: gateway 'edge'"):
        target.read("edge")
    with pytest.raises(TargetFailed, match=r"403.*the roles read and limit"):
        HttpTarget(limits_settings(managed, "viewer")).write(managed.gateway, [limit("chat")])
    with pytest.raises(TargetFailed, match=r"401.*limits\.manager_token"):
        HttpTarget(limits_settings(managed, "stranger")).read(managed.gateway)
    proxy.fault = "429"
    with pytest.raises(TargetFailed, match="429") as busy:
        target.write(managed.gateway, [limit("chat")])
    assert busy.value.retry_after_seconds == 7
    nowhere = limits_settings(managed).model_copy(update={"manager_url": "http://127.0.0.1:1"})
    with pytest.raises(TargetFailed, match=r"doesn't answer.*limits\.manager_url"):
        HttpTarget(nowhere).read(managed.gateway)


def _kill_kafka(stack: LocalStack) -> None:
    port = int(stack.settings.kafka.bootstrap_servers.rpartition(":")[2])
    stack.kill("kafka")
    until(lambda: is_free(port))  # so that it comes back where it was


@pytest.mark.slow
def test_without_kafka_nothing_is_changed_and_no_audit_is_lost(
    tmp_path: Path, own_kafka: Kafka, own_stack: LocalStack, kubernetes_api: KubernetesApi
) -> None:
    with ExitStack() as stack:
        proxy = stack.enter_context(proxy_to(kubernetes_api.admin, tmp_path, request_timeout_seconds=60))
        managed = stack.enter_context(manager(tmp_path, own_kafka, kubernetes_api, proxy.settings)).managed()
        assert managed.put(managed.limit_path, LIMIT, "controller").status_code == 200

        # Kafka dies while a change is on its way to the API server: made, and not yet published.
        proxy.fault = "held"
        with ThreadPoolExecutor(1) as threads:
            on_its_way = threads.submit(
                managed.put, managed.limit_path, LIMIT | {"revision": 2}, "controller"
            )
            until(lambda: len(proxy.writes) == 2)
            _kill_kafka(own_stack)
            proxy.fault = "none"
            answer = on_its_way.result()
        assert answer.status_code == 503
        assert "it was changed (applied)" in answer.json()["reason"]
        assert managed.get(managed.limit_path)["revision"] == 2

        # Without Kafka nothing more is changed, and GET still answers.
        refused = managed.put(managed.limit_path, LIMIT | {"revision": 3}, "controller")
        assert refused.status_code == 503
        assert "nothing was changed: Kafka" in refused.json()["reason"]
        assert refused.headers["Retry-After"] == "5"
        assert managed.get(managed.limit_path)["revision"] == 2
        assert len(proxy.writes) == 2
        assert managed.ask("GET", "/readyz", who=None).status_code == 503

        own_stack.up(["kafka"])
        until(lambda: managed.ask("GET", "/readyz", who=None).status_code == 200)
        again = managed.put(managed.limit_path, LIMIT | {"revision": 3}, "controller")
        assert (again.status_code, again.json()["outcome"]) == (200, "applied")
        reported = [(row.revision, row.outcome) for row in managed.outcomes().values()]
        assert reported == [(1, "applied"), (2, "applied"), (3, "failed"), (3, "applied")]
        assert [row.revision for row in managed.audit() if row.reason.startswith("begun")] == [1, 2, 3, 3]
