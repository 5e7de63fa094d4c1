"""`tidegate replay`: sends log files to the topic again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli.app_context import DONE, FAILED, INTERRUPTED, CommandFailed, Options
from tidegate.cli.stopping import stopping


def replay(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Log files, plain or gzip'd.")],
    speed: Annotated[
        str,
        typer.Option(help="1: the pace at which the requests ended; 10: ten times as fast; max: no waiting."),
    ] = "max",
    shift_to_now: Annotated[
        bool,
        typer.Option(
            "--shift-to-now",
            help="Move every start_time by the same time, so that the first request ends now "
            "(at a speed above 1: the last request ends when it is sent). The rest of a line is unchanged.",
        ),
    ] = False,
    partition: Annotated[
        int | None,
        typer.Option(
            min=0, help="Send all lines to this partition, which keeps their order. Default: each in turn."
        ),
    ] = None,
) -> int:
    """Send log files to Kafka's topic gateway.access-logs, in the order given.

    Lines that are not in the access-log format are sent unchanged, and become dead letters of the job.
    """
    from confluent_kafka import KafkaException

    from tidegate.adapters.kafka.client import KafkaUnavailable
    from tidegate.adapters.shipping.replay import ReplayFailed, ReplayPlan, parse_speed
    from tidegate.adapters.shipping.replay import replay as send

    options: Options = context.obj
    settings = options.load()
    try:
        factor = parse_speed(speed)
    except ValueError as error:
        raise typer.BadParameter(f"--speed {speed}: give max, 1, 10 or another positive number") from error
    plan = ReplayPlan(factor, shift_to_now, partition)
    try:
        with stopping() as received:
            report = send(settings, files, plan, stop=received.stop.is_set)
    except (ReplayFailed, KafkaUnavailable) as error:
        raise CommandFailed(str(error)) from error
    except KafkaException as error:
        raise CommandFailed(f"Kafka at {settings.kafka.bootstrap_servers}: {error}") from error
    lines = f"{report.lines} line{'' if report.lines == 1 else 's'} sent in {report.seconds:.1f} s"
    more = {
        "too long for Kafka, in the dead letters": report.dead,
        "empty, skipped": report.empty,
        "without a time that can be read, sent unchanged": report.untimed,
    }
    typer.echo("; ".join([lines, *(f"{count} {what}" for what, count in more.items() if count)]))
    if report.interrupted:
        typer.echo("interrupted before the end", err=True)
        return INTERRUPTED if received.interrupted else FAILED
    return DONE
