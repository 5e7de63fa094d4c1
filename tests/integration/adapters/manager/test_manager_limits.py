"""Rate limits through the K8S manager, and its audit, on a real API server and a real Kafka."""

from __future__ import annotations

import time

import pytest
from kubernetes import client

from tests.support.manager import BUCKET, LIMIT, Managed, limit, limits_settings
from tidegate.adapters.limiting.targets.base import Target
from tidegate.adapters.limiting.targets.http import HttpTarget
from tidegate.jobs.logic.istio.objects import DESTINATION_RULE, ENVOY_FILTER


def test_a_rate_limit_is_set_once_and_an_older_revision_is_refused(managed: Managed) -> None:
    first = managed.put(managed.limit_path, LIMIT, "controller")
    assert (first.status_code, first.json()["outcome"]) == (200, "applied")
    version = managed.live(ENVOY_FILTER, f"tidegate-rate-limits-{managed.gateway}")["metadata"][
        "resourceVersion"
    ]
    again = managed.put(managed.limit_path, LIMIT, "controller")
    assert (again.status_code, again.json()["outcome"]) == (200, "unchanged")
    assert (
        managed.live(ENVOY_FILTER, f"tidegate-rate-limits-{managed.gateway}")["metadata"]["resourceVersion"]
        == version
    )
    newer = managed.put(managed.limit_path, LIMIT | {"revision": 5}, "controller")
    assert newer.json()["limit"]["qps"] == 10
    older = managed.put(managed.limit_path, LIMIT | {"revision": 4}, "controller")
    assert older.status_code == 409
    assert older.json()["revision"] == 5
    other = managed.put(
        managed.limit_path, LIMIT | {"revision": 5, "bucket": BUCKET | {"max_tokens": 1}}, "controller"
    )
    assert (other.status_code, other.json()["revision"]) == (409, 5)
    assert managed.get(managed.limit_path)["revision"] == 5
    rows = list(managed.outcomes().values())
    assert [row.outcome for row in rows] == ["applied", "unchanged", "applied", "conflict", "conflict"]
    assert {(row.actor, row.role, row.department, row.task, row.gateway) for row in rows} == {
        ("controller", "limit", managed.department, "chat", managed.gateway)
    }
    assert [row.revision for row in rows] == [1, 1, 5, 4, 5]
    assert rows[2].before is not None
    assert rows[2].after is not None
    assert (rows[2].before["revision"], rows[2].after["revision"]) == (1, 5)


def test_every_change_is_in_the_audit_before_it_is_made(managed: Managed) -> None:
    managed.put(managed.limit_path, LIMIT, "controller")
    begun, done = managed.audit()
    assert begun.id == done.id
    assert begun.reason.startswith("begun")
    assert (begun.outcome, done.outcome) == ("begun", "applied")
    assert begun.after == LIMIT


def test_a_dry_run_is_checked_by_the_server_and_changes_nothing(managed: Managed) -> None:
    dry = managed.put(managed.limit_path, LIMIT, "controller", dry_run=True)
    assert (dry.status_code, dry.json()["outcome"], dry.json()["dry_run"]) == (200, "applied", True)
    assert managed.ask("GET", managed.limit_path).status_code == 404
    (row,) = managed.audit()
    assert (row.dry_run, row.outcome) == (True, "applied")
    with pytest.raises(client.ApiException):
        managed.live(ENVOY_FILTER, f"tidegate-rate-limits-{managed.gateway}")
    managed.with_gateway()
    versions = {"revision": 1, "versions": [{"name": "v1", "weight": 100}]}
    assert managed.put(f"{managed.task_path}/versions", versions, dry_run=True).json()["outcome"] == "applied"
    assert managed.get(f"{managed.task_path}/versions")["revision"] is None
    with pytest.raises(client.ApiException):
        managed.live(DESTINATION_RULE)


def test_the_http_target_holds_limits_as_the_kubernetes_target_does(managed: Managed) -> None:
    target: Target = HttpTarget(limits_settings(managed))
    assert target.read(managed.gateway) == {}
    assert target.write(managed.gateway, [limit("chat", 5), limit("embed")]) == {}
    assert target.read(managed.gateway) == {one.key: one for one in (limit("chat", 5), limit("embed"))}
    assert target.write(managed.gateway, [limit("chat", 5)]) == {}
    refused = target.write(managed.gateway, [limit("chat", 4), limit("rank")])
    assert {key.task: why.revision for key, why in refused.items()} == {"chat": 5}
    assert {key.task for key in target.read(managed.gateway)} == {"chat", "embed", "rank"}
    rows = [row for row in managed.outcomes().values() if row.task is not None]
    assert sorted((row.task, row.revision, row.outcome) for row in rows) == [
        ("chat", 4, "conflict"), ("chat", 5, "applied"), ("chat", 5, "unchanged"),
        ("embed", 1, "applied"), ("rank", 1, "applied"),
    ]  # fmt: skip


def test_a_thousand_limits_go_through_the_manager_in_one_request(
    managed: Managed, capsys: pytest.CaptureFixture[str]
) -> None:
    target = HttpTarget(limits_settings(managed))
    limits = [limit(f"task-{number:04}") for number in range(1000)]
    started = time.perf_counter()
    assert target.write(managed.gateway, limits) == {}
    seconds = time.perf_counter() - started
    assert len(target.read(managed.gateway)) == 1000
    with capsys.disabled():
        print(f"\n1000 limits through the manager, each with two client buckets, audited: {seconds:.2f} s")  # noqa: T201
