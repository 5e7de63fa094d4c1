"""The calls of one day from tidegate.call-statistics, as a pandas table of its hours, merged exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd

from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kafka.log import row_of, snapshot
from tidegate.jobs.logic.latency import Latencies
from tidegate.schemas import topics
from tidegate.schemas.rows.signals import CallStatisticsRow
from tidegate.schemas.settings import Kafka

COUNTS = (
    "requests",
    "errors_4xx",
    "errors_5xx",
    "aborted",
    "rate_limited",
    "bytes_received",
    "bytes_sent",
    "latency_count",
)
GROUPS: dict[str, tuple[str, Sequence[str]]] = {
    "department": ("department", ("department",)),
    "task": ("task", ("department", "task")),
    "client": ("client", ("department", "task", "client")),
    "hour": ("department", ("hour", "department")),
}
"""What a report may be by: the level of the rows, and the columns that name a group."""


@dataclass(frozen=True)
class Report:
    """One day's table. hours: of the day, that are in it; until: where the newest of them ends."""

    table: pd.DataFrame
    hours: int
    until: datetime


def rows_of(kafka: Kafka, day: date) -> list[CallStatisticsRow]:
    """The hours of a day (UTC), the newest row of each. Raises KafkaUnavailable."""
    ensure_topics(kafka, [topics.CALL_STATISTICS])
    begin = datetime.combine(day, time(), UTC)
    found: dict[str, CallStatisticsRow] = {}
    for message in snapshot(kafka, topics.CALL_STATISTICS):
        row = row_of(message, CallStatisticsRow) if message.value else None
        if row is not None and row.span == "1h" and begin <= row.window_start < begin + timedelta(days=1):
            found[row.id] = row
    return list(found.values())


def report(rows: Iterable[CallStatisticsRow], by: str, department: str | None = None) -> Report | None:
    """The table of these hours; None without any. by: one of GROUPS.

    Counts are summed, percentiles come from the merged histograms and are never averaged.
    """
    level, columns = GROUPS[by]
    chosen = [
        row for row in rows if row.level == level and (department is None or row.department == department)
    ]
    if not chosen:
        return None
    frame = pd.DataFrame([{**_names(row), **{name: getattr(row, name) for name in COUNTS}} for row in chosen])
    summed = frame.groupby(list(columns), as_index=False, sort=True)[list(COUNTS)].sum()
    merged: dict[tuple[str, ...], Latencies] = {}
    for row in chosen:
        names = _names(row)
        merged.setdefault(tuple(names[column] for column in columns), Latencies()).add(_latencies(row))
    keys = list(summed[list(columns)].itertuples(index=False, name=None))
    summed["error_rate"] = (summed["errors_5xx"] + summed["aborted"]) / summed["requests"]
    summed["latency_p50_ms"] = [merged[key].percentile_ms(50) for key in keys]
    summed["latency_p99_ms"] = [merged[key].percentile_ms(99) for key in keys]
    return Report(summed, len({row.window_start for row in chosen}), max(row.window_end for row in chosen))


def _names(row: CallStatisticsRow) -> dict[str, str]:
    return {
        "hour": f"{row.window_start:%H:00}",
        "department": row.department,
        "task": row.task or "",
        "client": row.client or "",
    }


def _latencies(row: CallStatisticsRow) -> Latencies:
    """Of an hour: its lowest latency isn't in the row, and is at least the first bucket's lower end."""
    buckets = {int(index): count for index, count in row.histogram.buckets.items()}
    if row.latency_max_ms is None:
        return Latencies()
    return Latencies(row.latency_count, row.histogram.zero, buckets, 0.0, row.latency_max_ms)
