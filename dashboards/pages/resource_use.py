"""Dashboard Resources: CPU, memory, network and GPU of tasks and replicas."""

from __future__ import annotations

from grafana_foundation_sdk.builders import table, timeseries

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Page, base_variables, values_of
from tidegate.dashboards.panels import (
    LARGEST,
    OF_LIMIT_STEPS,
    PLAIN,
    TO_TASK,
    Column,
    Look,
    grid,
    link_to,
    series,
)
from tidegate.dashboards.queries import largest, over_time, resources, table_of, total

CHOSEN = ("department:${department}", "task:${task}")
TASKS = resources("task", *CHOSEN)
REPLICAS = resources("replica", *CHOSEN)

_OF_TASKS = (
    ("CPU of the limit", "percentunit", "cpu_of_limit_ratio"),
    ("CPU cores", "short", "cpu_cores"),
    ("CPU time refused", "percentunit", "cpu_throttled_ratio"),
    ("Memory of the limit", "percentunit", "memory_of_limit_ratio"),
    ("Memory", "bytes", "memory_working_set_bytes"),
    ("GPU", "percentunit", "gpu_utilization_ratio"),
    ("GPU memory", "percentunit", "gpu_memory_of_total_ratio"),
    ("GPU power", "watt", "gpu_power_watts"),
    ("Network received", "Bps", "network_receive_bytes_per_second"),
    ("Network sent", "Bps", "network_transmit_bytes_per_second"),
)


def page() -> Page:
    """The dashboard."""
    return Page(
        uid=uids.RESOURCES,
        title="tidegate / Resources",
        description="What tasks and their replicas use of CPU, memory, network and GPU.",
        variables=[
            *base_variables(span=None, resource_span="1m"),
            values_of("department", "Department", "department", resources("task"), multiple=True),
            values_of("task", "Task", "task", resources("task", "department:${department}"), multiple=True),
        ],
        since="now-6h",
        panels=[
            "Tasks",
            _tasks(),
            *[_of_tasks(title, unit, name) for title, unit, name in _OF_TASKS],
            "Replicas",
            _replicas(),
            series(
                "Restarts",
                "Of containers, by task: sums of the tasks' windows. Counts of each bucket of time.",
                "short",
                over_time(TASKS, total("restarts"), by="task"),
                look=Look(bars=True, stacked=True),
                width=24,
            ),
        ],
    )


def _of_tasks(title: str, unit: str, name: str) -> timeseries.Panel:
    steps = OF_LIMIT_STEPS if unit == "percentunit" else PLAIN
    meaning = "From the tasks' own rows, whose ratios are of the replicas' sums; of the twenty largest."
    return series(
        title,
        f"{meaning} {LARGEST}",
        unit,
        over_time(TASKS, largest(name), by="task"),
        look=Look(steps=steps),
    )


def _tasks() -> table.Panel:
    metrics = [
        largest("cpu_of_limit_ratio"),
        largest("cpu_throttled_ratio"),
        largest("memory_of_limit_ratio"),
        largest("gpu_utilization_ratio"),
        largest("gpu_memory_of_total_ratio"),
        largest("replicas_seen"),
        largest("replicas_desired"),
        total("restarts"),
    ]
    return grid(
        "Tasks",
        f"The largest of each task's rows in the time range; restarts are sums. {LARGEST}",
        table_of(TASKS, *metrics, by=("department", "task")),
        columns={
            "department": Column("department"),
            "task": Column("task", link=TO_TASK),
            "Max cpu_of_limit_ratio": Column("CPU", "percentunit", OF_LIMIT_STEPS),
            "Max cpu_throttled_ratio": Column("CPU time refused", "percentunit", OF_LIMIT_STEPS),
            "Max memory_of_limit_ratio": Column("memory", "percentunit", OF_LIMIT_STEPS),
            "Max gpu_utilization_ratio": Column("GPU", "percentunit"),
            "Max gpu_memory_of_total_ratio": Column("GPU memory", "percentunit", OF_LIMIT_STEPS),
            "Max replicas_seen": Column("replicas", "short"),
            "Max replicas_desired": Column("wanted", "short"),
            "Sum": Column("restarts", "short"),
        },
        sort="CPU",
    )


def _replicas() -> table.Panel:
    metrics = [
        largest("cpu_of_limit_ratio"),
        largest("memory_of_limit_ratio"),
        largest("cpu_cores"),
        largest("memory_working_set_bytes"),
        largest("gpu_utilization_ratio"),
        total("restarts"),
    ]
    to_replica = link_to(uids.REPLICA, department="department", task="task", replica="replica", pod="replica")
    return grid(
        "Replicas",
        f"The largest of each replica's rows in the time range; restarts are sums. {LARGEST}",
        table_of(REPLICAS, *metrics, by=("department", "task", "replica"), top=200),
        columns={
            "department": Column("department"),
            "task": Column("task", link=TO_TASK),
            "replica": Column("replica", link=("Open replica", to_replica)),
            "Max cpu_of_limit_ratio": Column("CPU", "percentunit", OF_LIMIT_STEPS),
            "Max memory_of_limit_ratio": Column("memory", "percentunit", OF_LIMIT_STEPS),
            "Max cpu_cores": Column("cores", "short"),
            "Max memory_working_set_bytes": Column("working set", "bytes"),
            "Max gpu_utilization_ratio": Column("GPU", "percentunit"),
            "Sum": Column("restarts", "short"),
        },
        sort="CPU",
    )
