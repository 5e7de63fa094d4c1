"""`tidegate remote-write`: Prometheus' remote write, into Kafka."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping


def remote_write(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="to listen on; default: remote_write.host")] = None,
    port: Annotated[int | None, typer.Option(help="0: any free one; default: remote_write.port")] = None,
) -> int:
    """Take Prometheus' remote writes (1.0 and 2.0) and put their samples into prometheus.metrics.

    A request is answered once Kafka has its samples. Runs until it gets SIGTERM or Ctrl-C; requests that have begun are
    answered first.
    """
    try:
        from tidegate.adapters.remote_write.serve import serve
    except ImportError as error:
        raise CommandFailed(f"{error}; pip install 'tidegate[remote-write]'") from error

    options: Options = context.obj
    settings = options.load({"remote_write.host": host, "remote_write.port": port})
    try:
        # The server takes both signals while it runs, and raises them again when it is done.
        with failures(settings), stopping() as received:
            serve(settings, lambda address: typer.echo(f"listening on {address}"))
    except OSError as error:
        where = f"{settings.remote_write.host}:{settings.remote_write.port}"
        raise CommandFailed(
            f"remote-write: {where} can't be listened on: {error}; set remote_write.port"
        ) from error
    return received.exit_code
