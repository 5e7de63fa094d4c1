"""`tidegate limits`: the limits of all tasks, one task's timeline, controls by operators, recordings."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.ages import age
from tidegate.cli.app_context import DONE, CommandFailed, Options
from tidegate.cli.failures import failures
from tidegate.cli.limits.controls import override, pause, resume
from tidegate.cli.limits.display import entry_line, heading, limits_table, print_table
from tidegate.cli.stopping import stopping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tidegate.jobs.logic.limits.envoy_limits import TaskKey
    from tidegate.jobs.logic.limits.timeline import Entry
    from tidegate.schemas.rows.limits import RateLimitRow
    from tidegate.schemas.settings import Settings

DEFAULT_SINCE = "10m"
FOLLOWED = timedelta(minutes=10)
"""How long a limit is followed until a request shows its effect."""

limits = typer.Typer(invoke_without_command=True, no_args_is_help=False)
limits.command()(pause)
limits.command()(resume)
limits.command()(override)


@limits.callback()
def show(
    context: typer.Context,
    department: Annotated[str | None, typer.Option("--department", help="only this department")] = None,
    task: Annotated[str | None, typer.Option("--task", help="show the timeline of this task")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="the timeline of the last 30s, 5m, 2h or 1d (default 10m)"
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="continue with new entries; needs --task")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> int:
    """Show every task's newest limit; with --task one timeline of the task's requests, replicas and limits.

    A timeline has a line for each second with requests and for each event, and below each limit in force its lag: from
    the readiness of a replica to the first request that shows the limit.
    """
    if context.invoked_subcommand is not None:
        if department or task or since or follow or json:
            raise typer.BadParameter(f"put options after {context.invoked_subcommand}")
        return DONE
    if task is None and (since or follow):
        raise typer.BadParameter("--since and --follow need the timeline of one task; give --task")
    options: Options = context.obj
    settings = options.load()
    with failures(settings):
        from tidegate.adapters.limiting.timeline import newest

        rows = [row for row in newest(settings.kafka) if department in (None, row.department)]
        if task is None:
            _print_limits(rows, json=json)
            return DONE
        key = _key(settings, rows, department, task)
        mine = [row for row in rows if (row.department, row.task) == key]
        if mine and not json:
            print_table(limits_table(mine))
            typer.echo()
        begin = datetime.now(UTC) - age("--since", since or DEFAULT_SINCE)
        return _print_timeline(settings, key, begin, follow=follow, json=json)


@limits.command()
def record(
    context: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="JSON lines; compressed if the name ends in .gz")
    ],
    lasts: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="record from now on for 30s, 5m, 2h or 1d")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="record what the topics hold of the last 30s, 5m, 2h or 1d"
        ),
    ] = None,
) -> int:
    """Record replica events, gateways, operators' controls and the catalog in a file for replay-limits.

    With --for it records until then, or until SIGTERM or Ctrl-C; the file is complete in either case.
    """
    from tidegate.adapters.limiting.recording import RecordingUnusable
    from tidegate.adapters.limiting.recording import record as write
    from tidegate.cli.stopping import stopping

    if lasts is None and since is None:
        raise typer.BadParameter("give --for, --since, or both")
    if out.exists():
        raise typer.BadParameter(f"--out {out}: the file exists already; remove it or give another name")
    ages = [
        timedelta(0) if text is None else age(name, text)
        for name, text in (("--since", since), ("--for", lasts))
    ]
    options: Options = context.obj
    settings = options.load()
    try:
        with failures(settings), stopping() as received:
            found = write(settings, out, ages[0], ages[1], received.stop)
    except RecordingUnusable as error:
        raise CommandFailed(str(error)) from error
    for topic, count in sorted(found.events.items()):
        typer.echo(f"{topic}: {count}", err=True)
    if found.unreadable:
        typer.echo(f"{found.unreadable} messages are not valid rows and were left out", err=True)
    typer.echo(f"{out}: {sum(found.events.values())} events", err=True)
    return received.exit_code


def _key(settings: Settings, rows: list[RateLimitRow], department: str | None, task: str) -> TaskKey:
    """The task's key. The department may be left out if only one has a task of this name."""
    from tidegate.adapters.catalog.source import known
    from tidegate.jobs.logic.limits.envoy_limits import TaskKey

    if department is not None:
        return TaskKey(department, task)
    found = {row.department for row in rows if row.task == task}
    if not found:
        catalog = known(settings)
        found = {owner for owner, name in (catalog.tasks if catalog else ()) if name == task}
    if len(found) == 1:
        return TaskKey(found.pop(), task)
    if found:
        raise typer.BadParameter(
            f"--task {task} is ambiguous: departments {', '.join(sorted(found))} have it; give --department"
        )
    raise typer.BadParameter(f"--task {task} has no limit yet and is not in the catalog; give --department")


def _print_limits(rows: list[RateLimitRow], *, json: bool) -> None:
    if json:
        for row in rows:
            typer.echo(row.model_copy(update={"id": f"{row.department}/{row.task}"}).model_dump_json())
    elif rows:
        print_table(limits_table(rows))
    else:
        typer.echo("no limits: `tidegate limit` hasn't decided any yet", err=True)


def _print_timeline(settings: Settings, key: TaskKey, begin: datetime, *, follow: bool, json: bool) -> int:
    from tidegate.adapters.limiting.timeline import TimelineReader
    from tidegate.jobs.logic.limits.timeline import EntryFilter, timeline

    unseen = EntryFilter()
    reader = TimelineReader(settings.kafka, key)
    try:
        record = reader.since(begin)
        for topic in reader.missing:
            typer.echo(f"topic {topic} doesn't exist", err=True)
        if not json:
            typer.echo(heading())
        if not follow:
            entries = timeline(record, begin, datetime.now(UTC), ended=True)
            _print_entries(entries, json=json)
            if not entries:
                typer.echo(f"{key} had no request and no event in this time", err=True)
            return DONE
        with stopping() as received:
            for known_to in reader.follow(record):
                _print_entries(unseen.new(timeline(record, begin, known_to, ended=False)), json=json)
                sys.stdout.flush()
                if received.stop.is_set():
                    break
                if known_to - begin > 2 * FOLLOWED:
                    begin = known_to - FOLLOWED
                    record.forget_before(begin)
                    unseen.forget_before(begin)
        return received.exit_code
    finally:
        reader.close()


def _print_entries(entries: Iterable[Entry], *, json: bool) -> None:
    for entry in entries:
        typer.echo(entry.model_dump_json() if json else entry_line(entry))
