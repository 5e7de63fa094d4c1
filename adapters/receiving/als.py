"""Reads the entries of Envoy's gRPC access log service as lines. Pure.

A custom tag that has the name of a key holds its value: `schemas/gateway_settings.py` sets one for each key that an
entry has no field for.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from tidegate.adapters.receiving.lines import line_of
from tidegate.schemas.access_log import ACCESS_LOG_FORMAT

_PROTOCOLS = {1: "HTTP/1.0", 2: "HTTP/1.1", 3: "HTTP/2", 4: "HTTP/3"}
_METHODS = {
    1: "GET",
    2: "HEAD",
    3: "POST",
    4: "PUT",
    5: "DELETE",
    6: "CONNECT",
    7: "OPTIONS",
    8: "TRACE",
    9: "PATCH",
}
_OPERATOR = re.compile(r"%(REQ|RESP|TRAILER|DYNAMIC_METADATA)\(([^)]+)\)%")


def http_line(entry: Any) -> bytes:
    """The line of an HTTP entry."""
    request, response = entry.request, entry.response
    values = {
        "authority": request.authority,
        "bytes_received": request.body_bytes,
        "bytes_sent": response.body_bytes,
        "method": _METHODS.get(request.method),
        "path": request.original_path or request.path,
        "protocol": _PROTOCOLS.get(entry.protocol_version),
        "request_id": request.request_id,
        "response_code": response.code.value if response.HasField("code") else 0,
        "response_code_details": response.code_details,
        "user_agent": request.user_agent,
        "x_forwarded_for": request.forwarded_for,
    }
    return line_of(_by_operators(entry) | _common(entry.common) | values | _tags(entry.common))


def tcp_line(entry: Any) -> bytes:
    """The line of a TCP connection: no method, no protocol, code 0."""
    values = {
        "bytes_received": entry.connection.received_bytes,
        "bytes_sent": entry.connection.sent_bytes,
        "response_code": 0,
    }
    return line_of(_common(entry.common) | values | _tags(entry.common))


def _common(common: Any) -> dict[str, Any]:
    values = {
        "connection_termination_details": common.connection_termination_details,
        "downstream_local_address": _address(common.downstream_local_address),
        "downstream_remote_address": _address(common.downstream_remote_address),
        "duration": _milliseconds(common, "duration"),
        "requested_server_name": common.tls.sni,
        "response_flags": ",".join(field.name for field, _ in common.response_flags.ListFields()),
        "route_name": common.route_name,
        "start_time": _time(common),
        "upstream_cluster": common.upstream_cluster,
        "upstream_host": _address(common.upstream_remote_address),
        "upstream_local_address": _address(common.upstream_local_address),
        # As Envoy's formatter writes it to a file.
        "upstream_transport_failure_reason": common.upstream_transport_failure_reason.replace(" ", "_"),
        "response_duration": _milliseconds(common, "time_to_first_upstream_rx_byte"),
        "upstream_request_attempt_count": common.upstream_request_attempt_count,
    }
    if common.intermediate_log_entry:
        values["access_log_type"] = "DownstreamPeriodic"
    return {
        key: value for key, value in values.items() if key in ACCESS_LOG_FORMAT or key == "access_log_type"
    }


def _by_operators(entry: Any) -> dict[str, Any]:
    """The keys that the format takes from headers, trailers and dynamic metadata."""
    places = {
        "REQ": entry.request.headers,
        "RESP": entry.response.headers,
        "TRAILER": entry.response.trailers,
    }
    values: dict[str, Any] = {}
    for key, operator in ACCESS_LOG_FORMAT.items():
        match = _OPERATOR.fullmatch(operator)
        if match is None:
            continue
        if match[1] == "DYNAMIC_METADATA":
            values[key] = _metadata(entry.common, match[2].split(":"))
        else:
            names = match[2].lower().split("?")
            values[key] = next((places[match[1]][name] for name in names if name in places[match[1]]), None)
    return values


def _tags(common: Any) -> dict[str, Any]:
    return {key: value for key, value in common.custom_tags.items() if key in ACCESS_LOG_FORMAT}


def _metadata(common: Any, path: list[str]) -> Any:
    if path[0] not in common.metadata.filter_metadata:
        return None
    value: Any = common.metadata.filter_metadata[path[0]]
    for name in path[1:]:
        if name not in value:
            return None
        value = value[name]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _address(address: Any) -> str | None:
    if address.HasField("socket_address"):
        socket = address.socket_address
        host = f"[{socket.address}]" if ":" in socket.address else socket.address
        return f"{host}:{socket.port_value}"
    if address.HasField("internal_address"):
        internal = address.internal_address
        return f"envoy://{internal.server_listener_name}/{internal.endpoint_id}"
    return address.pipe.path or None


def _milliseconds(common: Any, field: str) -> int | None:
    if not common.HasField(field):
        return None
    span = getattr(common, field)
    return int(span.seconds * 1000 + span.nanos // 1_000_000)


def _time(common: Any) -> str | None:
    if not common.HasField("start_time"):
        return None
    moment = datetime.fromtimestamp(common.start_time.seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{common.start_time.nanos // 1_000_000:03d}Z"
