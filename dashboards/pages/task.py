"""Dashboard Task: one task from every side."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders import stat, table, timeseries

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Event, Page, base_variables, values_of
from tidegate.dashboards.panels import (
    ERROR_COLUMN,
    ERROR_RATE,
    ERROR_STEPS,
    LARGEST,
    LIMITED_STEPS,
    Column,
    Look,
    grid,
    link_to,
    now,
    offered_and_admitted,
    percentiles,
    plain,
    results,
    series,
)
from tidegate.dashboards.queries import (
    DOCUMENTS,
    IN_DEPARTMENT,
    IN_TASK,
    documents,
    largest,
    lasting,
    over_time,
    rates,
    resources,
    rows,
    service,
    table_of,
    total,
)

OWN = service("task", IN_TASK)
VERSIONS = service("version", IN_TASK)
REPLICAS = service("replica", IN_TASK)
USED = resources("task", IN_TASK)
APPLIED = rows("tidegate.rate-limits", IN_TASK, "state:applied")
CHANGES = rows("tidegate.replica-changes", IN_TASK)

EVENTS = (
    Event("Replica changes", CHANGES, "settled_at", "cause", "cause", "blue"),
    Event("Limit changes", APPLIED, "decided_at", "reason", "state", "orange"),
)


def page() -> Page:
    """The dashboard."""
    return Page(
        uid=uids.TASK,
        title="tidegate / Task",
        description="One task: latency, results, versions, its limit, its replicas, and what they use.",
        variables=[
            *base_variables(resource_span="1m"),
            values_of("department", "Department", "department", service("department")),
            values_of("task", "Task", "task", service("task", IN_DEPARTMENT)),
        ],
        since="now-6h",
        events=EVENTS,
        panels=[
            "${department} / ${task}",
            *_now(),
            "Latency and results",
            percentiles("Of the task's own rows.", OWN),
            results("From the task's own rows.", OWN),
            _flags(),
            series(
                "Apdex",
                "1: all requests are faster than the target of the settings. Of the task's own rows; where a bucket "
                "of time holds more than one row, the largest of them.",
                "short",
                over_time(OWN, largest("apdex")),
                look=Look(names={"apdex": "apdex"}, maximum=1),
            ),
            "First byte and tokens",
            *_streams(),
            "Versions side by side",
            *_versions(),
            "Limit and replicas",
            offered_and_admitted(
                "Offered are all requests a second, admitted those that the limit let through: sums of the task's own "
                "rows by the bucket's seconds. The limit is of all gateways together; it is drawn from its first push "
                "in the time range on, and holds until the next.",
                OWN,
                APPLIED,
            ),
            series(
                "Replicas",
                "Ready: settled changes, each holding until the next. Answered: replicas that a request of the row "
                "reached. Seen and wanted: from the resource windows. Where a bucket of time holds more than one row, "
                "the largest.",
                "short",
                *lasting(CHANGES, "replicas_after", "ready", "R"),
                over_time(OWN, largest("replicas_seen"), ref="S", alias="answered"),
                over_time(USED, largest("replicas_seen"), ref="T", alias="seen"),
                over_time(USED, largest("replicas_desired"), ref="W", alias="wanted"),
                look=Look(of_query={"ready": "ready", "S": "answered", "T": "seen", "W": "wanted"}),
            ),
            "What it uses",
            *_resources(),
            "Replicas",
            _slowest(),
            series(
                "p99 by replica",
                f"From the replicas' own rows, of the twenty slowest. {LARGEST}",
                "ms",
                over_time(REPLICAS, largest("latency_p99_ms"), by="replica"),
            ),
            series(
                "Requests by replica",
                "From the replicas' own rows, of the twenty busiest. Where a bucket of time holds more than one row, "
                "the busiest of them.",
                "reqps",
                over_time(REPLICAS, largest("qps"), by="replica"),
            ),
            _autoscaling(),
        ],
    )


def _now() -> Sequence[stat.Panel]:
    newest = "of the task's newest row"
    profile = rows("tidegate.task-profile", IN_TASK)
    current = rows("tidegate.rate-limits.current", IN_TASK)
    return [
        now(
            "Requests",
            "In the newest window, from the task's own rows.",
            "reqps",
            *rates(OWN, {"R": "requests"}, {"qps": "$R"}, empty=False),
        ),
        now(
            "p99",
            f"The p99 {newest}. {LARGEST}",
            "ms",
            over_time(OWN, largest("latency_p99_ms"), empty=False),
        ),
        now(
            "Error rate",
            f"5xx and aborted by all requests, {newest}. {LARGEST}",
            "percentunit",
            over_time(OWN, largest("error_rate"), empty=False),
            steps=ERROR_STEPS,
        ),
        now(
            "Rate limited",
            f"Refused by all requests, {newest}. {LARGEST}",
            "percentunit",
            over_time(OWN, largest("rate_limited_ratio"), empty=False),
            steps=LIMITED_STEPS,
        ),
        now(
            "Replicas ready",
            "Of the task's newest profile.",
            "short",
            over_time(profile, largest("replicas_ready"), empty=False),
        ),
        now(
            "Limit",
            "The newest limit of all gateways together, of the last 90 days.",
            "reqps",
            over_time(current, largest("limit_qps"), empty=False),
        )
        .time_from("90d")
        .hide_time_override(True),
    ]


def _flags() -> timeseries.Panel:
    return series(
        "Response flags",
        "Lines of the gateway's access log with each combination of Envoy's response flags: UH no healthy replica, UF "
        "and URX connections, UT timeout, DC the client left, RL rate limited. Counts of each bucket of time. Needs "
        "gateway.access-logs in Elasticsearch.",
        "short",
        over_time(
            rows("gateway.access-logs", IN_TASK, 'NOT response_flags:"-"'), DOCUMENTS, by="response_flags"
        ),
        look=Look(bars=True, stacked=True),
    )


def _streams() -> Sequence[timeseries.Panel]:
    known = "Null where the access log lacks the keys (docs/service-metrics.md)."
    return [
        series(
            "First byte",
            "From the request's start to its answer's first byte: of a streaming model, to the first token. Of the "
            f"task's own rows. {known} {LARGEST}",
            "ms",
            over_time(OWN, *(largest(f"first_byte_{name}_ms") for name in ("p50", "p90", "p99"))),
            look=Look(names={f"first_byte_{name}_ms": name for name in ("p50", "p90", "p99")}),
        ),
        series(
            "Speed of a stream",
            "Output tokens a second of one stream between its first byte and its last, and the time of a token at the "
            f"right: ratios of the row's sums. {known} Where a bucket of time holds more than one row, the largest.",
            "short",
            over_time(OWN, largest("output_tokens_per_second"), ref="T", alias="tokens/s"),
            over_time(OWN, largest("stream_ms_per_token"), ref="M", alias="ms per token"),
            look=Look(right={"ms per token": "ms"}),
        ),
        series(
            "Tokens",
            f"Sums of the task's own rows in each bucket of time. {known}",
            "short",
            over_time(OWN, total("input_tokens"), ref="I", alias="input"),
            over_time(OWN, total("output_tokens"), ref="O", alias="output"),
            look=Look(bars=True, stacked=True),
        ),
        series(
            "Requests in flight and retries",
            "In flight: the durations of the requests that ended, by the window's length; the largest row of a bucket. "
            f"Retries at the right, sums of each bucket. {known}",
            "short",
            over_time(OWN, largest("concurrency"), ref="C", alias="in flight"),
            over_time(OWN, total("retries"), ref="R", alias="retries"),
            look=Look(right={"retries": "short"}),
        ),
    ]


def _versions() -> Sequence[timeseries.Panel]:
    of_versions = "From the versions' own rows; requests whose version is unknown are in none."
    return [
        series(
            "p99 by version",
            f"{of_versions} {LARGEST}",
            "ms",
            over_time(VERSIONS, largest("latency_p99_ms"), by="version"),
            width=8,
        ),
        series(
            "Requests by version",
            f"{of_versions} Where a bucket of time holds more than one row, the busiest of them.",
            "reqps",
            over_time(VERSIONS, largest("qps"), by="version"),
            width=8,
        ),
        series(
            "Error rate by version",
            f"{of_versions} {LARGEST}",
            "percentunit",
            over_time(VERSIONS, largest("error_rate"), by="version"),
            look=Look(steps=ERROR_STEPS),
            width=8,
        ),
    ]


def _resources() -> Sequence[timeseries.Panel]:
    p99 = over_time(OWN, largest("latency_p99_ms"), ref="P", alias="p99")
    return [
        series(
            "CPU beside p99",
            f"CPU of the limit and throttled time, of the task's resource rows; p99 at the right. {LARGEST}",
            "percentunit",
            over_time(USED, largest("cpu_of_limit_ratio"), ref="C", alias="CPU of limit"),
            over_time(USED, largest("cpu_throttled_ratio"), ref="T", alias="throttled"),
            p99,
            look=Look(right={"p99": "ms"}, bridged=("CPU of limit", "throttled")),
        ),
        series(
            "GPU beside p99",
            "How busy the GPUs are and how full their memory, of the task's resource rows (utilisation is the row's "
            f"own mean over GPUs and samples); p99 at the right. {LARGEST}",
            "percentunit",
            over_time(USED, largest("gpu_utilization_ratio"), ref="G", alias="GPU"),
            over_time(USED, largest("gpu_memory_of_total_ratio"), ref="M", alias="GPU memory"),
            p99,
            look=Look(right={"p99": "ms"}, bridged=("GPU", "GPU memory")),
        ),
    ]


def _slowest() -> table.Panel:
    metrics = [
        largest("latency_p99_ms"),
        total("requests"),
        largest("upstream_service_time_max_ms"),
        total("errors_5xx"),
        total("aborted"),
    ]
    to_replica = link_to(uids.REPLICA, replica="replica") + "&${department:queryparam}&${task:queryparam}"
    return grid(
        "Slowest replicas",
        "Over the time range, from the replicas' own rows. p99 is that of the slowest row, requests are sums, the "
        f"error rate is a ratio of sums. {LARGEST}",
        table_of(REPLICAS, *metrics, by=("replica",), top=100),
        computed=[ERROR_RATE],
        columns={
            "replica": Column("replica", link=("Open replica", to_replica)),
            "Max latency_p99_ms": Column("worst p99", "ms"),
            "Max upstream_service_time_max_ms": Column("longest in the replica", "ms"),
            "Sum requests": Column("requests", "short"),
            "error rate": ERROR_COLUMN,
        },
        sort="worst p99",
    )


def _autoscaling() -> table.Panel:
    return grid(
        "Autoscaling and profile",
        "The current autoscaling signals of this task, and how long they are valid.",
        documents(rows("tidegate.autoscaling-signals", IN_TASK), size=10),
        columns=plain(
            "replicas", "desired_replicas", "panic", "held", "reason", "computed_at", "valid_until"
        ),
        height=5,
    )
