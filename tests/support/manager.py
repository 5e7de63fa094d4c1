"""A K8S manager as a process in front of a real API server, and a department and a gateway on it."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from kubernetes import client

from tests.support.kafka_messages import messages
from tests.support.kubernetes_api import KubernetesApi
from tidegate.jobs.logic.istio.objects import ENVOY_FILTER, Kind
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.rows.limits import ChangeRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.settings.limits import Kubernetes, Limits
from tidegate.schemas.topics import CHANGES

TOKENS = {"controller": ("read", "limit"), "platform": ("read", "route"), "viewer": ("read",)}
BUCKET = {"max_tokens": 20, "tokens_per_fill": 10, "fill_interval_ms": 1000}
LIMIT = {"revision": 1, "route": "chat", "bucket": BUCKET}


class Managed:
    """A department and a gateway of one test, at a manager that other tests may use too."""

    def __init__(
        self,
        url: str,
        kafka: Kafka,
        api: KubernetesApi,
        department: str,
        gateway: str,
        gateway_namespace: str,
    ) -> None:
        self.url = url
        self.kafka = kafka
        self.department = department
        self.gateway = gateway
        self.gateway_namespace = gateway_namespace
        self.objects = client.CustomObjectsApi(api.client())
        self.limit_path = f"/v1/gateways/{gateway}/tasks/{department}/chat/rate-limit"
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
        """Every row of this department or gateway, in the order of writing."""
        rows = [ChangeRow.model_validate_json(one.value() or b"") for one in messages(self.kafka, CHANGES)]
        return [row for row in rows if row.department == self.department or row.gateway == self.gateway]

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
        assert (
            self.put(f"{self.task_path}/gateway", {"revision": 1, "gateway": self.gateway}).status_code == 200
        )


@dataclass(frozen=True)
class Manager:
    """`tidegate manager`, which runs in `folder`."""

    url: str
    folder: Path
    kafka: Kafka
    api: KubernetesApi

    def managed(self, department: str = "", gateway_namespace: str = "") -> Managed:
        """A department and a gateway that no other test has; the gateway is in the catalog."""
        department = department or self.api.new_namespace()
        gateway_namespace = gateway_namespace or self.api.new_namespace()
        gateway = f"gateway-{uuid.uuid4().hex[:8]}"
        self.write_gateways(self.gateways() | {gateway: {"namespace": gateway_namespace}})
        return Managed(self.url, self.kafka, self.api, department, gateway, gateway_namespace)

    def gateways(self) -> dict[str, Any]:
        """Those of the catalog."""
        found: dict[str, Any] = yaml.safe_load((self.folder / "catalog.yaml").read_text())["gateways"]
        return found

    def write_gateways(self, gateways: dict[str, Any]) -> None:
        """The catalog with these, in one step."""
        draft = self.folder / "catalog.new"
        draft.write_text(yaml.safe_dump({"gateways": gateways}))
        draft.replace(self.folder / "catalog.yaml")


@contextmanager
def manager(folder: Path, kafka: Kafka, api: KubernetesApi, kubernetes: Kubernetes) -> Iterator[Manager]:
    """`tidegate manager` as a process of its own, as a user starts it."""
    callers = [
        {
            "name": name,
            "token_sha256": hashlib.sha256(f"token-of-{name}".encode()).hexdigest(),
            "roles": list(roles),
        }
        for name, roles in TOKENS.items()
    ]
    (folder / "tokens.yaml").write_text(yaml.safe_dump(callers))
    (folder / "catalog.yaml").write_text(yaml.safe_dump({"gateways": {}}))
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
        yield Manager(line.split()[-1], folder, kafka, api)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    said = (folder / "manager.log").read_text()
    assert "token-of-" not in said
    assert "Traceback" not in said


def limits_settings(managed: Managed, who: str = "controller") -> Limits:
    return Limits(target="http", manager_url=managed.url, manager_token=f"token-of-{who}")


def limit(task: str, revision: int = 1, qps: int = 10) -> Limit:
    return Limit(
        TaskKey("vision", task), f"route-{task}", revision, TokenBucket(2 * qps, qps, 1000),
        TokenBucket(5, 5, 1000), {"batch": TokenBucket(1, 1, 2000)},
    )  # fmt: skip
