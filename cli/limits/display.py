"""Renders limits and the task catalog as tables, and a task's timeline line by line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from tidegate.jobs.logic.limits.timeline import Entry, Lag, Second
    from tidegate.schemas.catalog import Catalog, Task
    from tidegate.schemas.rows.limits import RateLimitRow

_ANY_WIDTH = 1000

LIMIT_COLUMNS = (
    "department", "task", "gateway", "replicas", "gateways", "limit qps", "a gateway", "burst",
    "state", "since", "reason",
)  # fmt: skip
_LIMIT_NUMBERS = ("replicas", "gateways", "limit qps", "a gateway", "burst")
SECOND_COLUMNS = ("time", "offered", "admitted", "limited", "p99 ms", "limit qps", "ready", "answered")
_SECOND_WIDTHS = (24, 9, 9, 9, 9, 10, 6, 8)
TASK_COLUMNS = (
    "department", "task", "gateway", "route", "qps a replica", "headroom", "floor", "ceiling", "burst s",
    "clients", "owner",
)  # fmt: skip
_TASK_NUMBERS = ("qps a replica", "headroom", "floor", "ceiling", "burst s", "clients")


def limit_cells(row: RateLimitRow) -> tuple[str, ...]:
    """A limit's cells in the order of LIMIT_COLUMNS; an unknown value is a dash."""
    from tidegate.schemas.timestamps import to_text

    return (
        row.department,
        row.task,
        row.gateway,
        *(_number(value) for value in (row.replicas, row.gateways)),
        *(_number(value) for value in (row.limit_qps, row.limit_qps_per_gateway, row.burst)),
        row.state,
        # When the limit came into force, or else when it was decided.
        to_text(row.applied_at or row.decided_at),
        row.reason,
    )


def limits_table(rows: Iterable[RateLimitRow]) -> Table:
    """The limits as a table."""
    return _table(LIMIT_COLUMNS, _LIMIT_NUMBERS, (limit_cells(row) for row in rows))


def task_cells(task: Task) -> tuple[str, ...]:
    """A task's cells in the order of TASK_COLUMNS. Clients: the limit of one, and how many have their own."""
    clients = task.clients
    named = f" +{len(clients.named)}" if clients.named else ""
    return (
        task.department,
        task.name,
        task.gateway,
        task.route,
        *(_number(value) for value in (task.qps_per_replica, task.headroom, task.floor_qps)),
        *(_number(value) for value in (task.ceiling_qps, task.burst_seconds)),
        _number(clients.limit_qps) + named,
        task.owner or "-",
    )


def catalog_table(catalog: Catalog) -> Table:
    """The tasks of a catalog as a table."""
    return _table(
        TASK_COLUMNS, _TASK_NUMBERS, (task_cells(task) for _, task in sorted(catalog.tasks.items()))
    )


def counted(number: int, what: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def catalog_line(catalog: Catalog) -> str:
    """A catalog's number of tasks, departments and gateways."""
    departments = {department for department, _ in catalog.tasks}
    return (
        f"{counted(len(catalog.tasks), 'task')} of {counted(len(departments), 'department')}, "
        f"{counted(len(catalog.gateways), 'gateway')}"
    )


def print_table(table: Table) -> None:
    """Print the whole table, also into a pipe or a narrow window: a truncated number would be a wrong one."""
    from rich.console import Console

    console = Console(highlight=False)
    widest = console.measure(table, options=console.options.update(width=_ANY_WIDTH)).maximum
    console.width = max(console.width, widest)
    console.print(table, soft_wrap=True, markup=False)


def heading() -> str:
    """The column heads of a timeline."""
    return _in_columns(SECOND_COLUMNS)


def entry_line(entry: Entry) -> str:
    """An entry of a timeline: a second in columns, an event as a sentence."""
    from tidegate.jobs.logic.limits.timeline import Lag, Second
    from tidegate.schemas.timestamps import to_text

    if isinstance(entry, Second):
        return _in_columns(_second_cells(entry))
    words = _lag_words(entry) if isinstance(entry, Lag) else entry.text
    return f"{to_text(entry.at)}  {entry.type:<8}  {words}"


def _second_cells(second: Second) -> tuple[str, ...]:
    from tidegate.schemas.timestamps import to_text

    p99 = second.latency_p99_ms
    return (
        to_text(second.at),
        *(str(count) for count in (second.offered, second.admitted, second.rate_limited)),
        "-" if p99 is None else f"{p99:.1f}",
        *(_number(value) for value in (second.limit_qps, second.replicas, second.replicas_seen)),
    )


def _lag_words(lag: Lag) -> str:
    from tidegate.jobs.logic.limits.timeline import steps

    parts = []
    for name, seconds in steps(lag):
        parts.append(f"{name}: not seen" if seconds is None else f"{name} +{seconds:.2f} s")
    change = {
        "first": f"first limit, {lag.to_qps:g} qps",
        "same": f"still {lag.to_qps:g} qps",
    }.get(lag.direction, f"{lag.direction} {_number(lag.from_qps)} -> {lag.to_qps:g} qps")
    begin = "decided" if lag.ready_at is None else "readiness"
    return f"revision {lag.revision}, {change}: {begin} -> {', '.join(parts)}{_whole(lag)}"


def _whole(lag: Lag) -> str:
    """The lag from the replica's readiness to the limit in force."""
    if lag.ready_at is None:
        return ""
    return f"; in force {(lag.applied_at - lag.ready_at).total_seconds():.2f} s after the readiness"


def _in_columns(texts: Sequence[str]) -> str:
    return " ".join(
        text.rjust(width) if number else text.ljust(width)
        for number, (text, width) in enumerate(zip(texts, _SECOND_WIDTHS, strict=True))
    )


def _table(names: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
