"""Serves both receivers until SIGTERM or SIGINT."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import uvicorn

from tidegate.adapters.receiving import grpc_server
from tidegate.adapters.receiving.http_server import application
from tidegate.adapters.receiving.sink import LineSink
from tidegate.schemas.settings import Settings


def serve(settings: Settings, on_addresses: Callable[[str, str], None]) -> None:
    """Serve until SIGTERM or SIGINT, which are then raised again for the caller's handlers.

    on_addresses: gets the gRPC address and the HTTP URL, once both servers listen.

    Raises KafkaUnavailable and KafkaException without Kafka, OSError for an unavailable address or TLS file.
    """
    own = settings.receive
    sink = LineSink(settings)
    try:
        with socket.create_server((own.host, own.http_port)) as listener:
            config = uvicorn.Config(
                application(sink, own),
                log_config=None,
                access_log=False,
                ssl_certfile=own.tls_cert_file,
                ssl_keyfile=own.tls_key_file,
                ssl_ca_certs=str(own.tls_client_ca_file) if own.tls_client_ca_file else None,
                ssl_cert_reqs=ssl.CERT_REQUIRED if own.tls_client_ca_file else ssl.CERT_NONE,
                timeout_graceful_shutdown=round(own.timeout_seconds) + 2,
            )
            server, grpc_port = grpc_server.serve(sink, own)
            host, port = listener.getsockname()[:2]
            scheme = "http" if own.tls_cert_file is None else "https"
            on_addresses(f"{host}:{grpc_port}", f"{scheme}://{host}:{port}")
            try:
                uvicorn.Server(config).run(sockets=[listener])
            finally:
                server.stop(own.timeout_seconds).wait()
    finally:
        sink.close()
