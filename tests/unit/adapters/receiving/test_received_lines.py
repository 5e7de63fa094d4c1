"""The same request through the access log service and through OTLP is the line of the file."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.support.lines import record
from tidegate.adapters.receiving.als import http_line, tcp_line
from tidegate.adapters.receiving.otlp import lines_of_request
from tidegate.adapters.receiving.proto import access_log_service_pb2

_pb2: Any = access_log_service_pb2
FILE = record(start_time="2026-11-24T10:00:00.250Z", requested_server_name=None, traceparent=None)


def _socket(address: str) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"socketAddress": {"address": host, "portValue": int(port)}}


def _common() -> dict[str, Any]:
    return {
        "startTime": "2026-11-24T10:00:00.250999Z",
        "duration": "0.120s",
        "timeToFirstUpstreamRxByte": "0.117s",
        "upstreamRequestAttemptCount": 1,
        "downstreamRemoteAddress": _socket(FILE["downstream_remote_address"]),
        "downstreamLocalAddress": _socket(FILE["downstream_local_address"]),
        "upstreamRemoteAddress": _socket(FILE["upstream_host"]),
        "upstreamLocalAddress": _socket(FILE["upstream_local_address"]),
        "upstreamCluster": FILE["upstream_cluster"],
        "routeName": FILE["route_name"],
        "customTags": {"gateway": FILE["gateway"]},
    }


def _entry(**response: Any) -> Any:
    request = {
        "method": 3,
        "authority": FILE["authority"],
        "path": FILE["path"],
        "userAgent": FILE["user_agent"],
        "forwardedFor": FILE["x_forwarded_for"],
        "requestId": FILE["request_id"],
        "bodyBytes": 512,
        "headers": {"taskid": FILE["taskid"], "x-client-id": FILE["client"]},
    }
    answer = {
        "code": 200,
        "bodyBytes": 2048,
        "codeDetails": "via_upstream",
        "headers": {"x-envoy-upstream-service-time": "118"},
    }
    entry = {"common": _common(), "protocolVersion": 3, "request": request, "response": answer | response}
    return ParseDict(entry, _pb2.HttpEntry())


def test_an_http_entry_is_the_line_of_the_file() -> None:
    assert json.loads(http_line(_entry())) == FILE


def test_flags_and_other_addresses() -> None:
    entry = _entry()
    entry.common.response_flags.UF = entry.common.response_flags.URX = True
    entry.common.upstream_remote_address.socket_address.address = "fd00::1"
    entry.common.upstream_local_address.Clear()
    line = json.loads(http_line(entry))
    assert line["response_flags"] == "UF,URX"
    assert line["upstream_host"] == "[fd00::1]:8080"
    assert line["upstream_local_address"] is None


def test_a_tcp_connection_has_neither_method_nor_protocol() -> None:
    entry = ParseDict(
        {"common": _common(), "connection": {"receivedBytes": 1, "sentBytes": 2}}, _pb2.TcpEntry()
    )
    line = json.loads(tcp_line(entry))
    assert (line["method"], line["protocol"], line["response_code"]) == (None, None, 0)
    assert (line["bytes_received"], line["bytes_sent"]) == (1, 2)
    assert line.keys() == FILE.keys()


def _otlp(log_record: dict[str, Any]) -> list[bytes]:
    content = {"resourceLogs": [{"scopeLogs": [{"logRecords": [log_record]}]}]}
    return lines_of_request(ParseDict(content, ExportLogsServiceRequest()))


def test_attributes_of_an_otlp_record_are_the_line_of_the_file() -> None:
    # Envoy's OpenTelemetry access logger writes every value as a text, "-" where it is unknown.
    pairs = [
        {"key": key, "value": {"stringValue": "-" if value is None else str(value)}}
        for key, value in FILE.items()
    ]
    assert [json.loads(line) for line in _otlp({"attributes": pairs})] == [FILE]


def test_a_body_that_is_the_line_goes_as_it_is() -> None:
    text = json.dumps(FILE)
    assert _otlp({"body": {"stringValue": f"2026-11-30T15:00:00.1Z stdout F {text}"}}) == [text.encode()]
    assert _otlp({"body": {"stringValue": '[2026-11-30] "GET /x"'}}) == [b'[2026-11-30] "GET /x"']
