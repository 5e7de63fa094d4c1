"""`tidegate replay`: log files into the topic once more."""

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
        typer.Option(help="1: at the pace of the requests' ends; 10: ten times as fast; max: no waiting."),
    ] = "max",
    shift_to_now: Annotated[
        bool,
        typer.Option(
            "--shift-to-now",
            help="Move every start_time by the same time, so that the first request ends now "
            "(faster than 1: the last, when it is sent). Nothing else of a line is changed.",
        ),
    ] = False,
    partition: Annotated[
        int | None,
        typer.Option(
            min=0, help="Send all to this one: keeps the order of all lines. Default: each in turn."
        ),
    ] = None,
) -> int:
    """Send log files to Kafka's topic gateway.access-logs, in the order given.

    Lines that are no access log go as they are, and end as the job's dead letters.
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
        "empty, left out": report.empty,
        "without a time that can be read, sent as they are": report.untimed,
    }
    typer.echo("; ".join([lines, *(f"{count} {what}" for what, count in more.items() if count)]))
    if report.interrupted:
        typer.echo("interrupted before the end", err=True)
        return INTERRUPTED if received.interrupted else FAILED
    return DONE
