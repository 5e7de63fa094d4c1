"""The closed loop in Kubernetes: EndpointSlices of a real API in, an EnvoyFilter out, each part as its own account."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from tests.support.flink_cluster import replica_changes_submitted
from tests.support.kafka_messages import messages
from tests.support.kubernetes_accounts import namespaces
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_objects import Slices, put_pod
from tests.support.paths import ROOT
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.settings import Flink, Kafka, Settings

DEPLOY = ROOT / "deploy" / "kubernetes"
GATEWAY_NAMESPACE = "istio-ingress"  # the one of the manifest


@contextmanager
def command(config: Path, log: Path, *arguments: str) -> Iterator[None]:
    """A `tidegate` command until the block ends; it must end well."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "tidegate.cli.main", "--config", str(config), *arguments),
            env=clean,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()


def config(folder: Path, name: str, kafka: Kafka, kubeconfig: Path | None) -> Path:
    path = folder / f"{name}.toml"
    catalog = folder / "catalog.yaml"
    path.write_text(
        f"""\
[kafka]
bootstrap_servers = {json.dumps(kafka.bootstrap_servers)}
topic_prefix = {json.dumps(kafka.topic_prefix)}
[kubernetes]
kubeconfig = {json.dumps(str(kubeconfig))}
[watcher]
refresh_seconds = 5
namespace_selector = "loop={kafka.topic_prefix.strip(".")}"
[catalog]
file = {json.dumps(str(catalog))}
[limits]
target = "kubernetes"
"""
    )
    return path


@pytest.mark.timeout(600)
def test_endpoint_slices_become_one_envoy_filter_that_is_patched_and_never_made_anew(
    kafka: Kafka, flink_cluster: str, kubernetes_api: KubernetesApi, tmp_path: Path
) -> None:
    mark = kafka.topic_prefix.strip(".")
    namespaces(kubernetes_api, "tidegate", GATEWAY_NAMESPACE)
    for manifest in ("watcher-rbac.yaml", "limit-rbac.yaml"):
        kubernetes_api.apply(DEPLOY / manifest)
    admin = kubernetes_api.client()
    department = kubernetes_api.new_namespace({"loop": mark})
    gateway = f"gateway-{mark}"
    labels = {"istio": gateway}
    slices = Slices(admin, department)
    slices.put("service-chat", dict.fromkeys(("a", "b", "c", "d"), "ready"))
    slices.put("service-ocr", {"x": "ready"})
    put_pod(admin, GATEWAY_NAMESPACE, f"{gateway}-0", labels, ready=True)
    (tmp_path / "catalog.yaml").write_text(
        yaml.safe_dump(
            {
                "gateways": {gateway: {"namespace": GATEWAY_NAMESPACE, "labels": labels}},
                "departments": {
                    department: {
                        "gateway": gateway,
                        "tasks": {"chat": {"qps_per_replica": 10.0}, "ocr": {"qps_per_replica": 3.0}},
                    }
                },
            }
        )
    )
    ensure_topics(kafka, topics.ALL_TOPICS)
    settings = Settings(kafka=kafka, flink=Flink(rest_address=flink_cluster, checkpoint_dir=tmp_path))
    watcher = kubernetes_api.settings_as("tidegate", "tidegate-watcher").kubeconfig
    limit = kubernetes_api.settings_as("tidegate", "tidegate-limit").kubeconfig
    seen: set[str] = set()

    def in_force() -> dict[str, float]:
        found = envoy_filter(admin, gateway)
        if found is None:
            return {}
        seen.add(found["metadata"]["uid"])
        return {
            key: tokens for patch in found["spec"]["configPatches"][1:] for key, tokens in [qps_of(patch)]
        }

    with ExitStack() as running:
        running.enter_context(replica_changes_submitted(settings, flink_cluster))
        running.enter_context(
            command(config(tmp_path, "watch", kafka, watcher), tmp_path / "watch.log", "watch")
        )
        running.enter_context(
            command(config(tmp_path, "limit", kafka, limit), tmp_path / "limit.log", "limit")
        )
        until(lambda: in_force() == pytest.approx({"chat": 40, "ocr": 3}, rel=0.003), "the first limits")
        slices.put("service-chat", {"a": "ready", "b": "ready", "c": "terminating", "d": "starting"})
        until(lambda: in_force() == pytest.approx({"chat": 20, "ocr": 3}, rel=0.003), "the cut")
        put_pod(admin, GATEWAY_NAMESPACE, f"{gateway}-1", labels, ready=True)
        until(
            lambda: in_force() == pytest.approx({"chat": 10, "ocr": 1.5}, rel=0.003),
            "half for each of two gateways",
        )
        slices.delete("service-ocr")
        until(
            lambda: in_force() == pytest.approx({"chat": 10, "ocr": 0.5}, rel=0.003),
            "the floor of a task without replicas",
        )
        slices.put("service-chat", dict.fromkeys(("a", "b", "c", "d"), "ready"))
        until(lambda: in_force() == pytest.approx({"chat": 20, "ocr": 0.5}, rel=0.003), "the raise")
    assert len(seen) == 1
    mine = [
        item["metadata"]["name"]
        for item in client.CustomObjectsApi(admin).list_namespaced_custom_object(
            "networking.istio.io", "v1alpha3", GATEWAY_NAMESPACE, "envoyfilters"
        )["items"]
        if gateway in item["metadata"]["name"]
    ]
    assert mine == [f"tidegate-rate-limits-{gateway}"]
    rows = [
        RateLimitRow.model_validate_json(message.value() or b"")
        for message in messages(kafka, topics.RATE_LIMITS)
    ]
    chat = [row for row in rows if (row.department, row.task) == TaskKey(department, "chat")]
    applied = [(row.replicas, row.gateways, row.limit_qps) for row in chat if row.state == "applied"]
    assert applied == [(4, 1, 40), (2, 1, 20), (2, 2, 20), (4, 2, 40)]
    assert {row.state for row in rows} == {"decided", "applied"}


def envoy_filter(admin: client.ApiClient, gateway: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.CustomObjectsApi(admin).get_namespaced_custom_object(
            "networking.istio.io",
            "v1alpha3",
            GATEWAY_NAMESPACE,
            "envoyfilters",
            f"tidegate-rate-limits-{gateway}",
        )
    except client.ApiException as error:
        if error.status == 404:
            return None
        raise
    return found


def qps_of(patch: dict[str, Any]) -> tuple[str, float]:
    """A task and its limit in requests per second, as Envoy would read the patch."""
    value = patch["patch"]["value"]
    task = value["metadata"]["filter_metadata"]["tidegate"]["task"]
    (config,) = value["typed_per_filter_config"].values()
    bucket = config["token_bucket"]
    return task, round(bucket["tokens_per_fill"] / float(bucket["fill_interval"].removesuffix("s")), 3)
