"""What the K8S manager refuses: bodies, callers, gateways that it does not know, and to start without tokens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.manager import LIMIT, Managed, Manager
from tests.support.waiting import until

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
    ("gateway", {"revision": 1, "gateway": "vision-gateway", "hosts": ["a b"]}, "hosts.0"),
    ("timeout", [], "the whole"),
]


def test_a_wrong_body_is_refused_with_its_field_and_audited(managed: Managed) -> None:
    for aspect, body, field in WRONG_BODIES:
        answer = managed.put(f"{managed.task_path}/{aspect}", body)
        assert answer.status_code == 422
        assert [one["field"] for one in answer.json()["fields"]] == [field]
    rows = managed.outcomes().values()
    assert [(row.outcome, row.actor) for row in rows] == [("refused", "platform")] * len(WRONG_BODIES)


def test_odd_bodies_are_refused_and_audited_and_never_a_fault(managed: Managed) -> None:
    path = f"{managed.task_path}/timeout"
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
        answer = httpx.put(managed.url + path, content=body, headers=headers, timeout=30)
        assert 400 <= answer.status_code < 500, (body[:40], answer.status_code, answer.text)
    too_large = httpx.put(managed.url + path, content=b" " * 5_000_000, headers=headers, timeout=30)
    assert too_large.status_code == 413
    endless = httpx.put(managed.url + path, content=iter([b"{}"]), headers=headers, timeout=30)
    assert endless.status_code == 413
    rows = managed.outcomes().values()
    assert [row.outcome for row in rows] == ["refused"] * (len(odd) + 2)


def test_who_has_no_token_or_not_the_role_is_refused_and_audited(managed: Managed) -> None:
    for who in (None, "stranger"):
        for method, path in (("GET", managed.limit_path), ("PUT", managed.limit_path)):
            answer = managed.ask(method, path, LIMIT if method == "PUT" else None, who)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    for who, path, body in (
        ("viewer", managed.limit_path, LIMIT),
        ("platform", managed.limit_path, LIMIT),
        ("controller", f"{managed.task_path}/timeout", {"revision": 1, "timeout_ms": 5}),
    ):
        assert managed.put(path, body, who).status_code == 403
    assert managed.ask("GET", managed.limit_path, who="viewer").status_code == 404
    until(lambda: len(managed.outcomes()) == 5)
    rows = managed.outcomes().values()
    assert sorted(row.actor for row in rows) == ["(nobody)", "(nobody)", "controller", "platform", "viewer"]
    assert {row.outcome for row in rows} == {"refused"}


def test_a_token_that_is_taken_away_ends_at_once(manager: Manager) -> None:
    managed = manager.managed()
    path = manager.folder / "tokens.yaml"
    tokens = path.read_text()
    assert managed.ask("GET", managed.task_path, who="viewer").status_code == 200
    path.write_text(yaml.safe_dump([one for one in yaml.safe_load(tokens) if one["name"] != "viewer"]))
    try:
        assert managed.ask("GET", managed.task_path, who="viewer").status_code == 401
    finally:
        path.write_text(tokens)


def test_an_unknown_gateway_is_404_until_the_catalog_has_it(manager: Manager) -> None:
    managed = manager.managed()
    unknown = f"edge-{managed.gateway}"
    path = managed.limit_path.replace(managed.gateway, unknown)
    answer = managed.put(path, LIMIT, "controller")
    assert answer.status_code == 404
    assert f"not in the task catalog ({', '.join(sorted(manager.gateways()))})" in answer.json()["reason"]
    manager.write_gateways(manager.gateways() | {unknown: {"namespace": managed.gateway_namespace}})
    assert managed.put(path, LIMIT, "controller").status_code == 200


def test_the_openapi_page_names_every_path_and_its_problems(managed: Managed) -> None:
    page = managed.ask("GET", "/openapi.json", who=None).json()
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
    assert managed.ask("GET", "/docs", who=None).status_code == 200


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
