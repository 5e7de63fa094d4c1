"""The remote-write receiver: a real Prometheus writes to the real command, and its bad days over HTTP."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cramjam
import pytest
from confluent_kafka.admin import AdminClient
from prometheus_api_client import PrometheusConnect

from tests.conftest import up
from tests.support.kafka_messages import messages
from tests.support.waiting import until
from tidegate.adapters.remote_write.proto import remote_write_pb2, remote_write_v2_pb2
from tidegate.schemas.settings import Kafka, Settings, Stack
from tidegate.schemas.topics import PROMETHEUS_METRICS
from tidegate.stack.local import LocalStack
from tidegate.stack.prometheus import PROMETHEUS, PrometheusServer, Scraping, url

START_MS = 1_795_514_400_000
CPU = "container_cpu_usage_seconds_total"
V1 = "application/x-protobuf"
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"


class Exporter(ThreadingHTTPServer):
    """A real target: a counter that grows with each scrape, and a metric that nobody wants."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Scrape)
        self.scrapes = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Scrape(BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        self.server.scrapes += 1
        labels = 'namespace="vision",pod="chat-0",container="model",secret_id="x"'
        body = (
            f"container_cpu_usage_seconds_total{{{labels}}} {self.server.scrapes * 0.25}\n"
            f"container_memory_working_set_bytes{{{labels}}} NaN\n"
            f"go_goroutines 7\n"
        ).encode()
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def command(kafka: Kafka, folder: Path, **settings: Any) -> Iterator[str]:
    """The real command on a free port; gives its URL."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    assignments = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "stack.state_dir": str(folder),
    }
    environment |= {f"TIDEGATE_REMOTE_WRITE__{name.upper()}": str(value) for name, value in settings.items()}
    sets = [part for name, value in assignments.items() for part in ("--set", f"{name}={value}")]
    process = subprocess.Popen(
        (sys.executable, "-m", "tidegate.cli.main", *sets, "remote-write", "--port", "0"),
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None, process.stdout.read()
        yield found[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def post(address: str, body: bytes, content_type: str = V1, **headers: str) -> tuple[int, str, Any]:
    """Status, text and headers of the answer."""
    request = urllib.request.Request(  # noqa: S310 (loopback, http)
        address,
        body,
        {"content-type": content_type, "content-encoding": "snappy", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def packed(message: Any) -> bytes:
    return bytes(cramjam.snappy.compress_raw(message.SerializeToString()))


def request_v1(series: list[dict[str, str]], samples: int = 1) -> bytes:
    message = remote_write_pb2.WriteRequest()
    for labels in series:
        one = message.timeseries.add()
        for name, value in labels.items():
            one.labels.add(name=name.encode(errors="surrogateescape"), value=value.encode())
        for index in range(samples):
            one.samples.add(value=float(index), timestamp=START_MS + 1000 * index)
    return packed(message)


def cpu(pod: str = "chat-0", **labels: str) -> dict[str, str]:
    return {"__name__": CPU, "namespace": "vision", "pod": pod, **labels}


def written(kafka: Kafka) -> list[dict[str, Any]]:
    return [json.loads(message.value() or b"") for message in messages(kafka, PROMETHEUS_METRICS)]


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with Exporter() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    stack = LocalStack(Settings(stack=Stack(state_dir=tmp_path)), ())
    yield stack
    stack.down(purge=True)


def test_what_a_real_prometheus_scrapes_is_in_kafka_as_prometheus_itself_has_it(
    kafka: Kafka, stack: LocalStack, exporter: Exporter, tmp_path: Path
) -> None:
    with command(kafka, tmp_path, drop_labels='["secret_.*"]') as address:
        scraping = Scraping({"cadvisor": [exporter.address]}, [address], interval_seconds=0.5)
        stack.add(PrometheusServer(scraping))
        up(stack, PROMETHEUS)
        until(lambda: exporter.scrapes >= 8, "scrapes")
        until(lambda: len(of(written(kafka), CPU)) >= 6, "samples in Kafka")
        found = written(kafka)
        client = PrometheusConnect(url(stack, PROMETHEUS))
        (series,) = client.custom_query(f"{CPU}[5m]")
    own = {(round(float(at) * 1000), float(value)) for at, value in series["values"]}
    mine = of(found, CPU)
    assert len(mine) >= 6
    for sample in mine:
        assert (epoch_ms(sample["timestamp"]), float(sample["value"])) in own
        assert sample["labels"] == {
            name: value for name, value in series["metric"].items() if name != "secret_id"
        }
    assert {sample["value"] for sample in of(found, "container_memory_working_set_bytes")} == {"NaN"}
    assert of(found, "go_goroutines") == []


@pytest.mark.slow
def test_what_a_real_prometheus_scrapes_while_kafka_is_away_is_in_kafka_afterwards(
    own_kafka: Kafka, own_stack: LocalStack, stack: LocalStack, exporter: Exporter, tmp_path: Path
) -> None:
    with command(own_kafka, tmp_path, timeout_seconds=1, retry_after_seconds=1) as address:
        stack.add(
            PrometheusServer(Scraping({"cadvisor": [exporter.address]}, [address], interval_seconds=0.5))
        )
        up(stack, PROMETHEUS)
        until(lambda: len(of(written(own_kafka), CPU)) >= 4, "samples in Kafka")
        own_stack.kill("kafka")
        until(lambda: refusals(address) >= 2, "Prometheus is refused")
        missed = exporter.scrapes
        until(lambda: exporter.scrapes >= missed + 10, "scrapes that can't be written")
        up(own_stack, "kafka")
        back = exporter.scrapes + 4
        client = PrometheusConnect(url(stack, PROMETHEUS))

        def own() -> list[tuple[int, float]]:
            (series,) = client.custom_query(f"{CPU}[5m]")
            return [(round(float(at) * 1000), float(value)) for at, value in series["values"]]

        until(lambda: len(own()) >= back - 1, "scrapes after the outage")
        wanted = [one for one in own() if one[1] <= 0.25 * back]

        def all_there() -> bool:
            found = of(written(own_kafka), CPU)
            mine = {(epoch_ms(one["timestamp"]), float(one["value"])) for one in found}
            return mine >= set(wanted)

        until(all_there, "every sample in Kafka")
        assert len(wanted) >= missed + 10


def refusals(address: str) -> float:
    """How often the command has answered 503."""
    metrics = address.replace("/api/v1/write", "/metrics")
    with urllib.request.urlopen(metrics, timeout=10) as answer:  # noqa: S310 (loopback, http)
        found = re.search(rb'requests_total\{code="503"\} (\S+)', answer.read())
    return float(found[1]) if found else 0.0


def of(samples: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [sample for sample in samples if sample["name"] == name]


def epoch_ms(text: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_both_versions_and_ten_thousand_samples_at_once(kafka: Kafka, tmp_path: Path) -> None:
    with command(kafka, tmp_path) as address:
        status, text, _ = post(address, request_v1([cpu(f"chat-{index}") for index in range(1000)], 10))
        assert (status, text) == (204, "")
        assert len(written(kafka)) == 10_000

        message = remote_write_v2_pb2.Request()
        message.symbols.extend([b"", *(part.encode() for pair in cpu("v2").items() for part in pair)])
        one = message.timeseries.add()
        one.labels_refs.extend(range(1, 7))
        one.samples.add(value=0.1, timestamp=START_MS + 1)
        one.histograms.append(b"")
        status, _, headers = post(address, packed(message), V2)
        assert status == 204
        assert headers["X-Prometheus-Remote-Write-Samples-Written"] == "1"
        assert headers["X-Prometheus-Remote-Write-Histograms-Written"] == "0"
        (sample,) = [sample for sample in written(kafka) if sample["labels"]["pod"] == "v2"]
        assert sample == {
            "timestamp": "2026-11-24T10:00:00.001Z",
            "value": "0.1",
            "name": "container_cpu_usage_seconds_total",
            "labels": cpu("v2"),
        }
        metrics = urllib.request.urlopen(  # noqa: S310
            address.replace("/api/v1/write", "/metrics"), timeout=10
        ).read()
        assert b'tidegate_remote_write_samples_total{outcome="written"} 10001.0' in metrics
        assert b'tidegate_remote_write_samples_total{outcome="histogram_not_written"} 1.0' in metrics


def test_what_can_not_be_read_is_refused_with_its_reason_and_the_rest_is_written(
    kafka: Kafka, tmp_path: Path
) -> None:
    with command(kafka, tmp_path, max_unpacked_bytes=100_000) as address:
        assert post(address, b"\xff\xff\xff\xff\xff\xff")[0] == 400
        status, text, _ = post(address, bytes(cramjam.snappy.compress_raw(b"\xff\xff")))
        assert status == 400
        assert "not a valid prometheus.WriteRequest" in text
        assert post(address, request_v1([cpu()]), "application/json")[0] == 415
        assert post(address, request_v1([cpu()]), V1 + ";proto=other")[0] == 415
        assert post(address, request_v1([cpu()]), **{"content-encoding": "gzip"})[0] == 415
        status, text, _ = post(address, bytes(cramjam.snappy.compress_raw(b"\0" * 200_000)))
        assert status == 413
        assert "max_unpacked_bytes" in text
        assert written(kafka) == []
        status, text, _ = post(address, request_v1([cpu(), {"pod": "x"}, cpu(**{"bad\udcff": "x"})]))
        assert status == 400
        assert "no label __name__" in text
        assert "is not valid UTF-8" in text
        assert [sample["labels"]["pod"] for sample in written(kafka)] == ["chat-0"]


def test_of_two_prometheus_that_scrape_the_same_one_is_taken_until_it_is_silent(
    kafka: Kafka, tmp_path: Path
) -> None:
    def send(replica: str, pod: str) -> None:
        assert post(address, request_v1([cpu(pod, cluster="eu", __replica__=replica)]))[0] == 204

    with command(kafka, tmp_path, ha_failover_seconds=1) as address:
        for index in range(3):
            send("a", f"a{index}")
            send("b", f"b{index}")
        assert {sample["labels"]["pod"] for sample in written(kafka)} == {"a0", "a1", "a2"}
        assert all("__replica__" not in sample["labels"] for sample in written(kafka))

        def taken() -> bool:
            send("b", "later")
            return any(sample["labels"]["pod"] == "later" for sample in written(kafka))

        until(taken, "the other one takes its place")


def test_without_kafka_prometheus_is_asked_to_send_again(kafka: Kafka, tmp_path: Path) -> None:
    """The topic's broker is there, and the topic is not: nothing is acknowledged that isn't in Kafka."""
    with command(kafka, tmp_path, timeout_seconds=1) as address:
        assert post(address, request_v1([cpu()]))[0] == 204
        name = kafka.topic(PROMETHEUS_METRICS)
        admin = AdminClient(kafka.client_config())
        admin.delete_topics([name])[name].result(30)
        found: list[tuple[int, str, Any]] = []

        def refused() -> bool:
            found[:] = [post(address, request_v1([cpu()]))]
            return found[0][0] == 503

        until(refused, "a refusal")
        assert found[0][2]["Retry-After"] == "5"
        assert "Kafka did not acknowledge all samples" in found[0][1]
