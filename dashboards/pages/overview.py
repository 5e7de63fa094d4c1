"""Dashboard Overview: the state of the departments, and the tasks that changed most."""

from __future__ import annotations

from grafana_foundation_sdk.builders import table

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Page, base_variables
from tidegate.dashboards.panels import (
    ERROR_COLUMN,
    ERROR_RATE,
    ERROR_STEPS,
    LARGEST,
    LIMITED_COLUMN,
    LIMITED_RATIO,
    LIMITED_STEPS,
    TO_TASK,
    Column,
    Computed,
    Look,
    grid,
    link_to,
    now,
    series,
    summed,
)
from tidegate.dashboards.queries import (
    DOCUMENTS,
    distinct,
    largest,
    over_time,
    rates,
    ratio,
    rows,
    service,
    table_of,
    total,
)

DEPARTMENTS = service("department")
TASKS = service("task")
FAILED = {"R": "requests", "F": "errors_5xx", "A": "aborted"}
LIMITED = {"R": "requests", "L": "rate_limited"}

NEWEST = "window_start:[${__to}||-10m TO ${__to}]"
BEFORE = "window_start:[${__to}||-20m TO ${__to}||-10m}"


def page() -> Page:
    """The dashboard."""
    return Page(
        uid=uids.OVERVIEW,
        title="tidegate / Overview",
        description="How each department does: requests, latency, errors, what its rate limits refuse.",
        variables=base_variables(),
        panels=[
            "Now",
            now(
                "Requests",
                "Of all departments together, in the newest window: the sum of their rows.",
                "reqps",
                *rates(DEPARTMENTS, {"R": "requests"}, {"qps": "$R"}, empty=False),
            ),
            now(
                "Error rate",
                "5xx and aborted requests of all departments by all their requests: a ratio of sums.",
                "percentunit",
                *ratio(DEPARTMENTS, FAILED, "($F + $A) / $R", "error rate"),
                steps=ERROR_STEPS,
            ),
            now(
                "Rate limited",
                "Requests that rate limits refused by all requests: a ratio of sums.",
                "percentunit",
                *ratio(DEPARTMENTS, LIMITED, "$L / $R", "rate limited"),
                steps=LIMITED_STEPS,
            ),
            now(
                "Slowest department's p99",
                f"The largest p99 among the departments' rows of the newest window. {LARGEST}",
                "ms",
                over_time(DEPARTMENTS, largest("latency_p99_ms"), empty=False),
            ),
            now(
                "Tasks with requests",
                "How many tasks had a request, of those that the newest window has a row of.",
                "short",
                over_time(TASKS, distinct("task"), empty=False),
            ),
            summed(
                "Alerts that fire or fired",
                "Alerts whose newest state in the time range is, or was before it was resolved, firing.",
                "short",
                over_time(rows("tidegate.alerts", "state:firing"), DOCUMENTS),
                steps=((None, "green"), (1, "orange")),
            ),
            "Departments",
            _departments(),
            series(
                "Requests",
                "Each department's requests a second, from its own rows. Where a bucket of time holds more than one "
                "row, the busiest of them.",
                "reqps",
                over_time(DEPARTMENTS, largest("qps"), by="department"),
            ),
            series(
                "p99",
                f"Each department's p99, from its own rows: not made of its tasks'. {LARGEST}",
                "ms",
                over_time(DEPARTMENTS, largest("latency_p99_ms"), by="department"),
            ),
            series(
                "Error rate",
                f"5xx and aborted by all requests, of each department's rows. {LARGEST}",
                "percentunit",
                over_time(DEPARTMENTS, largest("error_rate"), by="department"),
                look=Look(steps=ERROR_STEPS),
            ),
            series(
                "Rate limited",
                f"Refused by all requests, of each department's rows. {LARGEST}",
                "percentunit",
                over_time(DEPARTMENTS, largest("rate_limited_ratio"), by="department"),
                look=Look(steps=LIMITED_STEPS),
            ),
            "Tasks",
            _movers("Top movers: more requests", "The tasks whose requests grew most"),
            _slowest(),
        ],
    )


def _departments() -> table.Panel:
    metrics = [
        total("requests"),
        largest("qps"),
        largest("latency_p99_ms"),
        total("errors_5xx"),
        total("aborted"),
        total("rate_limited"),
    ]
    return grid(
        "Departments",
        "Over the time range. Requests are sums; the ratios are of sums; qps and p99 are those of the busiest and of "
        f"the slowest row. {LARGEST}",
        table_of(DEPARTMENTS, *metrics, by=("department",)),
        computed=[ERROR_RATE, LIMITED_RATIO],
        columns={
            "department": Column(
                "department", link=("Open department", link_to(uids.DEPARTMENT, department="department"))
            ),
            "Sum requests": Column("requests", "short"),
            "Max qps": Column("busiest qps", "reqps"),
            "Max latency_p99_ms": Column("worst p99", "ms"),
            "error rate": ERROR_COLUMN,
            "limited": LIMITED_COLUMN,
        },
        sort="requests",
    )


def _movers(title: str, meaning: str) -> table.Panel:
    return grid(
        title,
        f"{meaning} between the ten minutes before the last ten and the last ten of the time range, in requests: sums "
        "of the tasks' own rows.",
        table_of(f"{TASKS} AND {NEWEST}", total("requests"), by=("department", "task"), top=1000),
        # Two sums, so that Grafana heads the columns otherwise than the first query's, and keeps both in the merge.
        table_of(
            f"{TASKS} AND {BEFORE}",
            total("requests"),
            total("rate_limited"),
            by=("department", "task"),
            top=1000,
            ref="B",
        ),
        computed=[Computed("change", ["Sum"], "-", "Sum requests")],
        columns={
            "department": Column("department"),
            "task": Column("task", link=TO_TASK),
            "Sum requests": Column("ten minutes before", "short"),
            "Sum": Column("last ten minutes", "short"),
            "change": Column("change", "short"),
        },
        sort="change",
        limit=20,
        width=12,
    )


def _slowest() -> table.Panel:
    metrics = [
        largest("latency_p99_ms"),
        total("requests"),
        total("errors_5xx"),
        total("aborted"),
        total("rate_limited"),
    ]
    return grid(
        "Slowest tasks",
        f"By the largest p99 of the tasks' rows in the time range. {LARGEST}",
        table_of(TASKS, *metrics, by=("department", "task"), top=100),
        computed=[ERROR_RATE, LIMITED_RATIO],
        columns={
            "department": Column("department"),
            "task": Column("task", link=TO_TASK),
            "Max": Column("worst p99", "ms"),
            "Sum requests": Column("requests", "short"),
            "error rate": ERROR_COLUMN,
            "limited": LIMITED_COLUMN,
        },
        sort="worst p99",
        limit=20,
        width=12,
    )
