"""Dashboard Department: one department, and its tasks beside each other."""

from __future__ import annotations

from grafana_foundation_sdk.builders import table

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Page, base_variables, values_of
from tidegate.dashboards.panels import (
    ERROR_COLUMN,
    ERROR_RATE,
    ERROR_STEPS,
    LARGEST,
    LIMITED_COLUMN,
    LIMITED_RATIO,
    LIMITED_STEPS,
    OF_LIMIT_STEPS,
    TO_TASK,
    Column,
    Look,
    grid,
    now,
    percentiles,
    results,
    series,
)
from tidegate.dashboards.queries import (
    IN_DEPARTMENT,
    documents,
    largest,
    over_time,
    rates,
    rows,
    service,
    table_of,
    total,
)

OWN = service("department", IN_DEPARTMENT)
TASKS = service("task", IN_DEPARTMENT)


def page() -> Page:
    """The dashboard."""
    return Page(
        uid=uids.DEPARTMENT,
        title="tidegate / Department",
        description="One department: its own rows, and its tasks beside each other.",
        variables=[
            *base_variables(),
            values_of("department", "Department", "department", service("department")),
        ],
        panels=[
            "${department}",
            now(
                "Requests",
                "In the newest window, from the department's own rows.",
                "reqps",
                *rates(OWN, {"R": "requests"}, {"qps": "$R"}, empty=False),
                width=6,
            ),
            now(
                "p99",
                f"Of the department's newest row. {LARGEST}",
                "ms",
                over_time(OWN, largest("latency_p99_ms"), empty=False),
                width=6,
            ),
            now(
                "Error rate",
                f"5xx and aborted by all requests, of the department's newest row. {LARGEST}",
                "percentunit",
                over_time(OWN, largest("error_rate"), empty=False),
                steps=ERROR_STEPS,
                width=6,
            ),
            now(
                "Rate limited",
                f"Refused by all requests, of the department's newest row. {LARGEST}",
                "percentunit",
                over_time(OWN, largest("rate_limited_ratio"), empty=False),
                steps=LIMITED_STEPS,
                width=6,
            ),
            percentiles("Of the department's own rows: not made of its tasks'.", OWN),
            results("From the department's own rows.", OWN),
            "Tasks",
            _tasks(),
            series(
                "Requests by task",
                "From the tasks' rows, of the twenty busiest. Where a bucket of time holds more than one row, the "
                "busiest of them.",
                "reqps",
                over_time(TASKS, largest("qps"), by="task"),
            ),
            series(
                "p99 by task",
                f"From the tasks' rows, of the twenty slowest. {LARGEST}",
                "ms",
                over_time(TASKS, largest("latency_p99_ms"), by="task"),
            ),
            series(
                "Error rate by task",
                f"From the tasks' rows, of the twenty with the largest. {LARGEST}",
                "percentunit",
                over_time(TASKS, largest("error_rate"), by="task"),
                look=Look(steps=ERROR_STEPS),
            ),
            series(
                "Rate limited by task",
                f"From the tasks' rows, of the twenty with the largest. {LARGEST}",
                "percentunit",
                over_time(TASKS, largest("rate_limited_ratio"), by="task"),
                look=Look(steps=LIMITED_STEPS),
            ),
            _profiles(),
        ],
    )


def _tasks() -> table.Panel:
    metrics = [
        total("requests"),
        largest("latency_p99_ms"),
        largest("replicas_seen"),
        total("errors_5xx"),
        total("aborted"),
        total("rate_limited"),
    ]
    return grid(
        "Tasks",
        "Over the time range. Requests are sums, the ratios are of sums; p99 and replicas are the largest of the "
        f"tasks' rows. {LARGEST}",
        table_of(TASKS, *metrics, by=("department", "task")),
        computed=[ERROR_RATE, LIMITED_RATIO],
        columns={
            "task": Column("task", link=TO_TASK),
            "Sum requests": Column("requests", "short"),
            "Max latency_p99_ms": Column("worst p99", "ms"),
            "error rate": ERROR_COLUMN,
            "limited": LIMITED_COLUMN,
            "Max replicas_seen": Column("most replicas that answered", "short"),
            # Hidden by Grafana's own rules no column can be a link's source, so the department stays in view.
            "department": Column("department"),
        },
        sort="requests",
    )


def _profiles() -> table.Panel:
    return grid(
        "Current profile of each task",
        "The newest profile of each task: over the last minute of whole seconds, with the replicas, limit and use of "
        "resources beside it. Its p99 is of the whole minute's histogram. A field is empty where its input is stale.",
        documents(rows("tidegate.task-profile", IN_DEPARTMENT), size=500),
        columns={
            "task": Column("task", link=TO_TASK),
            "owner": Column("owner"),
            "replicas_ready": Column("ready", "short"),
            "replicas_desired": Column("wanted", "short"),
            "qps": Column("qps", "reqps"),
            "latency_p99_ms": Column("p99", "ms"),
            "error_rate": ERROR_COLUMN,
            "limit_qps": Column("limit", "reqps"),
            "limit_used_ratio": Column("limit used", "percentunit", OF_LIMIT_STEPS),
            "cpu_of_limit_ratio": Column("CPU", "percentunit", OF_LIMIT_STEPS),
            "memory_of_limit_ratio": Column("memory", "percentunit", OF_LIMIT_STEPS),
            "gpu_utilization_ratio": Column("GPU", "percentunit"),
            "department": Column("department"),
        },
        sort="qps",
    )
