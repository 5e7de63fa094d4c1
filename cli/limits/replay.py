"""`tidegate replay-limits`: computes the limits that recorded replica events lead to, to try settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.ages import age
from tidegate.cli.app_context import DONE, FAILED, CommandFailed, Options

if TYPE_CHECKING:
    from tidegate.jobs.logic.limits.replay import ReplaySettings
    from tidegate.schemas.catalog import Catalog
    from tidegate.schemas.settings import Settings


def replay_limits(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="a recording by `tidegate limits record`; plain or gzip")
    ],
    catalog: Annotated[
        Path | None, typer.Option("--catalog", metavar="FILE", help="instead of the recorded catalog")
    ] = None,
    down_window: Annotated[
        float | None, typer.Option("--down-window", metavar="S", help="after it a lower count has settled")
    ] = None,
    up_window: Annotated[
        float | None, typer.Option("--up-window", metavar="S", help="after it a higher count has settled")
    ] = None,
    max_raise: Annotated[
        float | None, typer.Option("--max-raise", metavar="X", help="largest factor of one raise")
    ] = None,
    raise_every: Annotated[
        float | None, typer.Option("--raise-every", metavar="S", help="between two raises of a task")
    ] = None,
    raises_together: Annotated[
        float | None, typer.Option("--raises-together", metavar="S", help="between two raises on a gateway")
    ] = None,
    deadband: Annotated[
        float | None,
        typer.Option("--deadband", metavar="D", help="share of the limit; a smaller raise isn't pushed"),
    ] = None,
    silent: Annotated[
        float | None,
        typer.Option("--silent", metavar="S", help="after it a source without messages counts as silent"),
    ] = None,
    gateways: Annotated[
        int | None,
        typer.Option(
            "--gateways", min=1, metavar="N", help="ready pods of each gateway that FILE has no event of"
        ),
    ] = None,
    until_settled: Annotated[
        str, typer.Option("--until-settled", metavar="TIME", help="how long to continue after the last event")
    ] = "2m",
) -> int:
    """Replay recorded events through the logic of the job replica-changes and of `tidegate limit`.

    Prints a row for each push and each held limit as JSON lines, and a summary to stderr. The same file and settings
    give the same bytes. An option that is left out has the value of its setting.
    """
    from tidegate.adapters.limiting.recording import RecordingUnusable, read
    from tidegate.jobs.logic.limits.replay import replay, summary

    options: Options = context.obj
    settings = options.load(
        {
            "replica_changes.down_window_seconds": down_window,
            "replica_changes.up_window_seconds": up_window,
            "limits.max_raise": max_raise,
            "limits.raise_every_seconds": raise_every,
            "limits.raises_together_seconds": raises_together,
            "limits.deadband": deadband,
            "limits.silent_seconds": silent,
        }
    )
    replayed = _replay_settings(
        settings, round(age("--until-settled", until_settled).total_seconds() * 1000), gateways
    )
    try:
        events = read(file)
    except RecordingUnusable as error:
        raise CommandFailed(str(error)) from error
    recorded = any(event.is_catalog for event in events)
    found = replay(events, replayed, _catalog(catalog or (None if recorded else settings.catalog.file)))
    try:
        for row in found.rows:
            typer.echo(row.model_dump_json())
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has closed its pipe (`| head`), so nothing may be flushed to it.
        sys.stdout = None
    for line in (*found.notes, *summary(found.rows)):
        typer.echo(line, err=True)
    return DONE if found.rows else FAILED


def _replay_settings(settings: Settings, tail_ms: int, gateways: int | None) -> ReplaySettings:
    from tidegate.adapters.limiting.controller import pace_of, timing_of
    from tidegate.jobs.logic.limits.replay import ReplaySettings
    from tidegate.jobs.logic.replicas.changes import Windows

    changes = settings.replica_changes
    return ReplaySettings(
        windows=Windows(round(changes.down_window_seconds * 1000), round(changes.up_window_seconds * 1000)),
        stale_ms=round(changes.stale_seconds * 1000),
        pace=pace_of(settings.limits),
        timing=timing_of(settings.limits),
        tail_ms=tail_ms,
        gateways=gateways,
    )


def _catalog(file: Path | None) -> Catalog | None:
    from tidegate.schemas.catalog import CatalogError, load

    try:
        return None if file is None else load(file)
    except CatalogError as error:
        raise CommandFailed(f"the task catalog can't be used:\n{error}") from error
