"""Dashboard Call statistics: who called what, in hours and days."""

from __future__ import annotations

from grafana_foundation_sdk.builders import table

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Page, base_variables, choice, values_of
from tidegate.dashboards.panels import (
    ERROR_COLUMN,
    ERROR_RATE,
    LARGEST,
    Column,
    Look,
    grid,
    series,
    summed,
)
from tidegate.dashboards.queries import Metric, largest, over_time, rows, table_of, total

SPAN = "span:${call_span:raw}"
CHOSEN = ("department:${department}",)


def calls(level: str, *filters: str) -> str:
    """Call-statistics rows of one level, of the hours or days that the dashboard is set to."""
    return rows("tidegate.call-statistics", f"level:{level}", SPAN, *filters)


def page() -> Page:
    """The dashboard."""
    departments = calls("department", *CHOSEN)
    return Page(
        uid=uids.CALL_STATISTICS,
        title="tidegate / Call statistics",
        description="Calls, errors and bytes of each hour or day (UTC), by department, task and client.",
        variables=[
            *base_variables(span=None),
            choice("call_span", "Windows of", ("1h", "1d"), "Hours or days, both UTC."),
            values_of("department", "Department", "department", calls("department"), multiple=True),
        ],
        since="now-7d",
        refresh="5m",
        panels=[
            *[
                summed(
                    title,
                    "Sum of the departments' rows in the time range; the window that is open counts so far.",
                    unit,
                    over_time(departments, total(name)),
                    width=6,
                )
                for title, unit, name in _SUMS
            ],
            series(
                "Calls by department",
                "Calls of each window. The last one may be open: it is written again until it is over.",
                "short",
                over_time(departments, total("requests"), by="department", interval="${call_span:raw}"),
                look=Look(bars=True, stacked=True),
            ),
            series(
                "p99 by department",
                f"Of each window's own histogram. {LARGEST}",
                "ms",
                over_time(
                    departments, largest("latency_p99_ms"), by="department", interval="${call_span:raw}"
                ),
                look=Look(connected=True),
            ),
            _table("Departments", calls("department", *CHOSEN), ("department",)),
            _table("Tasks", calls("task", *CHOSEN), ("department", "task")),
            _table("Clients", calls("client", *CHOSEN), ("department", "task", "client")),
        ],
    )


_SUMS = (
    ("Calls", "short", "requests"),
    ("5xx", "short", "errors_5xx"),
    ("Rate limited", "short", "rate_limited"),
    ("Bytes sent", "bytes", "bytes_sent"),
)


def _table(title: str, query: str, by: tuple[str, ...]) -> table.Panel:
    metrics: list[Metric] = [
        total("requests"),
        total("errors_5xx"),
        total("aborted"),
        total("errors_4xx"),
        total("rate_limited"),
        total("bytes_received"),
        total("bytes_sent"),
        largest("latency_p99_ms"),
    ]
    return grid(
        title,
        "Over the time range, from the rows of this level. Counts and bytes are sums, the error rate is a ratio of "
        f"sums, p99 is that of the slowest window. {LARGEST}",
        table_of(query, *metrics, by=by, top=200),
        computed=[ERROR_RATE],
        columns={
            **{name: Column(name) for name in by},
            "Sum requests": Column("calls", "short"),
            "error rate": ERROR_COLUMN,
            "Sum errors_4xx": Column("4xx", "short"),
            "Sum rate_limited": Column("rate limited", "short"),
            "Sum bytes_received": Column("received", "bytes"),
            "Sum bytes_sent": Column("sent", "bytes"),
            "Max": Column("worst p99", "ms"),
        },
        sort="calls",
    )
