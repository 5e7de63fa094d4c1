"""Dashboard Replica: one replica of a task, what it answers and what it uses."""

from __future__ import annotations

from grafana_foundation_sdk.builders import timeseries

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Page, base_variables, values_of
from tidegate.dashboards.pages.task import EVENTS
from tidegate.dashboards.panels import (
    ERROR_STEPS,
    LARGEST,
    OF_LIMIT_STEPS,
    PLAIN,
    Look,
    percentiles,
    results,
    series,
)
from tidegate.dashboards.queries import (
    IN_DEPARTMENT,
    IN_TASK,
    largest,
    over_time,
    resources,
    service,
)

OWN = service("replica", IN_TASK, "replica:${replica}")
SIBLINGS = service("replica", IN_TASK)
USED = resources("replica", IN_TASK, "replica:${pod}")


def page() -> Page:
    """The dashboard."""
    meaning = "Of the replica's own rows."
    return Page(
        uid=uids.REPLICA,
        title="tidegate / Replica",
        description="One replica: what it answered, beside its siblings, and what its pod used.",
        variables=[
            *base_variables(resource_span="1m"),
            values_of("department", "Department", "department", service("department")),
            values_of("task", "Task", "task", service("task", IN_DEPARTMENT)),
            values_of(
                "replica",
                "Replica",
                "replica",
                service("replica", IN_TASK),
                description="As the gateway names it: ip:port, or the pod where the watcher knows it.",
            ),
            values_of(
                "pod",
                "Pod",
                "replica",
                resources("replica", IN_TASK),
                description="As Prometheus names it; the same as the replica where the watcher knows pods.",
            ),
        ],
        since="now-6h",
        events=EVENTS,
        panels=[
            "${task} / ${replica}",
            percentiles(meaning, OWN),
            results("From the replica's own rows; what never reached a replica isn't in them.", OWN),
            series(
                "p99 beside the siblings'",
                f"All replicas of the task, from their own rows, of the twenty slowest. {LARGEST}",
                "ms",
                over_time(SIBLINGS, largest("latency_p99_ms"), by="replica"),
            ),
            series(
                "Longest in the gateway and in the replica",
                "The longest request of each row: as seen by the gateway, and as reported by the replica. The "
                "difference is the network and the queue before it.",
                "ms",
                over_time(OWN, largest("latency_max_ms"), largest("upstream_service_time_max_ms")),
                look=Look(
                    names={
                        "latency_max_ms": "in the gateway",
                        "upstream_service_time_max_ms": "in the replica",
                    }
                ),
            ),
            series(
                "Error rate",
                f"5xx and aborted by all requests that reached the replica. {meaning} {LARGEST}",
                "percentunit",
                over_time(OWN, largest("error_rate")),
                look=Look(names={"error_rate": "error rate"}, steps=ERROR_STEPS),
            ),
            series(
                "Requests",
                f"{meaning} Where a bucket of time holds more than one row, the busiest of them.",
                "reqps",
                over_time(OWN, largest("qps")),
            ),
            "What ${pod} uses",
            *_used(),
        ],
    )


def _used() -> list[timeseries.Panel]:
    return [
        series(
            title,
            f"Of the pod's resource rows. {LARGEST}",
            unit,
            over_time(USED, *(largest(name) for name in names)),
            look=Look(names=names, steps=OF_LIMIT_STEPS if unit == "percentunit" else PLAIN),
        )
        for title, unit, names in _USES
    ]


_USES: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "Of its limits",
        "percentunit",
        {
            "cpu_of_limit_ratio": "CPU",
            "memory_of_limit_ratio": "memory",
            "cpu_throttled_ratio": "CPU time refused",
        },
    ),
    ("GPU", "percentunit", {"gpu_utilization_ratio": "busy", "gpu_memory_of_total_ratio": "memory"}),
    (
        "Network",
        "Bps",
        {
            "network_receive_bytes_per_second": "received",
            "network_transmit_bytes_per_second": "sent",
        },
    ),
    ("Restarts", "short", {"restarts": "restarts"}),
)
