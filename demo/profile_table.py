"""Renders task profiles and alerts, for the live table and for the summary."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tidegate.demo.profile_board import AlertLine
from tidegate.schemas.rows.resources import TaskProfile

SHOWN_ALERTS = 3


def render(profiles: Sequence[TaskProfile], alerts: Sequence[AlertLine]) -> RenderableType:
    """The current profiles of these tasks, and the last alerts. Fits 80 columns."""
    parts: list[RenderableType] = []
    if profiles:
        parts += [Text("\nTask profiles", "bold"), table(profiles)]
    parts += [_alert(line) for line in alerts[-SHOWN_ALERTS:]]
    return Group(*parts)


def height(profiles: Sequence[TaskProfile], alerts: Sequence[AlertLine]) -> int:
    """About how many lines of a terminal `render` takes, at 80 columns."""
    return (5 + len(profiles) if profiles else 0) + 2 * min(len(alerts), SHOWN_ALERTS)


def table(profiles: Sequence[TaskProfile]) -> Table:
    """A line for each task. A figure whose input is stale or was never there is `-`."""
    made = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    made.add_column("", no_wrap=True, vertical="bottom")
    for heading in (
        "ready/\nwant",
        "qps",
        "of a\nreplica",
        "can\ntake",
        "p99\nms",
        "limit\n%",
        "CPU\n%",
        "CPU ms\nof one",
        "mem\n%",
        "GPU\n%",
    ):
        made.add_column(heading, justify="right", no_wrap=True)
    for profile in profiles:
        capacity = profile.sustained_qps_per_replica or profile.capacity_qps_per_replica
        made.add_row(
            f"  {profile.task}",
            f"{_number(profile.replicas_ready, 0)}/{_number(profile.replicas_desired, 0)}",
            _number(profile.qps),
            _number(profile.qps_per_replica),
            _number(capacity),
            _number(profile.latency_p99_ms, 0),
            _percent(profile.limit_used_ratio),
            _percent(profile.cpu_of_limit_ratio),
            _number(profile.cpu_seconds_per_request, 0, 1000),
            _percent(profile.memory_of_limit_ratio),
            _percent(profile.gpu_utilization_ratio),
        )
    return made


def summary(profiles: Sequence[TaskProfile], alerts: Sequence[AlertLine]) -> RenderableType:
    """The last profile of each task, and the lifecycle of each alert."""
    parts: list[RenderableType] = []
    if profiles:
        parts += [Text("\nTask profiles at the end", "bold"), table(profiles)]
    if alerts:
        parts += [Text("\nAlerts", "bold"), *(_alert(line) for line in alerts)]
    return Group(*parts)


def _alert(line: AlertLine) -> Text:
    row = line.row
    lifecycle = f"fired {line.fired_s or 0:.0f} s after it began"
    if line.lag_s is not None:
        lifecycle += f", published {line.lag_s:.1f} s after the deciding second"
    if line.resolved_s is not None:
        lifecycle += f", resolved after {line.resolved_s:.0f} s"
    style = "green" if row.state == "resolved" else "red" if row.severity == "critical" else "yellow"
    return Text.assemble((f"  {row.state} {row.severity} {row.rule}: ", style), f"{row.message}; {lifecycle}")


def _number(value: float | None, digits: int = 1, factor: float = 1) -> str:
    return "-" if value is None else f"{value * factor:,.{digits}f}"


def _percent(value: float | None) -> str:
    return _number(value, 0, 100)
