"""`tidegate receive`: access logs over gRPC and HTTP, into Kafka."""

from __future__ import annotations

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping


def receive(context: typer.Context) -> int:
    """Take access logs from Envoy's gRPC access log service and from OTLP into gateway.access-logs.

    Listens on receive.host, at receive.grpc_port (both services) and receive.http_port (OTLP over HTTP, metrics,
    health). OTLP requests are answered once Kafka has their lines. Runs until SIGTERM or Ctrl-C.
    """
    try:
        from tidegate.adapters.receiving.serve import serve
    except ImportError as error:
        raise CommandFailed(f"{error}; pip install 'tidegate[receive]'") from error

    options: Options = context.obj
    settings = options.load()
    try:
        with failures(settings), stopping() as received:
            serve(settings, lambda grpc, http: typer.echo(f"gRPC: {grpc}; OTLP over HTTP: {http}/v1/logs"))
    except OSError as error:
        raise CommandFailed(
            f"receive: can't listen on {settings.receive.host}: {error}; set receive.grpc_port, receive.http_port, "
            "or the receive.tls_… files"
        ) from error
    return received.exit_code
