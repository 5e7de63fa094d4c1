"""Builders of access-log lines for tests: a test names only the fields that it is about.

line(duration=12)                                  one request of 12 ms, everything else ordinary
line(start_time=at(1.5), upstream_cluster=cluster(task="chat", version="v2"))
line(absent=("duration",))                         the key is missing
rate_limited(), aborted(), unrouted(), grpc(), streamed(), upgraded(), tcp()     what Envoy writes in these cases
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate.schemas.access_log import ACCESS_LOG_FORMAT

T0 = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)
"""Start of the tests' clock: a whole minute."""
T0_MS = int(T0.timestamp()) * 1000

_USER_AGENT = "python-httpx/0.27.2 inference-sdk/4.11.0 (linux; x86_64)"
_LONG_USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.6778.85 "
    "Safari/537.36 inference-sdk/4.11.0 (lang=python; runtime=3.11.9; os=debian-12; arch=x86_64; h2)"
)
_LONG_PATH = (
    "/v1/models/{task}/versions/stable/infer?stream=true&priority=interactive&trace=on&session="
    "5f1e0c9a7b3d4e2f8a6c1b0d9e7f3a5c&locale=en-GB&tenant=retail-frontend&deadline_ms=30000"
)


def at(seconds: float) -> str:
    """A `start_time`, so many seconds after T0, to the millisecond."""
    moment = T0 + timedelta(milliseconds=round(seconds * 1000))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def cluster(task: str = "chat", department: str = "vision", version: str = "", port: int = 8080) -> str:
    """Istio's name of the cluster of a service `service-<task>` in namespace `department`."""
    return f"outbound|{port}|{version}|service-{task}.{department}.svc.cluster.local"


def record(
    *,
    absent: Collection[str] = (),
    extra: dict[str, Any] | None = None,
    size: int = 0,
    **fields: Any,
) -> dict[str, Any]:
    """One access-log line as a dict: 34 keys with ordinary values, changed by `fields`.

    absent: keys to leave out. extra: keys that the format doesn't have (such as `access_log_type`).
    size: at least so many bytes as JSON; user_agent, path and x_forwarded_for grow as in a real log,
    unless `fields` sets them.

    Raises TypeError for a field that the access log doesn't have: a misspelt name would test nothing.
    """
    unknown = (set(fields) | set(absent)) - ACCESS_LOG_FORMAT.keys()
    if unknown:
        raise TypeError(f"not keys of the access log: {', '.join(sorted(unknown))} (use extra=)")
    made: dict[str, Any] = {
        "authority": "models.example.com",
        "bytes_received": 512,
        "bytes_sent": 2048,
        "connection_termination_details": None,
        "downstream_local_address": "10.40.0.7:8443",
        "downstream_remote_address": "10.80.3.21:51844",
        "duration": 120,
        "method": "POST",
        "path": "/v1/infer",
        "protocol": "HTTP/2",
        "request_id": "8f14e45f-ceea-467f-9f6b-1d3a5c7e9b02",
        "requested_server_name": "models.example.com",
        "response_code": 200,
        "response_code_details": "via_upstream",
        "response_flags": "-",
        "route_name": "chat",
        "start_time": at(0),
        "upstream_cluster": cluster(),
        "upstream_host": "10.60.1.10:8080",
        "upstream_local_address": "10.40.0.7:39120",
        "upstream_service_time": "118",
        "upstream_transport_failure_reason": None,
        "user_agent": _USER_AGENT,
        "x_forwarded_for": "203.0.113.77",
        "taskid": "chat",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "client": "retail-frontend",
        "gateway": "gateway-6f7c9d5b8-x2x7q",
        "grpc_status": None,
        "response_duration": 117,
        "upstream_request_attempt_count": 1,
        "model": None,
        "input_tokens": None,
        "output_tokens": None,
    }
    if size:
        made |= {"user_agent": _LONG_USER_AGENT, "path": _LONG_PATH.format(task=made["taskid"])}
    made |= fields
    made |= extra or {}
    for key in absent:
        made.pop(key, None)
    if size:
        _grow(made, size, fields)
    return made


def line(
    *,
    absent: Collection[str] = (),
    extra: dict[str, Any] | None = None,
    size: int = 0,
    **fields: Any,
) -> str:
    """One access-log line as JSON text, without the line's end. Arguments as for `record`."""
    return _compact(record(absent=absent, extra=extra, size=size, **fields))


def rate_limited(**fields: Any) -> str:
    """What Envoy writes for a request that its local rate limit refused."""
    usual: dict[str, Any] = {
        "response_code": 429,
        "response_flags": "RL",
        "response_code_details": "local_rate_limited",
        "upstream_host": None,
        "upstream_local_address": None,
        "upstream_service_time": None,
        "duration": 0,
        "response_duration": None,
        "upstream_request_attempt_count": 0,
        "bytes_sent": 18,
    }
    return line(**(usual | fields))


def aborted(**fields: Any) -> str:
    """What Envoy writes when the client left before the answer."""
    usual: dict[str, Any] = {
        "response_code": 0,
        "response_flags": "DC",
        "response_code_details": "downstream_remote_disconnect",
        "upstream_service_time": None,
        "response_duration": None,
        "bytes_sent": 0,
    }
    return line(**(usual | fields))


def unrouted(**fields: Any) -> str:
    """What Envoy writes for a request that no route took."""
    usual: dict[str, Any] = {
        "response_code": 404,
        "response_flags": "NR",
        "response_code_details": "route_not_found",
        "route_name": None,
        "upstream_cluster": None,
        "upstream_host": None,
        "upstream_local_address": None,
        "upstream_service_time": None,
        "response_duration": None,
        "upstream_request_attempt_count": 0,
        "duration": 0,
    }
    return line(**(usual | fields))


def grpc(**fields: Any) -> str:
    """A gRPC call that was answered. Envoy answers each with 200; the call's end is in `grpc_status`."""
    usual: dict[str, Any] = {"path": "/inference.GRPCInferenceService/ModelInfer", "grpc_status": 0}
    return line(**(usual | fields))


def streamed(**fields: Any) -> str:
    """A stream of 50 tokens: the first after 200 ms, the last after 1200 ms."""
    usual: dict[str, Any] = {
        "duration": 1200,
        "response_duration": 200,
        "model": "chat-8b",
        "input_tokens": 30,
        "output_tokens": 50,
    }
    return line(**(usual | fields))


def upgraded(**fields: Any) -> str:
    """A websocket that was open for four hours."""
    usual: dict[str, Any] = {
        "method": "GET",
        "protocol": "HTTP/1.1",
        "response_code": 101,
        "duration": 4 * 3600 * 1000,
        "response_duration": 3,
    }
    return line(**(usual | fields))


def tcp(**fields: Any) -> str:
    """What Envoy writes for a TCP connection, such as TLS passthrough: no method, no protocol, no answer."""
    absent_in_tcp = (
        *("authority", "method", "path", "protocol", "request_id", "response_code_details", "route_name"),
        *("taskid", "traceparent", "client", "upstream_service_time", "user_agent", "x_forwarded_for"),
        *("response_duration", "upstream_request_attempt_count"),
    )
    usual: dict[str, Any] = {**dict.fromkeys(absent_in_tcp), "response_code": 0, "duration": 687}
    return line(**(usual | fields))


def _grow(made: dict[str, Any], size: int, fixed: Collection[str]) -> None:
    """Lengthens x_forwarded_for (a chain of proxies), or the user agent, until the line has `size` bytes."""
    missing = size - len(_compact(made).encode())
    if missing <= 0:
        return
    for key, separator, piece in (
        ("x_forwarded_for", ",", "203.0.113.{n}"),
        ("user_agent", " ", "plugin-{n}/1.0"),
        ("path", "&", "p{n}=0123456789abcdef"),
    ):
        if key in fixed or not isinstance(made.get(key), str):
            continue
        text, n = made[key], 0
        enough = len(text) + missing
        while len(text) < enough:
            text += separator + piece.format(n=n % 250)
            n += 1
        made[key] = text
        return
    raise TypeError("size: no key left to grow; leave one of x_forwarded_for, user_agent, path unset")


def _compact(made: dict[str, Any]) -> str:
    return json.dumps(made, separators=(",", ":"), ensure_ascii=False)
