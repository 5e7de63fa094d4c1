"""Dashboard Pipeline health: is what the other dashboards show new, and is it all of it?"""

from __future__ import annotations

from grafana_foundation_sdk.builders import table

from tidegate.dashboards import uids
from tidegate.dashboards.layout import Page, base_variables
from tidegate.dashboards.panels import Column, Look, Steps, Target, ages, grid, plain, series, summed
from tidegate.dashboards.queries import (
    DOCUMENTS,
    age,
    distinct,
    documents,
    largest,
    over_time,
    rows,
    smallest,
    table_of,
)

PROFILES = rows("tidegate.task-profile")
BAD: Steps = ((None, "green"), (1, "orange"), (100, "red"))

_AGES = (
    ("seconds", rows("tidegate.service-metrics.1s", "level:department"), "window_end"),
    ("minutes", rows("tidegate.service-metrics.1m", "level:department"), "window_end"),
    ("resources 10 s", rows("tidegate.resource-metrics.10s", "level:task"), "window_end"),
    ("resources 1 m", rows("tidegate.resource-metrics.1m", "level:task"), "window_end"),
    ("profiles", PROFILES, "computed_at"),
    ("autoscaling", rows("tidegate.autoscaling-signals"), "computed_at"),
    ("line counts", rows("tidegate.line-counts"), "updated_at"),
    ("replicas", rows("kubernetes.replicas"), "observed_at"),
    ("gateways", rows("kubernetes.gateways"), "observed_at"),
)


def page() -> Page:
    """The dashboard."""
    late, letters = rows("tidegate.late"), rows("tidegate.dead-letters")
    return Page(
        uid=uids.PIPELINE_HEALTH,
        title="tidegate / Pipeline health",
        description="How old the newest rows are, which lines came late or couldn't be read, what is stale.",
        variables=base_variables(span=None),
        since="now-1h",
        refresh="10s",
        panels=[
            "How old the newest rows are",
            ages(
                "Lag",
                "From the end of the newest row's window (or from when it was made) to the end of the time range: the "
                "lag between a request and this dashboard. A minute's rows are up to a minute and ten seconds old. "
                "Without requests there are no new rows.",
                *_ages(),
            ),
            "What isn't in the metrics",
            summed(
                "Late lines",
                "Lines that came after their window had closed, by their own time: whole in tidegate.late, in no row.",
                "short",
                over_time(late, DOCUMENTS),
                steps=BAD,
                width=6,
            ),
            summed(
                "Dead letters",
                "Inputs that couldn't be read, or that Elasticsearch refused.",
                "short",
                over_time(letters, DOCUMENTS),
                steps=BAD,
                width=6,
            ),
            _line_counts(),
            series(
                "Late lines",
                "By their own time. Counts of each bucket of time.",
                "short",
                over_time(late, DOCUMENTS, alias="late"),
                look=Look(bars=True),
            ),
            series(
                "Dead letters by topic",
                "By when they were seen. Counts of each bucket of time.",
                "short",
                over_time(letters, DOCUMENTS, by="topic"),
                look=Look(bars=True, stacked=True),
            ),
            _letters(),
            "What is stale",
            series(
                "Documents by index",
                "Rows and lines that each index has of each bucket of time, by their own time: where one stops, its "
                "job, its indexer or its source does. Counts.",
                "short",
                over_time("_index:${prefix:raw}*", DOCUMENTS, by="_index"),
                look=Look(bars=True, stacked=True),
            ),
            series(
                "Tasks with a profile",
                "Profiles computed in each bucket of time; each task has one, so a task counts where its newest is.",
                "short",
                over_time(PROFILES, distinct("id"), alias="tasks"),
            ),
            _stale_inputs(),
            _oldest_profiles(),
            _sources(),
        ],
    )


def _ages() -> list[Target]:
    found: list[Target] = []
    for number, (name, query, field) in enumerate(_AGES):
        found += age(query, field, name, chr(ord("A") + number))
    return found


def _line_counts() -> table.Panel:
    return grid(
        "Line counts",
        "How many lines of the access log met which fate since the job's state began: counted, late, dead, skipped and "
        "tcp add up to what was read; folded is a part of counted, with the first names that went into __overflow__.",
        documents(rows("tidegate.line-counts")),
        columns={
            "kind": Column("fate"),
            "lines": Column("lines", "short"),
            "names": Column("names that folded", width=420),
            **plain("topic", "updated_at"),
        },
        width=12,
        height=4,
    )


def _letters() -> table.Panel:
    return grid(
        "Dead letters",
        "The newest 200, with what was wrong and the first characters of the input.",
        documents(rows("tidegate.dead-letters")),
        columns={
            **plain("seen_at", "topic", "partition", "offset"),
            "reason": Column("reason", width=420),
            "excerpt": Column("excerpt", width=420),
        },
    )


def _stale_inputs() -> table.Panel:
    return grid(
        "Stale inputs",
        "Of how many tasks' newest profiles each input is stale, and since when at the earliest they were computed.",
        table_of(PROFILES, DOCUMENTS, smallest("computed_at"), by=("stale_inputs",)),
        columns={
            "stale_inputs": Column("input"),
            "Count": Column("tasks", "short"),
            "Min": Column("oldest profile", "dateTimeFromNow"),
        },
        width=8,
    )


def _oldest_profiles() -> table.Panel:
    return grid(
        "Profiles",
        "When each task's newest profile was computed.",
        table_of(PROFILES, largest("computed_at"), by=("department", "task")),
        columns={
            "department": Column("department"),
            "task": Column("task"),
            "Max": Column("computed", "dateTimeFromNow"),
        },
        width=8,
    )


def _sources() -> table.Panel:
    return grid(
        "Sources of ready replicas",
        "When each source last published a row, and of how many tasks. A silent source changes no limit.",
        table_of(rows("kubernetes.replicas"), distinct("id"), largest("observed_at"), by=("source",)),
        columns={
            "source": Column("source"),
            "Unique Count": Column("tasks", "short"),
            "Max": Column("last row", "dateTimeFromNow"),
        },
        width=8,
    )
