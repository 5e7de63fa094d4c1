"""Dashboard Alerts: firing and past alerts, and how often they fire."""

from __future__ import annotations

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Page, base_variables, values_of
from tidegate.dashboards.panels import (
    TO_TASK,
    Column,
    Computed,
    Look,
    grid,
    plain,
    series,
    summed,
)
from tidegate.dashboards.queries import DOCUMENTS, documents, largest, over_time, rows, table_of

CHOSEN = ("rule:${rule}", "severity:${severity}")
ALL = rows("tidegate.alerts", *CHOSEN)


def page() -> Page:
    """The dashboard."""
    everything = rows("tidegate.alerts")
    return Page(
        uid=uids.ALERTS,
        title="tidegate / Alerts",
        description="Alerts of tidegate's own rules: which fire now, which fired, and which rules fire most often.",
        variables=[
            *base_variables(span=None),
            values_of("rule", "Rule", "rule", everything, multiple=True),
            values_of("severity", "Severity", "severity", everything, multiple=True),
        ],
        panels=[
            *[
                summed(title, meaning, "short", over_time(f"{ALL} AND {asked}", DOCUMENTS), width=6)
                for title, asked, meaning in _COUNTS
            ],
            _open(),
            series(
                "By rule",
                "Alerts that fired, by when they were last looked at in that state. Counts of each bucket of time.",
                "short",
                over_time(f"{ALL} AND state:firing", DOCUMENTS, by="rule"),
                look=Look(bars=True, stacked=True),
            ),
            series(
                "By severity",
                "Alerts that fired, by when they were last looked at in that state. Counts of each bucket of time.",
                "short",
                over_time(f"{ALL} AND state:firing", DOCUMENTS, by="severity"),
                look=Look(bars=True, stacked=True),
            ),
            _history(),
        ],
    )


_COUNTS = (
    ("Fired", "state:firing", "Alerts that fired; one that fires on counts once."),
    ("Resolved", "state:resolved", "Alerts that ended."),
    ("Pending", "state:pending", "Conditions that began to hold; most end before they fire."),
    ("Silenced", "state:firing AND silenced:true", "Alerts that fired within a silence: recorded, not sent."),
)


STILL_FIRING = DataTransformerConfig(
    "filterByValue",
    options={
        "type": "include",
        "match": "any",
        "filters": [
            {"fieldName": "resolved after", "config": {"id": "isNull", "options": {}}},
            {"fieldName": "resolved after", "config": {"id": "lower", "options": {"value": 0}}},
        ],
    },
)
"""Never resolved, or the last time before it fired again."""


def _open() -> table.Panel:
    return grid(
        "Firing",
        "Alerts that have fired and weren't resolved since, of those looked at in the time range. The alert's name is "
        "its rule, department, task and replica.",
        table_of(
            f"{ALL} AND state:(firing OR resolved)",
            largest("fired_at"),
            largest("resolved_at"),
            largest("value"),
            largest("threshold"),
            by=("alert_key",),
        ),
        computed=[Computed("resolved after", ["Max resolved_at"], "-", "Max fired_at")],
        kept=STILL_FIRING,
        columns={
            "alert_key": Column("alert"),
            "Max fired_at": Column("fired", "dateTimeFromNow"),
            "Max value": Column("largest value"),
            "Max threshold": Column("threshold"),
        },
        height=6,
    )


def _history() -> table.Panel:
    return grid(
        "History",
        "The newest 500 rows: each alert once in each of its states.",
        documents(ALL, size=500),
        columns={
            **plain("observed_at", "state", "severity", "rule", "department"),
            "task": Column("task", link=TO_TASK),
            "replica": Column("replica"),
            "message": Column("message", width=420),
            **plain("value", "threshold", "silenced", "started_at", "fired_at", "resolved_at", "runbook_url"),
        },
        height=14,
    )
