"""A real Envoy logs the same requests to a file, by the access log service and by OTLP: the lines are equal."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.waiting import until
from tidegate.adapters.receiving.grpc_server import serve
from tidegate.adapters.receiving.sink import LineSink
from tidegate.schemas.gateway_settings import envoy_access_log, envoy_als, envoy_otlp
from tidegate.schemas.settings import Settings, Stack
from tidegate.schemas.settings.receiving import Receive
from tidegate.stack.envoy import EnvoyServer
from tidegate.stack.local import LocalStack

_LIVE, _DEAD = (f"outbound|8000||service-{task}.vision.svc.cluster.local" for task in ("chat", "dead"))


class Memory:
    """A sink that keeps the lines by protocol."""

    def __init__(self) -> None:
        self.lines: dict[str, list[dict[str, Any]]] = {"als": [], "otlp": []}

    def deliver(self, lines: Sequence[bytes], protocol: str, give_up: Callable[[], bool]) -> list[bytes]:
        self.lines[protocol] += [json.loads(line) for line in lines]
        return []


class _Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _cluster(name: str, port: int, *, http2: bool = False) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    cluster: dict[str, Any] = {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if http2:
        options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return cluster


def _config(log: Path, receiver: int, model: int) -> dict[str, Any]:
    loggers = [envoy_access_log(str(log)), envoy_als("receiver"), envoy_otlp("receiver")]
    for logger in loggers[1:]:
        common = logger["typed_config"].get("common_config", logger["typed_config"])
        common["buffer_flush_interval"] = "0.1s"
    routes = [
        {"match": {"path": "/live"}, "name": "live", "route": {"cluster": _LIVE}},
        {"match": {"path": "/dead"}, "name": "dead", "route": {"cluster": _DEAD}},
        {"match": {"path": "/direct"}, "name": "direct", "direct_response": {"status": 429}},
    ]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network."
        "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "access_log": loggers,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    listener = {
        "name": "listener",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": [listener],
            "clusters": [
                _cluster("receiver", receiver, http2=True),
                _cluster(_LIVE, model),
                _cluster(_DEAD, 1),
            ],
        },
    }


def _get(url: str) -> None:
    request = urllib.request.Request(  # noqa: S310 (http to loopback)
        url, headers={"taskid": "chat", "x-client-id": "retail", "x-forwarded-for": "203.0.113.7"}
    )
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=5).read()  # noqa: S310


def test_the_same_requests_are_the_same_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "gateway-7d9f8c6b5-aaaaa")
    sink, log, config = Memory(), tmp_path / "access.log", tmp_path / "envoy.json"
    model = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    threading.Thread(target=model.serve_forever, daemon=True).start()
    server, port = serve(cast("LineSink", sink), Receive(grpc_port=0))
    config.write_text(json.dumps(_config(log, port, model.server_port)))
    settings = Settings(stack=Stack(state_dir=tmp_path / "stack", envoy_flush_ms=100))
    envoy = EnvoyServer(settings, config)
    stack = LocalStack(settings, [envoy])
    try:
        stack.up()
        from tidegate.stack import state

        listener = state.read(stack.state_dir).servers["envoy"].addresses["listener"]
        for path in ("live", "dead", "direct", "none", "live"):
            _get(f"{listener}/{path}")
        until(
            lambda: log.read_text().count("\n") == 5 and all(len(one) == 5 for one in sink.lines.values()),
            "each way has five lines",
            20,
        )
    finally:
        stack.down()
        server.stop(0)
        model.shutdown()
        model.server_close()
    written = sorted(
        (json.loads(text) for text in log.read_text().splitlines()), key=lambda one: one["request_id"]
    )
    for protocol, lines in sink.lines.items():
        found = sorted(lines, key=lambda one: one["request_id"])
        for line, expected in zip(found, written, strict=True):
            differing = {
                key: (line.get(key), expected.get(key))
                for key in line.keys() | expected.keys()
                if line.get(key) != expected.get(key)
            }
            assert not differing, (protocol, expected["path"])
