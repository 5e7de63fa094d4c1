"""`tidegate watch`, from a source to rows in a real Kafka, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.kafka_messages import messages
from tests.support.kubernetes_api import KubernetesApi
from tests.support.kubernetes_objects import Condition, Slices, put_pod
from tests.support.prometheus_samples import deployment, pod
from tests.support.waiting import LIMIT_SECONDS, until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas.rows.limits import GatewayRow, ReplicasRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import DEAD_LETTERS, GATEWAYS, PROMETHEUS_METRICS, REPLICAS, Topic

CHANGES = 50


@contextmanager
def watching(kafka: Kafka, folder: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """The command, with these settings."""
    given = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "watcher.refresh_seconds": "3",
        **settings,
    }
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tidegate.cli.main"),
            *(part for name, value in given.items() for part in ("--set", f"{name}={value}")),
            "watch",
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def rows(kafka: Kafka, topic: Topic) -> list[dict[str, Any]]:
    return [orjson.loads(message.value() or b"") for message in messages(kafka, topic)]


def counts(kafka: Kafka, department: str) -> list[int]:
    """What the rows say of the ready replicas of one department's only task, repetitions left out."""
    said: list[int] = []
    for row in rows(kafka, REPLICAS):
        if row["department"] == department and said[-1:] != [row["replicas_ready"]]:
            said.append(row["replicas_ready"])
    return said


def test_replicas_and_gateways_of_the_api_are_rows_until_it_is_reported_to_end(
    kafka: Kafka, kubernetes_api: KubernetesApi, tmp_path: Path
) -> None:
    ensure_topics(kafka, [REPLICAS, GATEWAYS])
    slices = Slices(kubernetes_api.client(), kubernetes_api.new_namespace())
    put_pod(kubernetes_api.client(), slices.namespace, "edge-1", {"istio": "edge"}, ready=True)
    slices.put("service-chat", {"a": "ready", "b": "starting"})
    catalog = tmp_path / "tasks.yaml"
    catalog.write_text(f"gateways: {{edge: {{namespace: {slices.namespace}}}}}\n")
    reach = {"kubernetes.kubeconfig": str(kubernetes_api.admin), "catalog.file": str(catalog)}
    with watching(kafka, tmp_path, **reach) as process:
        until(lambda: counts(kafka, slices.namespace) == [1])
        slices.put("service-chat", {"a": "ready", "b": "ready"})
        until(lambda: counts(kafka, slices.namespace) == [1, 2])
        until(lambda: rows(kafka, GATEWAYS) != [])
        process.send_signal(signal.SIGTERM)
        reported, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, reported
    assert "EndpointSlices of all namespaces; gateways: edge" in reported
    for message in messages(kafka, REPLICAS):
        row = ReplicasRow.model_validate_json(message.value() or b"")
        assert message.key() == f"{row.department}/{row.task}".encode()
    gateways = [GatewayRow.model_validate(row) for row in rows(kafka, GATEWAYS)]
    assert {(row.gateway, row.gateways) for row in gateways} == {("edge", ("edge-1",))}


def test_gateways_of_a_catalog_that_is_in_its_topic_only_are_followed_through_its_changes(
    kafka: Kafka, kubernetes_api: KubernetesApi, tmp_path: Path
) -> None:
    ensure_topics(kafka, [REPLICAS, GATEWAYS])
    namespace = kubernetes_api.new_namespace()
    for gateway in ("edge", "inner"):
        put_pod(kubernetes_api.client(), namespace, f"{gateway}-1", {"istio": gateway}, ready=True)

    def publish(*gateways: str) -> None:
        """A catalog with a task at each of these gateways, as an operator would."""
        catalog = {
            "gateways": {gateway: {"namespace": namespace} for gateway in gateways},
            "departments": {
                gateway: {"gateway": gateway, "tasks": {"chat": {"qps_per_replica": 5}}}
                for gateway in gateways
            },
        }
        file = tmp_path / "published.yaml"
        file.write_text(json.dumps(catalog))
        command = (
            *(sys.executable, "-m", "tidegate.cli.main"),
            *("--set", f"kafka.bootstrap_servers={kafka.bootstrap_servers}"),
            *("--set", f"kafka.topic_prefix={kafka.topic_prefix}"),
            *("catalog", "publish", str(file)),
        )
        subprocess.run(command, cwd=tmp_path, check=True, timeout=LIMIT_SECONDS)

    def ready() -> set[tuple[str, tuple[str, ...]]]:
        found = (GatewayRow.model_validate(row) for row in rows(kafka, GATEWAYS))
        return {(row.gateway, row.gateways) for row in found if row.gateways}

    publish("edge")
    with watching(kafka, tmp_path, **{"kubernetes.kubeconfig": str(kubernetes_api.admin)}) as process:
        until(lambda: ready() == {("edge", ("edge-1",))})
        publish("edge", "inner")
        until(lambda: ready() == {("edge", ("edge-1",)), ("inner", ("inner-1",))})
        process.send_signal(signal.SIGTERM)
        reported, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, reported
    assert "gateways: edge" in reported


def test_an_interrupt_is_130_and_a_wrong_catalog_is_a_failure(
    kafka: Kafka, kubernetes_api: KubernetesApi, tmp_path: Path
) -> None:
    ensure_topics(kafka, [REPLICAS, GATEWAYS])
    slices = Slices(kubernetes_api.client(), kubernetes_api.new_namespace())
    slices.put("service-chat", {"a": "ready"})
    reach = {"kubernetes.kubeconfig": str(kubernetes_api.admin)}
    with watching(kafka, tmp_path, **reach) as process:
        until(lambda: counts(kafka, slices.namespace) == [1])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 130
    (tmp_path / "tasks.yaml").write_text("gateways: nonsense\n")
    with watching(kafka, tmp_path, **reach, **{"catalog.file": "tasks.yaml"}) as process:
        reported, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 1
    assert "tasks.yaml: gateways" in reported


def test_a_source_without_labels_refuses_selectors(kafka: Kafka, tmp_path: Path) -> None:
    wrong = {"watcher.source": "prometheus", "watcher.namespace_selector": "team=vision"}
    with watching(kafka, tmp_path, **wrong) as process:
        reported, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 2
    assert "source prometheus doesn't support label selectors" in reported


def test_samples_of_kube_state_metrics_are_rows_with_their_own_time(kafka: Kafka, tmp_path: Path) -> None:
    ensure_topics(kafka, [PROMETHEUS_METRICS, DEAD_LETTERS, REPLICAS, GATEWAYS])
    catalog = tmp_path / "tasks.yaml"
    catalog.write_text("gateways: {edge: {namespace: ingress}}\n")
    start = datetime.now(UTC).replace(microsecond=0)
    producer = Producer({**kafka.client_config()})

    def send(*values: Mapping[str, Any] | bytes) -> None:
        """To one partition, which keeps their order."""
        for value in values:
            body = value if isinstance(value, bytes) else json.dumps(value).encode()
            producer.produce(kafka.topic(PROMETHEUS_METRICS), body, partition=0)
        assert producer.flush(LIMIT_SECONDS) == 0

    name = "service-chat-6c5d8f7b9d-bbbbb"
    reach = {"watcher.source": "prometheus", "catalog.file": str(catalog)}
    with watching(kafka, tmp_path, **reach) as process:
        second = 0

        def reported() -> bool:
            """The watcher reads what comes after it has joined: so one more scrape, until one is seen."""
            nonlocal second
            second += 1
            send(
                pod(start + timedelta(seconds=second), name),
                deployment(start + timedelta(seconds=second), "1"),
            )
            return counts(kafka, "vision") == [1]

        until(reported)
        later = start + timedelta(seconds=second + 100)
        send(
            b"kube_pod_status_ready, but no JSON",
            deployment(later, "3"),
            deployment(later, "3"),
            deployment(later - timedelta(seconds=1), "0"),
            deployment(later + timedelta(seconds=1), "NaN"),
            deployment(later, "2", name="edge", namespace="ingress"),
        )
        until(lambda: counts(kafka, "vision") == [1, 3])
        until(lambda: rows(kafka, GATEWAYS) != [] and rows(kafka, DEAD_LETTERS) != [])
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, output
    assert counts(kafka, "vision") == [1, 3]
    last = ReplicasRow.model_validate(
        [row for row in rows(kafka, REPLICAS) if row["department"] == "vision"][-1]
    )
    assert (last.source, last.observed_at) == ("prometheus", later)
    (gateway,) = (GatewayRow.model_validate(row) for row in rows(kafka, GATEWAYS))
    assert (gateway.gateway, gateway.gateways_ready) == ("edge", 2)
    (letter,) = rows(kafka, DEAD_LETTERS)
    assert letter["id"].endswith("|watcher")


def test_every_one_of_many_changes_is_a_row_and_how_long_it_takes_is_printed(
    kafka: Kafka, kubernetes_api: KubernetesApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From before the write to the API until the row is read from Kafka; a figure, not a claim."""
    ensure_topics(kafka, [REPLICAS, GATEWAYS])
    slices = Slices(kubernetes_api.client(), kubernetes_api.new_namespace())
    states: tuple[dict[str, Condition], ...] = ({"a": "ready"}, {"a": "ready", "b": "ready"})
    slices.put("service-chat", states[0])
    consumer = Consumer({**kafka.client_config(), "group.id": "latency", "fetch.wait.max.ms": 10})
    topic = kafka.topic(REPLICAS)
    partitions = consumer.list_topics(topic, timeout=LIMIT_SECONDS).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])

    def wait_for(ready: int) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is not None and message.error() is None:
                row = orjson.loads(message.value() or b"")
                if (row["department"], row["replicas_ready"]) == (slices.namespace, ready):
                    return
        raise AssertionError(f"no row with {ready} ready replicas")

    waits_ms = []
    reach = {"kubernetes.kubeconfig": str(kubernetes_api.admin), "watcher.refresh_seconds": "300"}
    with watching(kafka, tmp_path, **reach):
        wait_for(1)
        for number in range(CHANGES):
            began = time.monotonic()
            slices.put("service-chat", states[(number + 1) % 2])
            wait_for(2 - number % 2)
            waits_ms.append((time.monotonic() - began) * 1000)
    consumer.close()
    waits_ms.sort()
    middle, high = waits_ms[CHANGES // 2], waits_ms[int(CHANGES * 0.95)]
    with capsys.disabled():
        print(  # noqa: T201
            f"\nEndpointSlice written to row read from Kafka, {CHANGES} changes: "
            f"median {middle:.0f} ms, p95 {high:.0f} ms, longest {waits_ms[-1]:.0f} ms"
        )
