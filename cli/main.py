"""Entry point. Exit codes of all commands: 0 done, 1 failed, 2 wrong use or settings, 130 interrupted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from tidegate.cli import app_context
from tidegate.cli.elasticsearch.index import index
from tidegate.cli.elasticsearch.reindex import reindex
from tidegate.cli.elasticsearch.retention import retention
from tidegate.cli.ingest.receive import receive
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
from tidegate.cli.queries.dead_letters import dead_letters
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
        Path | None, typer.Option("--config", "-c", help="TOML file; default: tidegate.toml, if it exists")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="GROUP.NAME=VALUE", help="override one setting")
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit"),
    ] = False,
) -> None:
    context.obj = app_context.Options(config=config, assignments=tuple(assignments or ()))


PANELS: Mapping[str, Mapping[str, Callable[..., Any] | typer.Typer]] = {
    "This machine": {"up": up, "down": down, "status": status, "demo": demo, "doctor": doctor},
    "Data in": {"ship": ship, "replay": replay, "receive": receive, "remote-write": remote_write},
    "Jobs": {"run": run, "submit": submit, "keep": keep, "prepare": prepare},
    "Elasticsearch": {"index": index, "reindex": reindex, "retention": retention},
    "Limits": {
        "watch": watch,
        "limit": limit,
        "limits": limits,
        "replay-limits": replay_limits,
        "catalog": catalog,
        "manager": manager,
    },
    "Signals": {"profile": profile, "alerts": alerts, "autoscale": autoscale},
    "Queries": {
        "windows": windows,
        "dead-letters": dead_letters,
        "logs": logs,
        "trace": trace,
        "report": report,
        "ui": ui,
    },
    "Reference": {"schemas": schemas, "settings": settings},
}
"""The commands by the panel that `--help` shows them in. Each panel mirrors a package of `cli`."""

for _panel, _commands in PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


def main() -> None:
    """Run the command line; turns known errors into one line each and an exit code."""
    sys.exit(app_context.run(app))


if __name__ == "__main__":
    main()
