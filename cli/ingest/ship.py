"""`tidegate ship`: sends log files to Kafka until it is stopped."""

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
            "--services",
            help="Follow the services' logs; the patterns take {department} and {task} from the path.",
        ),
    ] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder for the saved offsets; each shipper needs its own.")
    ] = None,
) -> int:
    """Follow log files into Kafka's topic gateway.access-logs, line by line, at least once.

    With --services the topic is inference.logs, and a record is a message and its stack trace.

    Survives rotation, truncation, restarts and Kafka outages. Stops on SIGTERM and Ctrl-C, after Kafka has
    acknowledged what was read.
    """
    from tidegate.adapters.shipping.positions import StateFolderError
    from tidegate.adapters.shipping.shipper import LogShipper, access_logs, service_logs

    options: Options = context.obj
    group = "service_logs" if services else "shipper"
    settings = options.load(
        {f"{group}.files": tuple(files) if files else None, f"{group}.state_dir": state_dir}
    )
    plan = service_logs(settings) if services else access_logs(settings)
    if not plan.files:
        raise SettingsError(
            f"{group}.files: no files to follow; give FILES, or set {group}.files in tidegate.toml"
        )
    try:
        with stopping() as received, LogShipper(settings, plan) as shipper:
            shipper.run(stop=received.stop.is_set)
            counts = shipper.counts
    except StateFolderError as error:
        raise CommandFailed(str(error)) from error
    logging.getLogger(__name__).info(
        "shipped %d lines and %d dead letters, skipped %d empty lines",
        counts.lines,
        counts.dead,
        counts.empty,
    )
    return received.exit_code
