"""The gRPC server: Envoy's access log service, OTLP logs, and gRPC's health service."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from tidegate.adapters.receiving.als import http_line, tcp_line
from tidegate.adapters.receiving.otlp import lines_of_request
from tidegate.adapters.receiving.proto import access_log_service_pb2
from tidegate.adapters.receiving.sink import LineSink
from tidegate.schemas.settings.receiving import Receive

ACCESS_LOG_SERVICE = "envoy.service.accesslog.v3.AccessLogService"
OTLP_SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"

_LOG = logging.getLogger(__name__)
_pb2: Any = access_log_service_pb2  # protoc's classes are created at import


class Services:
    """The methods of both services."""

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink

    def stream_access_logs(self, messages: Iterator[Any], context: grpc.ServicerContext) -> Any:
        """Deliver each message before the next one is read: Envoy's buffer, not ours, holds what Kafka can't take.

        The protocol acknowledges nothing, so lines are delivered until Kafka has them or the stream ends.
        """
        for message in messages:
            lines = [http_line(entry) for entry in message.http_logs.log_entry]
            lines += [tcp_line(entry) for entry in message.tcp_logs.log_entry]
            while lines:
                lines = self._sink.deliver(lines, "als", lambda: not context.is_active())
                if lines and not context.is_active():
                    _LOG.warning(
                        "access log service: the stream from %s ended before Kafka acknowledged %d lines, now lost",
                        message.identifier.node.id or context.peer(),
                        len(lines),
                    )
                    break
        return _pb2.StreamResponse()

    def export(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Deliver a request's records; UNAVAILABLE, which clients repeat, where Kafka has not acknowledged all."""
        left = self._sink.deliver(lines_of_request(request), "otlp", lambda: True)
        if left:
            context.abort(
                grpc.StatusCode.UNAVAILABLE,
                f"Kafka has not acknowledged {len(left)} lines; send the request again",
            )
        return ExportLogsServiceResponse()


def serve(sink: LineSink, settings: Receive) -> tuple[grpc.Server, int]:
    """A started server and its port. Raises OSError if the address or a TLS file is not available."""
    server = grpc.server(
        ThreadPoolExecutor(settings.max_streams, thread_name_prefix="receive"),
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_request_bytes),
        ],
        maximum_concurrent_rpcs=settings.max_streams,
    )
    services = Services(sink)
    methods = {
        ACCESS_LOG_SERVICE: {
            "StreamAccessLogs": grpc.stream_unary_rpc_method_handler(
                services.stream_access_logs,
                _pb2.StreamMessage.FromString,
                _pb2.StreamResponse.SerializeToString,
            )
        },
        OTLP_SERVICE: {
            "Export": grpc.unary_unary_rpc_method_handler(
                services.export,
                ExportLogsServiceRequest.FromString,
                ExportLogsServiceResponse.SerializeToString,
            )
        },
    }
    healths = health.HealthServicer()
    for name in ("", *methods):
        healths.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, handlers) for name, handlers in methods.items())
    )
    address = f"{settings.host}:{settings.grpc_port}"
    try:
        credentials = _credentials(settings)
        port = (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
    except RuntimeError as error:
        raise OSError(str(error)) from error
    if port == 0:
        raise OSError(f"{address} is in use; free it or choose another address")
    server.start()
    return server, port


def _credentials(settings: Receive) -> grpc.ServerCredentials | None:
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    client_ca = settings.tls_client_ca_file.read_bytes() if settings.tls_client_ca_file else None
    return grpc.ssl_server_credentials(
        [(settings.tls_key_file.read_bytes(), settings.tls_cert_file.read_bytes())],
        root_certificates=client_ca,
        require_client_auth=client_ca is not None,
    )
