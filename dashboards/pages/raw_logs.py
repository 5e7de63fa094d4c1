"""Dashboard Logs: the gateway's access log and the services' own logs, with filters."""

from __future__ import annotations

from typing import get_args

from grafana_foundation_sdk.builders import table

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Page, base_variables, choice, text, values_of
from tidegate.dashboards.panels import Column, Look, grid, lines, plain, series
from tidegate.dashboards.queries import DOCUMENTS, documents, largest, log_lines, over_time, rows
from tidegate.schemas.response_flags import Outcome

ACCESS = rows(
    "gateway.access-logs",
    "(upstream_cluster:${cluster})",
    "response_code:${status:raw}",
    "(${outcome:raw})",
    "response_flags:${flags}",
    "(${lucene:raw})",
)
SERVICE_LOGS = rows(
    "inference.logs", "department:${department}", "task:${task}", "stream:${stream}", "(${words:raw})"
)


def page() -> Page:
    """The dashboard."""
    access = rows("gateway.access-logs")
    services = rows("inference.logs")
    return Page(
        uid=uids.LOGS,
        title="tidegate / Logs",
        description="Lines of the gateway's access log, and of the inference services' logs.",
        variables=[
            *base_variables(span=None),
            values_of(
                "cluster",
                "Cluster",
                "upstream_cluster",
                access,
                multiple=True,
                description="Of the access log.",
            ).all_value("* OR (NOT _exists_:upstream_cluster)"),
            choice(
                "status",
                "Status",
                ("*", "[200 TO 299]", "[400 TO 499]", "[500 TO 599]", "429", "0"),
                "Of the access log; 0: the client left before an answer.",
            ),
            choice(
                "outcome",
                "Outcome",
                ("*", *(f"outcome:{outcome}" for outcome in get_args(Outcome))),
                "Of the access log, as metrics and alerts count it: a gRPC call that fails is answered with 200, too.",
            ),
            values_of(
                "flags", "Flags", "response_flags", access, multiple=True, description="Of the access log."
            ),
            text("lucene", "Access log query", "*", "Lucene, such as duration:>1000 AND client:web"),
            values_of("department", "Department", "department", services, multiple=True),
            values_of("task", "Task", "task", f"{services} AND department:${{department}}", multiple=True),
            values_of("stream", "Stream", "stream", services, multiple=True),
            text("words", "Service log query", "*", 'Lucene, such as message:"out of memory"'),
        ],
        since="now-1h",
        panels=[
            "Access log",
            series(
                "Lines by outcome",
                "Lines of the access log that the filters let through, without TCP connections. Counts of each bucket "
                "of time.",
                "short",
                over_time(ACCESS, DOCUMENTS, by="outcome"),
                look=Look(bars=True, stacked=True),
                width=8,
            ),
            series(
                "Lines by status",
                "Lines of the access log that the filters let through, by HTTP status. Counts of each bucket of time.",
                "short",
                over_time(ACCESS, DOCUMENTS, by="response_code"),
                look=Look(bars=True, stacked=True),
                width=8,
            ),
            series(
                "Longest request",
                "The longest duration of a line in each bucket of time.",
                "ms",
                over_time(ACCESS, largest("duration")),
                look=Look(names={"duration": "longest"}),
                width=8,
            ),
            _access(),
            "Services",
            series(
                "Lines by stream",
                "Lines of the services' logs that the filters let through. Counts of each bucket of time.",
                "short",
                over_time(SERVICE_LOGS, DOCUMENTS, by="stream"),
                look=Look(bars=True, stacked=True),
                width=24,
            ),
            lines(
                "Service logs",
                "The newest 500 lines of the inference services that the filters let through.",
                log_lines(SERVICE_LOGS),
            ),
        ],
    )


def _access() -> table.Panel:
    return grid(
        "Access log",
        "The newest 500 lines that the filters let through, whole lines in the data source's own view (Explore).",
        documents(ACCESS, size=500),
        columns={
            "start_time": Column("began"),
            **plain("method", "path", "outcome", "response_code", "grpc_status", "response_flags"),
            "duration": Column("duration", "ms"),
            "response_duration": Column("first byte", "ms"),
            "upstream_service_time": Column("in the replica", "ms"),
            **plain("upstream_cluster", "upstream_host", "client", "taskid"),
            **plain("model", "input_tokens", "output_tokens"),
            "bytes_received": Column("received", "bytes"),
            "bytes_sent": Column("sent", "bytes"),
            **plain("response_code_details", "request_id", "traceparent", "gateway"),
        },
        height=14,
    )
