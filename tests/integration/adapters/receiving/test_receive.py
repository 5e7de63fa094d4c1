"""The real command on the real Kafka: OTLP over HTTP and gRPC, its refusals, health, and its end."""

from __future__ import annotations

import gzip
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from tests.support.kafka_messages import messages
from tests.support.lines import line
from tidegate.adapters.receiving.grpc_server import OTLP_SERVICE
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import ACCESS_LOGS, DEAD_LETTERS


def _request(*lines: str) -> dict[str, Any]:
    records = [{"body": {"stringValue": text}} for text in lines]
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}


def _http(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named)  # noqa: S310 (http to loopback)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_lines_by_every_way_are_in_kafka_once_they_are_answered(kafka: Kafka) -> None:
    options = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "receive.grpc_port": "0",
        "receive.http_port": "0",
        "receive.max_line_bytes": "2048",
        "receive.max_request_bytes": "65536",
    }
    command = [sys.executable, "-m", "tidegate.cli.main"]
    command += [part for name, value in options.items() for part in ("--set", f"{name}={value}")]
    process = subprocess.Popen([*command, "receive"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.fullmatch(r"gRPC: (\S+); OTLP over HTTP: (\S+)/v1/logs\n", process.stdout.readline())
        assert found
        address, base = found.groups()
        logs = f"{base}/v1/logs"
        sent = [line(request_id=f"r{number}") for number in range(4)]
        as_json = json.dumps(_request(sent[0])).encode()
        assert _http(logs, as_json, content_type="application/json") == (200, b"{}")
        packed = gzip.compress(ParseDict(_request(sent[1]), ExportLogsServiceRequest()).SerializeToString())
        protobuf = "application/x-protobuf"
        assert _http(logs, packed, content_type=protobuf, content_encoding="gzip") == (200, b"")
        with grpc.insecure_channel(address) as channel:
            export = channel.unary_unary(
                f"/{OTLP_SERVICE}/Export",
                ExportLogsServiceRequest.SerializeToString,
                ExportLogsServiceResponse.FromString,
            )
            export(ParseDict(_request(sent[2], "x" * 3000, sent[3]), ExportLogsServiceRequest()), timeout=20)
        assert [message.value() for message in messages(kafka, ACCESS_LOGS)].count(sent[3].encode()) == 1
        assert sorted(message.value() or b"" for message in messages(kafka, ACCESS_LOGS)) == sorted(
            text.encode() for text in sent
        )
        letters = [json.loads(message.value() or b"") for message in messages(kafka, DEAD_LETTERS)]
        assert ["receive.max_line_bytes" in letter["reason"] for letter in letters] == [True]
        assert _http(logs, b"{", content_type="application/json")[0] == 400
        assert _http(logs, b"", content_type="text/plain")[0] == 415
        bomb = gzip.compress(b" " * 1_000_000)
        assert _http(logs, bomb, content_type="application/json", content_encoding="gzip")[0] == 413
        assert _http(logs, b" " * 70_000, content_type="application/json")[0] == 413
        assert [_http(f"{base}/{path}")[0] for path in ("healthz", "readyz")] == [200, 200]
        metrics = _http(f"{base}/metrics")[1].decode()
        assert 'tidegate_receive_lines_total{outcome="delivered",protocol="otlp"} 4.0' in metrics
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
