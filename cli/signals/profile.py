"""`tidegate profile`: shows the newest profile of each task."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from tidegate.cli.app_context import DONE, FAILED, Options
from tidegate.cli.failures import failures
from tidegate.schemas.rows.resources import TaskProfile

if TYPE_CHECKING:
    from tidegate.schemas.settings import Kafka


def profile(
    context: typer.Context,
    task: Annotated[str | None, typer.Option("--task", "-t", help="only this task, with every field")] = None,
    department: Annotated[str | None, typer.Option("--department", "-d", help="only this department")] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> int:
    """Show the newest profile of each task: replicas, traffic, limit, resources, capacity, and their freshness.

    Exits with 1 if there is none.
    """
    options: Options = context.obj
    settings = options.load()
    with failures(settings):
        found = [
            row
            for row in _newest(settings.kafka)
            if (task is None or row.task == task) and (department is None or row.department == department)
        ]
        if json:
            for row in found:
                typer.echo(row.model_dump_json())
        elif task is not None:
            for row in found:
                _in_full(row)
        elif found:
            _console().print(_table(found))
    if not found:
        typer.echo("no matching task has a profile; check that the job task-profile is running", err=True)
    return DONE if found else FAILED


def _newest(kafka: Kafka) -> list[TaskProfile]:
    """By department and task. A message that is not a valid profile is logged and left out."""
    from tidegate.adapters.kafka.client import ensure_topics
    from tidegate.adapters.kafka.log import newest
    from tidegate.schemas.topics import TASK_PROFILE

    ensure_topics(kafka, [TASK_PROFILE])
    rows = newest(kafka, TASK_PROFILE, TaskProfile).values()
    return sorted(rows, key=lambda row: (row.department, row.task))


_COLUMNS = (
    "ready",
    "qps",
    "of one",
    "can take",
    "p50 ms",
    "p99 ms",
    "errors %",
    "limited %",
    "limit",
    "used %",
    "CPU %",
    "mem %",
    "GPU %",
)


def _table(rows: Iterable[TaskProfile]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("task", no_wrap=True)
    for heading in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("stale or unknown")
    for row in rows:
        table.add_row(
            f"{row.department}/{row.task}",
            "-" if row.replicas_ready is None else str(row.replicas_ready),
            _number(row.qps),
            _number(row.qps_per_replica),
            _number(row.sustained_qps_per_replica or row.capacity_qps_per_replica),
            _number(row.latency_p50_ms, 0),
            _number(row.latency_p99_ms, 0),
            _percent(row.error_rate),
            _percent(row.rate_limited_ratio),
            _number(row.limit_qps, 0),
            _percent(row.limit_used_ratio),
            _percent(row.cpu_of_limit_ratio),
            _percent(row.memory_of_limit_ratio),
            _percent(row.gpu_utilization_ratio),
            ", ".join(row.stale_inputs),
        )
    return table


def _in_full(row: TaskProfile) -> None:
    """Print every known field, one line each."""
    typer.echo(f"{row.department}/{row.task} at {row.computed_at:%Y-%m-%d %H:%M:%S}Z")
    fields = row.model_dump(exclude={"id", "department", "task", "computed_at", "freshness", "stale_inputs"})
    for name, value in fields.items():
        if value is None or value == ():
            continue
        shown = f"{value:,.4g}" if isinstance(value, float) else value
        typer.echo(f"  {name:28} {shown}")
    for name, one in row.freshness.items():
        age = "" if one.age_ms is None else f", {one.age_ms / 1000:.1f} s old"
        state = "stale" if one.stale else "fresh"
        seen = "never observed" if one.observed_at is None else f"observed at {one.observed_at:%H:%M:%S}Z"
        typer.echo(f"  {name:28} {state}, {seen}{age}")


def _console() -> Console:
    """The terminal, or a console that is wide enough for the table if the output is a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
