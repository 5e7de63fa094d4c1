"""Dashboard Rate limiting: every decision, how soon it was in force, and what was held or failed."""

from __future__ import annotations

from grafana_foundation_sdk.builders import elasticsearch, table

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Page, base_variables, values_of
from tidegate.dashboards.panels import (
    LARGEST,
    LIMITED_STEPS,
    TO_TASK,
    Column,
    Computed,
    Look,
    Steps,
    grid,
    plain,
    series,
    summed,
    worst_of,
)
from tidegate.dashboards.queries import (
    DOCUMENTS,
    documents,
    largest,
    over_time,
    rows,
    service,
    table_of,
)

CHOSEN = ("department:${department}", "task:${task}")
DECISIONS = rows("tidegate.rate-limits", *CHOSEN)
APPLIED = rows("tidegate.rate-limits", *CHOSEN, "state:applied")
CURRENT = rows("tidegate.rate-limits.current", *CHOSEN)
LAG = Computed("lag", ["Max applied_at"], "-", "Max decided_at")
LAG_STEPS: Steps = ((None, "green"), (3000, "orange"), (10_000, "red"))
"""3 s is what a cut may take, from the readiness event on."""


def page() -> Page:
    """The dashboard."""
    return Page(
        uid=uids.RATE_LIMITING,
        title="tidegate / Rate limiting",
        description="Every limit that was decided, how soon it was in force, and which were held or failed.",
        variables=[
            *base_variables(),
            values_of("department", "Department", "department", service("department"), multiple=True),
            values_of("task", "Task", "task", service("task", "department:${department}"), multiple=True),
        ],
        panels=[
            "Limits",
            *[
                summed(
                    title,
                    f"{meaning} Rows of state {state} in the time range.",
                    "short",
                    over_time(rows("tidegate.rate-limits", *CHOSEN, f"state:{state}"), DOCUMENTS),
                    steps=((None, "green"), (1, colour)),
                    width=5,
                )
                for title, state, meaning, colour in _STATES
            ],
            worst_of(
                "Longest lag",
                "From the decision to the limit read back from the gateway: the longest in the time range.",
                "ms",
                _lags_of(),
                LAG,
                steps=LAG_STEPS,
                width=4,
            ),
            series(
                "Limit by task",
                "Limits of all gateways together as they came into force, each holding until the next; of the twenty "
                "largest. Where a bucket of time holds more than one, the largest.",
                "reqps",
                over_time(APPLIED, largest("limit_qps"), by="task"),
                look=Look(connected=True),
            ),
            series(
                "Refused by task",
                f"Rate limited by all requests, from the tasks' own rows, of the twenty with the largest. {LARGEST}",
                "percentunit",
                over_time(service("task", *CHOSEN), largest("rate_limited_ratio"), by="task"),
                look=Look(steps=LIMITED_STEPS),
            ),
            series(
                "Decisions by state",
                "How many rows of each state: decided, applied (read back from the gateway), held (no data, so nothing "
                "changes), failed. Counts of each bucket of time.",
                "short",
                over_time(DECISIONS, DOCUMENTS, by="state"),
                look=Look(bars=True, stacked=True),
            ),
            series(
                "Ready replicas by task",
                "Settled changes, each holding until the next. Where a bucket of time holds more than one, the "
                "largest.",
                "short",
                over_time(rows("tidegate.replica-changes", *CHOSEN), largest("replicas_after"), by="task"),
                look=Look(connected=True),
            ),
            "Decisions",
            _decisions(),
            _held_and_failed(),
            _lags(),
            "What holds now",
            _current(),
            _controls(),
            "Why",
            _changes(),
        ],
    )


_STATES = (
    ("Decided", "decided", "Limits that were to be pushed.", "blue"),
    ("Applied", "applied", "Limits that were read back from the gateway.", "blue"),
    ("Held", "held", "Nothing was known, so the last limit stayed.", "orange"),
    ("Failed", "failed", "A gateway that didn't take a limit.", "red"),
)


def _lags_of() -> elasticsearch.Dataquery:
    return table_of(APPLIED, largest("applied_at"), largest("decided_at"), by=("id",), top=500)


def _decisions() -> table.Panel:
    return grid(
        "Every decision",
        "The newest 500 rows of the time range, each with its reason.",
        documents(DECISIONS, size=500),
        columns={
            "decided_at": Column("decided"),
            "department": Column("department"),
            "task": Column("task", link=TO_TASK),
            "state": Column("state"),
            "replicas": Column("ready", "short"),
            "gateways": Column("gateways", "short"),
            "limit_qps": Column("limit", "reqps"),
            "limit_qps_per_gateway": Column("of each gateway", "reqps"),
            "burst": Column("burst", "short"),
            "reason": Column("reason", width=420),
            "revision": Column("revision"),
            "applied_at": Column("applied"),
            "target": Column("target"),
        },
        height=12,
    )


def _held_and_failed() -> table.Panel:
    return grid(
        "Held and failed",
        "The newest 200 rows of these states, and why.",
        documents(rows("tidegate.rate-limits", *CHOSEN, "state:(held OR failed)")),
        columns={
            "decided_at": Column("when"),
            "department": Column("department"),
            "task": Column("task", link=TO_TASK),
            "state": Column("state"),
            "limit_qps": Column("limit", "reqps"),
            "reason": Column("reason", width=420),
        },
        width=12,
    )


def _lags() -> table.Panel:
    return grid(
        "From decided to applied",
        "Each limit that was read back from its gateway, and how long after its decision. The id is department, task, "
        "revision and state.",
        _lags_of(),
        computed=[LAG],
        columns={
            "id": Column("limit"),
            "Max decided_at": Column("decided", "dateTimeAsIso"),
            "Max applied_at": Column("applied", "dateTimeAsIso"),
            "lag": Column("lag", "ms", LAG_STEPS),
        },
        sort="lag",
        width=12,
    )


def _current() -> table.Panel:
    panel = grid(
        "Limits now",
        "The newest row of each task's limit, of the last 90 days whatever the time range is.",
        documents(CURRENT, size=1000),
        columns={
            "department": Column("department"),
            "task": Column("task", link=TO_TASK),
            "gateway": Column("gateway"),
            "state": Column("state"),
            "replicas": Column("ready", "short"),
            "qps_per_replica": Column("one replica takes", "reqps"),
            "limit_qps": Column("limit", "reqps"),
            "reason": Column("reason", width=420),
            "decided_at": Column("decided"),
        },
    )
    return panel.time_from("90d").hide_time_override(True)


def _controls() -> table.Panel:
    panel = grid(
        "Paused and overridden",
        "Operators' controls of limits, of the last 90 days regardless of the time range; * is all tasks.",
        documents(rows("tidegate.limit-controls")),
        columns={
            "id": Column("task"),
            "paused": Column("paused"),
            "override_qps": Column("override", "reqps"),
            **plain("expires_at", "by", "reason", "set_at"),
        },
        height=6,
    )
    return panel.time_from("90d").hide_time_override(True)


def _changes() -> table.Panel:
    return grid(
        "Replica changes",
        "Settled changes of the ready replicas; the time between first seen and settled is the de-jitter.",
        documents(rows("tidegate.replica-changes", *CHOSEN), size=500),
        columns={
            **plain("settled_at", "department"),
            "task": Column("task", link=TO_TASK),
            **plain("replicas_before", "replicas_after", "cause", "first_seen_at", "revision"),
        },
    )
