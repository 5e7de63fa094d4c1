"""`tidegate report`: call statistics of one day, as a table, CSV or Parquet."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from tidegate.cli.app_context import DONE, FAILED, CommandFailed, Options
from tidegate.cli.failures import failures

if TYPE_CHECKING:
    import pandas as pd

    from tidegate.adapters.queries.report import Report


class By(StrEnum):
    """The grouping of the report's lines."""

    DEPARTMENT = "department"
    TASK = "task"
    CLIENT = "client"
    HOUR = "hour"


class Form(StrEnum):
    """The format of the report."""

    TABLE = "table"
    CSV = "csv"
    PARQUET = "parquet"


def report(
    context: typer.Context,
    day: Annotated[
        datetime | None, typer.Option("--day", formats=["%Y-%m-%d"], help="UTC; default: yesterday")
    ] = None,
    by: Annotated[By, typer.Option("--by", help="one line for each of these")] = By.TASK,
    department: Annotated[str | None, typer.Option("--department", "-d", help="only this department")] = None,
    form: Annotated[Form, typer.Option("--format", "-f", help="parquet needs --out")] = Form.TABLE,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="file; default: standard output")] = None,
) -> int:
    """Report the calls of one day per department, task, client or hour, from tidegate.call-statistics.

    Exits with 1 if the topic holds no call of that day.
    """
    if form is Form.PARQUET and out is None:
        raise typer.BadParameter("--format parquet needs --out FILE")
    try:
        from tidegate.adapters.queries.report import report as made
        from tidegate.adapters.queries.report import rows_of
    except ImportError as error:
        raise CommandFailed(f"{error}; pip install 'tidegate[report]'") from error
    options: Options = context.obj
    settings = options.load()
    wanted = (day or datetime.now(UTC) - timedelta(days=1)).date()
    with failures(settings):
        found = made(rows_of(settings.kafka, wanted), by.value, department)
    if found is None:
        typer.echo(
            f"tidegate.call-statistics holds no call of {wanted}; check that the job call-statistics ran that day",
            err=True,
        )
        return FAILED
    try:
        _write(found, form, out)
    except OSError as error:
        raise CommandFailed(f"--out {out}: {error}") from error
    if found.hours < 24:
        until = f"{found.until:%Y-%m-%d %H:%M}"
        typer.echo(f"the topic holds calls of {found.hours} hours of {wanted}, up to {until} UTC", err=True)
    return DONE


def _write(found: Report, form: Form, out: Path | None) -> None:
    if form is Form.PARQUET and out is not None:
        found.table.to_parquet(out, index=False)
    elif form is Form.CSV:
        found.table.to_csv(sys.stdout if out is None else out, index=False)
    elif out is None:
        Console(highlight=False, width=None if sys.stdout.isatty() else 180).print(_table(found.table))
    else:
        with out.open("w") as file:
            Console(highlight=False, width=180, file=file).print(_table(found.table))


def _table(frame: pd.DataFrame) -> Table:
    """The table with a line of totals, except for percentiles, which don't add up."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    names = [name for name in frame.columns if frame[name].dtype == object and not name.startswith("latency")]
    for name in frame.columns:
        table.add_column(name.replace("_", " "), justify="left" if name in names else "right", no_wrap=True)
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*(_shown(name, value) for name, value in zip(frame.columns, row, strict=True)))
    table.add_section()
    sums = frame.sum(numeric_only=True)
    failed, requests = sums["errors_5xx"] + sums["aborted"], sums["requests"]
    total = []
    for index, name in enumerate(frame.columns):
        if name in names:
            total.append("all" if index == 0 else "")
        elif name.startswith("latency_p"):
            total.append("")
        else:
            total.append(_shown(name, failed / requests if name == "error_rate" else int(sums[name])))
    table.add_row(*total, style="bold")
    return table


def _shown(name: str, value: object) -> str:
    if isinstance(value, float):
        if math.isnan(value):  # pandas' null
            return "-"
        return f"{100 * value:.2f}%" if name == "error_rate" else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
