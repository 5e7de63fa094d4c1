"""A fleet for the page: departments of tasks with seconds up to a moment, the minutes before, and limits for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.dashboard_rows import service_row

SECONDS, MINUTES = 15, 15


def names(departments: int, tasks_each: int) -> list[tuple[str, str]]:
    """The fleet's tasks."""
    return [(f"dep-{d:02}", f"model-{d:02}-{t:03}") for d in range(departments) for t in range(tasks_each)]


def fleet(newest_ms: int, tasks: list[tuple[str, str]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of departments and tasks by topic, up to the second that ends at `newest_ms`. No two tasks are as busy."""
    return {
        "tidegate.service-metrics.1s": list(_rows("1s", newest_ms, 1000, SECONDS, tasks)),
        "tidegate.service-metrics.1m": list(
            _rows("1m", newest_ms - newest_ms % 60_000, 60_000, MINUTES, tasks)
        ),
    }


def _rows(
    span: str, end_ms: int, length_ms: int, count: int, tasks: list[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    for number in range(count):
        start = end_ms - (count - number) * length_ms
        totals: dict[str, int] = {}
        for place, (department, task) in enumerate(tasks, 1):
            requests = place * length_ms // 1000
            totals[department] = totals.get(department, 0) + requests
            yield service_row(span, start, length_ms, requests, number, department, task)
        for department, requests in totals.items():
            yield service_row(span, start, length_ms, requests, number, department)
