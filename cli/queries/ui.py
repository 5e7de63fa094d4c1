"""`tidegate ui`: serves a page with departments, tasks, replicas, limits, logs and requests, without Grafana."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.stopping import stopping

if TYPE_CHECKING:
    from tidegate.ui.source import Source


class SourceName(StrEnum):
    """The store that the rows are read from."""

    AUTO = "auto"
    ELASTICSEARCH = "elasticsearch"
    KAFKA = "kafka"


def ui(
    context: typer.Context,
    source: Annotated[
        SourceName | None,
        typer.Option("--source", help="store of the rows; auto: Elasticsearch if it has rows, else Kafka"),
    ] = None,
    host: Annotated[str | None, typer.Option(help="address to listen on; default: ui.host")] = None,
    port: Annotated[int | None, typer.Option(help="0: any free port; default: ui.port")] = None,
) -> int:
    """Serve a live page of every department, task and replica, and of the logs and requests in Elasticsearch.

    Read-only. Runs until SIGTERM or Ctrl-C.
    """
    try:
        from tidegate.ui.serve import serve
    except ImportError as error:
        raise CommandFailed(f"{error}; pip install 'tidegate[ui]'") from error
    from tidegate.artifacts.maven import ArtifactUnavailable
    from tidegate.ui.source import SourceUnavailable

    options: Options = context.obj
    settings = options.load({"ui.source": source and source.value, "ui.host": host, "ui.port": port})

    def started(address: str, chosen: Source) -> None:
        typer.echo(f"open {address} (rows from {chosen.name} at {chosen.address}); stop with Ctrl-C")

    try:
        # The server handles both signals while it runs, and raises them again when it ends.
        with stopping() as received:
            serve(settings, started)
    except (ArtifactUnavailable, SourceUnavailable) as error:
        raise CommandFailed(str(error)) from error
    except OSError as error:
        where = f"{settings.ui.host}:{settings.ui.port}"
        raise CommandFailed(f"ui: can't listen on {where}: {error}; set ui.port") from error
    return received.exit_code
