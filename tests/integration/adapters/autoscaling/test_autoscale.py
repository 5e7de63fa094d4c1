"""Autoscaling signals as KEDA and Prometheus get them: the real command, the real Kafka, a generated gRPC client.

KEDA_PROTO may name KEDA's published externalscaler.proto: then the client is generated from that.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from tests.support.paths import ROOT
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas.rows.signals import AutoscalingSignals, Signal
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import AUTOSCALING_SIGNALS

PROTO = os.environ.get("KEDA_PROTO") or str(
    ROOT / "adapters" / "autoscaling" / "proto" / "external_scaler.proto"
)


def signals(task: str, desired: int | None, valid_seconds: float = 300) -> AutoscalingSignals:
    now = datetime.now(UTC)
    return AutoscalingSignals(
        id=f"vision/{task}",
        department="vision",
        task=task,
        replicas=2,
        signals=(Signal(name="qps_per_replica", value=14.5, target=10.0, desired_replicas=desired),),
        desired_replicas=desired,
        panic=False,
        held=False,
        reason="a test",
        computed_at=now,
        valid_until=now + timedelta(seconds=valid_seconds),
        revision=1,
    )


def put(kafka: Kafka, *rows: AutoscalingSignals, gone: str | None = None) -> None:
    ensure_topics(kafka, [AUTOSCALING_SIGNALS])
    producer = Producer(kafka.client_config())
    for row in rows:
        producer.produce(kafka.topic(AUTOSCALING_SIGNALS), row.model_dump_json(), row.id)
    if gone is not None:
        producer.produce(kafka.topic(AUTOSCALING_SIGNALS), None, gone)
    assert producer.flush(30) == 0


@contextmanager
def command(kafka: Kafka, folder: Path) -> Iterator[tuple[str, str]]:
    """The real command on free ports; KEDA's address and the metrics' URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    assignments = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "stack.state_dir": str(folder),
        "autoscaling.grpc_port": "0",
        "autoscaling.metrics_port": "0",
    }
    sets = [part for name, value in assignments.items() for part in ("--set", f"{name}={value}")]
    process = subprocess.Popen(
        (sys.executable, "-m", "tidegate.cli.main", *sets, "autoscale"),
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"KEDA: (\S+); Prometheus: (\S+)", line)
        assert found is not None, line + process.stdout.read()
        yield found[1], found[2]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def ask(address: str, department: str, task: str) -> dict[str, Any]:
    program = (sys.executable, str(ROOT / "tests" / "support" / "keda_client.py"))
    result = subprocess.run(
        (*program, PROTO, address, department, task), capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


def scraped(url: str) -> dict[tuple[str, str], float]:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (loopback, http)
        text = answer.read().decode()
    return {
        (sample.name, sample.labels["task"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_keda_and_prometheus_get_what_was_said_last_and_nothing_that_does_not_hold(
    kafka: Kafka, tmp_path: Path
) -> None:
    put(kafka, signals("chat", 2), signals("chat", 5), signals("asleep", 0))
    put(kafka, signals("old", 7, valid_seconds=-1), signals("unknown", None))
    with command(kafka, tmp_path) as (address, metrics):
        chat = ask(address, "vision", "chat")
        assert chat == {
            "active": True,
            "spec": [["tidegate-desired-replicas", 1, 1.0]],
            "metrics": [["tidegate-desired-replicas", 5, 5.0]],
            "stream": True,
            "health": "SERVING",
        }
        asleep = ask(address, "vision", "asleep")
        assert (asleep["active"], asleep["stream"]) == (False, False)

        # Never 0 for what isn't known: KEDA's fallback or the HPA must keep what there is.
        nobody = ask(address, "vision", "nobody")
        assert nobody["metrics"]["error"] == "NOT_FOUND"
        assert "vision/nobody has no autoscaling signals" in nobody["metrics"]["text"]
        assert nobody["stream"] == {"error": "NOT_FOUND"}
        for task in ("old", "unknown"):
            reported = ask(address, "vision", task)
            assert reported["metrics"]["error"] == reported["active"]["error"] == "UNAVAILABLE", task
        unnamed = ask(address, "", "")
        assert unnamed["spec"]["error"] == "INVALID_ARGUMENT"
        assert "needs department and task" in unnamed["spec"]["text"]

        found = scraped(metrics)
        assert found["tidegate_desired_replicas", "chat"] == 5
        assert found["tidegate_desired_replicas", "asleep"] == 0
        assert found["tidegate_signal_value", "chat"] == 14.5
        assert ("tidegate_desired_replicas", "unknown") not in found
        assert not any(task == "old" for _, task in found)

        put(kafka, signals("chat", 9), gone="vision/asleep")
        until(lambda: scraped(metrics).get(("tidegate_desired_replicas", "chat")) == 9, "the newest")
        until(lambda: ("tidegate_desired_replicas", "asleep") not in scraped(metrics), "one that has gone")
