"""`tidegate windows`: the service-metrics rows in Kafka, as a table or as JSON lines."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tidegate.cli.ages import age
from tidegate.cli.app_context import DONE, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from tidegate.schemas.rows.service_metrics import ServiceMetricsRow

DEFAULT_LAST = 50
_ANY_WIDTH = 1000

COLUMNS = (
    "window", "level", "department", "task", "version", "replica", "requests", "qps",
    "p50 ms", "p90 ms", "p99 ms", "first byte", "tokens/s", "in flight", "retries",
    "4xx", "5xx", "aborted", "limited", "apdex", "replicas",
)  # fmt: skip
_FIRST_NUMBER = COLUMNS.index("requests")
_FOLLOW_WIDTHS = (24, 10, 14, 20, 10, 21, 8, 9, 9, 9, 9, 10, 8, 9, 7, 6, 6, 7, 7, 5, 8)


class SpanName(StrEnum):
    """The lengths of a window."""

    SECOND = "1s"
    MINUTE = "1m"


class LevelName(StrEnum):
    """The levels of a row."""

    DEPARTMENT = "department"
    TASK = "task"
    VERSION = "version"
    REPLICA = "replica"


def windows(
    context: typer.Context,
    span: Annotated[SpanName, typer.Option("--span", help="length of the windows")] = SpanName.SECOND,
    level: Annotated[LevelName | None, typer.Option("--level", help="default: all levels")] = None,
    department: Annotated[str | None, typer.Option("--department", help="only this department")] = None,
    task: Annotated[str | None, typer.Option("--task", help="only this task")] = None,
    last: Annotated[
        int | None,
        typer.Option("--last", min=1, max=100_000, metavar="N", help="the newest N rows (default 50)"),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="windows of the last 30s, 5m, 2h or 1d")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="continue with new rows")] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> int:
    """Show rows of tidegate.service-metrics, oldest first.

    Ends at the newest row in Kafka, unless --follow is given. Joins no consumer group.
    """
    from tidegate.adapters.queries.windows import RowFilter, WindowReader

    if last is not None and since is not None:
        raise typer.BadParameter("give --last or --since, not both")
    options: Options = context.obj
    settings = options.load()
    begin = None if since is None else datetime.now(UTC) - age("--since", since)
    wanted = RowFilter(level.value if level else None, department, task, begin)
    with failures(settings):
        reader = WindowReader(settings.kafka, span.value)
        try:
            earlier = (
                reader.since(wanted, begin)
                if begin is not None
                else reader.newest(wanted, last or DEFAULT_LAST)
            )
            _print(earlier, json=json, follow=follow)
            code = _print_coming(reader.follow(wanted), json=json) if follow else DONE
        finally:
            reader.close()
        if reader.unreadable:
            typer.echo(f"{reader.unreadable} messages are not valid service-metrics rows", err=True)
    return code


def cells(row: ServiceMetricsRow) -> tuple[str, ...]:
    """A row's cells in the order of COLUMNS; a value that is unknown or doesn't apply is a dash."""
    from tidegate.schemas.timestamps import to_text

    return (
        to_text(row.window_start),
        row.level,
        row.department,
        row.task or "-",
        row.version or "-",
        row.replica or "-",
        str(row.requests),
        f"{row.qps:.1f}",
        *(_number(value) for value in (row.latency_p50_ms, row.latency_p90_ms, row.latency_p99_ms)),
        _number(row.first_byte_p50_ms),
        _number(row.output_tokens_per_second),
        _number(row.concurrency),
        "-" if row.retries is None else str(row.retries),
        str(row.errors_4xx),
        str(row.errors_5xx),
        str(row.aborted),
        str(row.rate_limited),
        "-" if row.apdex is None else f"{row.apdex:.2f}",
        str(row.replicas_seen),
    )


def as_table(rows: Iterable[ServiceMetricsRow]) -> Table:
    """The rows as a table."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if number >= _FIRST_NUMBER else "left", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    return table


def as_line(texts: Iterable[str]) -> str:
    """One line with columns of fixed width, for rows that arrive one by one."""
    parts = [
        text.rjust(width) if number >= _FIRST_NUMBER else text.ljust(width)
        for number, (text, width) in enumerate(zip(texts, _FOLLOW_WIDTHS, strict=True))
    ]
    return " ".join(parts)


def _print(rows: list[ServiceMetricsRow], *, json: bool, follow: bool) -> None:
    if json:
        for row in rows:
            typer.echo(row.model_dump_json())
    elif follow:
        typer.echo(as_line(COLUMNS))
        for row in rows:
            typer.echo(as_line(cells(row)))
    elif rows:
        from rich.console import Console

        table = as_table(rows)
        console = Console(highlight=False)
        # The whole table, also into a pipe or a narrow window: a truncated number would be a wrong one.
        console.width = max(
            console.width, console.measure(table, options=console.options.update(width=_ANY_WIDTH)).maximum
        )
        console.print(table, soft_wrap=True)
    else:
        typer.echo("no row matches", err=True)


def _print_coming(coming: Iterable[ServiceMetricsRow | None], *, json: bool) -> int:
    """Print rows until SIGTERM or Ctrl-C; returns the exit code."""
    with stopping() as received:
        for row in coming:
            _print_one(row, json=json)
            if received.stop.is_set():
                break
    return received.exit_code


def _print_one(row: ServiceMetricsRow | None, *, json: bool) -> None:
    if row is None:
        sys.stdout.flush()
    else:
        typer.echo(row.model_dump_json() if json else as_line(cells(row)))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
