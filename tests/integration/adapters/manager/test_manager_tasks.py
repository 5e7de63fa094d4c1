"""A task's settings through the K8S manager: releases, drift, revisions, and several writers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kubernetes import client

from tests.support.manager import Managed
from tidegate.jobs.logic.istio.objects import DESTINATION_RULE, VIRTUAL_SERVICE


def test_a_gray_release_goes_step_by_step_and_what_was_set_is_what_is_in_force(managed: Managed) -> None:
    managed.with_gateway()
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
        answer = managed.put(f"{managed.task_path}/{aspect}", body | {"revision": number})
        assert (answer.status_code, answer.json().get("outcome")) == (200, "applied"), answer.text
        shown = managed.get(f"{managed.task_path}/{aspect}")
        assert (shown["revision"], shown["drifted"]) == (number, False)
        assert shown["in_force"] == shown["was_set"]
        again = managed.put(f"{managed.task_path}/{aspect}", body | {"revision": number})
        assert (again.status_code, again.json()["outcome"]) == (200, "unchanged")
    host = f"service-chat.{managed.department}.svc.cluster.local"
    service, rule = managed.live(VIRTUAL_SERVICE), managed.live(DESTINATION_RULE)
    assert service["spec"]["gateways"] == [f"{managed.gateway_namespace}/{managed.gateway}"]
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
    everything = managed.get(managed.task_path)
    assert {aspect: one["revision"] for aspect, one in everything.items()} == {
        "gateway": 1, "timeout": 4, "retries": 5, "circuit-breaker": 6, "route": 7, "versions": 8,
    }  # fmt: skip


def test_no_request_is_ever_routed_to_a_version_without_labels(managed: Managed) -> None:
    managed.with_gateway()
    releases = [["v1"], ["v1", "v2"], ["v2"], ["v3", "v4"], ["v1"]]
    stop = False
    seen: list[set[str]] = []

    def watch() -> None:
        while not stop:
            # Labels are read last: those of a version must be there by then if it was routed to.
            service = managed.live(VIRTUAL_SERVICE)
            try:
                subsets = {one["name"] for one in managed.live(DESTINATION_RULE)["spec"].get("subsets", [])}
            except client.ApiException:
                subsets = set()
            if (
                managed.live(VIRTUAL_SERVICE)["metadata"]["resourceVersion"]
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
            assert managed.put(f"{managed.task_path}/versions", body).status_code == 200
        stop = True
        watching.result()
    assert len(seen) > 10
    assert not any(seen)


def test_an_edit_of_the_object_shows_as_drift_and_the_same_put_again_puts_it_right(managed: Managed) -> None:
    managed.with_gateway()
    body = {"revision": 2, "timeout_ms": 1000}
    assert managed.put(f"{managed.task_path}/timeout", body).status_code == 200

    def slower(live: dict[str, Any]) -> None:
        live["spec"]["http"][0]["timeout"] = "1h"

    managed.edit(VIRTUAL_SERVICE, slower)
    shown = managed.get(f"{managed.task_path}/timeout")
    assert (shown["drifted"], shown["in_force"], shown["was_set"]) == (
        True, {"timeout_ms": 3_600_000}, {"timeout_ms": 1000},
    )  # fmt: skip
    again = managed.put(f"{managed.task_path}/timeout", body)
    assert (again.status_code, again.json()["outcome"]) == (200, "applied")
    assert managed.get(f"{managed.task_path}/timeout")["drifted"] is False


def test_an_older_revision_of_a_setting_is_refused_with_what_is_in_force(managed: Managed) -> None:
    managed.with_gateway()
    path = f"{managed.task_path}/timeout"
    assert managed.put(path, {"revision": 9, "timeout_ms": 1000}).status_code == 200
    for body in ({"revision": 8, "timeout_ms": 5}, {"revision": 9, "timeout_ms": 5}):
        refused = managed.put(path, body)
        assert refused.status_code == 409
        assert refused.json()["revision"] == 9
        assert refused.json()["in_force"] == {"timeout_ms": 1000}
    assert managed.get(path)["in_force"] == {"timeout_ms": 1000}


def test_many_writers_of_one_task_lose_nothing(managed: Managed) -> None:
    managed.with_gateway()
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
                lambda one: managed.put(f"{managed.task_path}/{one[0]}", one[1] | {"revision": 2}),
                bodies.items(),
            )
        )
    assert [answer.status_code for answer in answers] == [200] * 5
    shown = managed.get(managed.task_path)
    assert all(shown[aspect]["revision"] == 2 and not shown[aspect]["drifted"] for aspect in bodies)


def test_settings_that_do_not_go_together_are_refused(managed: Managed) -> None:
    early = managed.put(f"{managed.task_path}/timeout", {"revision": 1, "timeout_ms": 1000})
    assert early.status_code == 422
    assert "has no gateway yet; set it first" in early.json()["reason"]
    managed.with_gateway()
    assert managed.put(f"{managed.task_path}/timeout", {"revision": 1, "timeout_ms": 1000}).status_code == 200
    longer = managed.put(
        f"{managed.task_path}/retries", {"revision": 1, "attempts": 1, "per_try_timeout_ms": 2000}
    )
    assert longer.status_code == 422
    assert "above timeout_ms" in longer.json()["reason"]


def test_objects_that_are_not_ours_are_not_touched(managed: Managed) -> None:
    theirs = {
        "apiVersion": VIRTUAL_SERVICE.api_version,
        "kind": VIRTUAL_SERVICE.kind,
        "metadata": {"name": "tidegate-service-chat"},
        "spec": {"hosts": ["theirs"]},
    }
    managed.objects.create_namespaced_custom_object(
        VIRTUAL_SERVICE.group, VIRTUAL_SERVICE.version, managed.department, VIRTUAL_SERVICE.plural, theirs
    )
    answer = managed.put(f"{managed.task_path}/gateway", {"revision": 1, "gateway": managed.gateway})
    assert answer.status_code == 409
    assert "isn't tidegate's" in answer.json()["reason"]
    assert managed.live(VIRTUAL_SERVICE)["spec"] == {"hosts": ["theirs"]}
