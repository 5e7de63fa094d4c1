"""`tidegate ship`: log files into Kafka, until it is told to end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.stopping import stopping
from tidegate.schemas.settings import SettingsError


def ship(
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Glob patterns of the files to follow; default: shipper.files, or service_logs.files."
        ),
    ] = None,
    services: Annotated[
        bool,
        typer.Option(
            "--services", help="the services' logs, whose paths say whose they are: {department}, {task}"
        ),
    ] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="Where offsets are kept; one folder for each shipper.")
    ] = None,
) -> int:
    """Follow log files into Kafka's topic gateway.access-logs, line by line, at least once.

    With --services into inference.logs: a record is a message and the stack trace below it.

    Survives rotation, truncation, restarts and an absent Kafka. Ends on SIGTERM and Ctrl-C, after Kafka has
    taken what was read.
    """
    from tidegate.adapters.shipping.positions import StateFolderError
    from tidegate.adapters.shipping.shipper import LogShipper, access_logs, service_logs

    options: Options = context.obj
    group = "service_logs" if services else "shipper"
    settings = options.load(
        {f"{group}.files": tuple(files) if files else None, f"{group}.state_dir": state_dir}
    )
    cargo = service_logs(settings) if services else access_logs(settings)
    if not cargo.files:
        raise SettingsError(f"{group}.files: nothing to follow; give FILES, or set it in tidegate.toml")
    try:
        with stopping() as received, LogShipper(settings, cargo) as shipper:
            shipper.run(stop=received.stop.is_set)
            counts = shipper.counts
    except StateFolderError as error:
        raise CommandFailed(str(error)) from error
    logging.getLogger(__name__).info(
        "shipped %d lines, %d dead letters, left out %d empty lines", counts.lines, counts.dead, counts.empty
    )
    return received.exit_code
