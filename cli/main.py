"""Entry point: one config for all commands; exit codes 0 done, 1 failed, 2 wrong use or settings, 130 interrupted."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from tidegate.cli import app_context
from tidegate.cli.elasticsearch.index import index
from tidegate.cli.elasticsearch.reindex import reindex
from tidegate.cli.elasticsearch.retention import retention
from tidegate.cli.ingest.remote_write import remote_write
from tidegate.cli.ingest.replay import replay
from tidegate.cli.ingest.ship import ship
from tidegate.cli.jobs.keep import keep
from tidegate.cli.jobs.launch import run, submit
from tidegate.cli.jobs.prepare import prepare
from tidegate.cli.limits.catalog import catalog
from tidegate.cli.limits.controller import limit
from tidegate.cli.limits.listing import limits
from tidegate.cli.limits.manager import manager
from tidegate.cli.limits.replay import replay_limits
from tidegate.cli.limits.watch import watch
from tidegate.cli.local.demo import demo
from tidegate.cli.local.doctor import doctor
from tidegate.cli.local.stack import down, status, up
from tidegate.cli.queries.logs import logs, trace
from tidegate.cli.queries.report import report
from tidegate.cli.queries.ui import ui
from tidegate.cli.queries.windows import windows
from tidegate.cli.reference.schemas import schemas
from tidegate.cli.reference.settings import settings
from tidegate.cli.signals.alerts import alerts
from tidegate.cli.signals.autoscale import autoscale
from tidegate.cli.signals.profile import profile

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Service metrics from an Envoy or Istio access log, and rate limits that follow ready replicas.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tidegate {metadata.version('tidegate')}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file; default tidegate.toml, where it exists")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="GROUP.NAME=VALUE", help="override one setting")
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version, and exit"),
    ] = False,
) -> None:
    context.obj = app_context.Options(config=config, assignments=tuple(assignments or ()))


app.add_typer(alerts, name="alerts")
app.command()(autoscale)
app.add_typer(catalog, name="catalog")
app.command()(demo)
app.command()(doctor)
app.command()(down)
app.command()(index)
app.command()(keep)
app.command()(limit)
app.add_typer(limits, name="limits")
app.command()(logs)
app.command()(manager)
app.command()(prepare)
app.command()(profile)
app.command()(reindex)
app.command("remote-write")(remote_write)
app.command()(replay)
app.command("replay-limits")(replay_limits)
app.command()(report)
app.command()(retention)
app.command()(run)
app.command()(schemas)
app.command()(settings)
app.command()(ship)
app.command()(status)
app.command()(submit)
app.command()(trace)
app.command()(ui)
app.command()(up)
app.command()(watch)
app.command()(windows)


def main() -> None:
    """Run the command line; turns known errors into one line each and an exit code."""
    sys.exit(app_context.run(app))


if __name__ == "__main__":
    main()
