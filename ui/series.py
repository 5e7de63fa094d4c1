"""Rows as columns for a chart: a value or null for every window of a time range. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tidegate.schemas.timestamps import from_text

Json = Mapping[str, Any]

SPAN_SECONDS = {"1s": 1, "10s": 10, "1m": 60}

_PER_SECOND = {
    "qps": "requests",
    "errors_4xx_qps": "errors_4xx",
    "errors_5xx_qps": "errors_5xx",
    "aborted_qps": "aborted",
    "rate_limited_qps": "rate_limited",
}
_AS_IT_IS = {
    "p50_ms": "latency_p50_ms",
    "p90_ms": "latency_p90_ms",
    "p99_ms": "latency_p99_ms",
    "max_ms": "latency_max_ms",
    "replicas_seen": "replicas_seen",
    "first_byte_p50_ms": "first_byte_p50_ms",
    "first_byte_p90_ms": "first_byte_p90_ms",
    "first_byte_p99_ms": "first_byte_p99_ms",
    "stream_tokens_per_second": "output_tokens_per_second",
    "concurrency": "concurrency",
}
_PER_SECOND_WHERE_KNOWN = {
    "input_tokens_per_second": "input_tokens",
    "output_tokens_per_second": "output_tokens",
}
"""Null in a row where no line had a count; a row of 0.1.0 lacks them."""
_RESOURCES = (
    *("cpu_of_limit_ratio", "cpu_throttled_ratio", "gpu_utilization_ratio"),
    *("memory_working_set_bytes", "memory_limit_bytes"),
)


def start_of(row: Json) -> int:
    """When its window begins, in whole seconds since the epoch."""
    return int(from_text(row["window_start"]).timestamp())


def service_columns(
    rows: Iterable[Json], starts: range, span_seconds: int, observed: Collection[int]
) -> dict[str, list[float | None]]:
    """Rates per second; percentiles, the speed of streams and requests in flight as the rows have them.

    observed: the windows for which the job has published any row. In these a missing row means no request. In any
    other window, and without a single row, the rate is unknown and null.
    """
    by_start = {start_of(row): row for row in rows}

    def rate(name: str) -> Callable[[int], float | None]:
        def at(start: int) -> float | None:
            row = by_start.get(start)
            if row is not None:
                return float(row[name]) / span_seconds
            return 0.0 if by_start and start in observed else None

        return at

    def plain(name: str) -> Callable[[int], float | None]:
        def at(start: int) -> float | None:
            row = by_start.get(start)
            return None if row is None else row.get(name)

        return at

    def rate_where_known(name: str) -> Callable[[int], float | None]:
        def at(start: int) -> float | None:
            count = by_start.get(start, {}).get(name)
            return None if count is None else float(count) / span_seconds

        return at

    columns = {name: rate(of) for name, of in _PER_SECOND.items()}
    columns |= {name: plain(of) for name, of in _AS_IT_IS.items()}
    columns |= {name: rate_where_known(of) for name, of in _PER_SECOND_WHERE_KNOWN.items()}
    return {name: [of(start) for start in starts] for name, of in columns.items()}


def resource_columns(rows: Iterable[Json], starts: range) -> dict[str, list[float | None]]:
    """Resource use, as the rows have it."""
    by_start = {start_of(row): row for row in rows}
    return {
        name: [None if (row := by_start.get(start)) is None else row[name] for start in starts]
        for name in _RESOURCES
    }


def steps(
    values: Iterable[tuple[int, float | None]], starts: range, before: float | None
) -> list[float | None]:
    """The value in force at each window's start. values: by second, in order. before: in force until the first one."""
    coming = list(values)
    held, place = before, 0
    found: list[float | None] = []
    for start in starts:
        while place < len(coming) and coming[place][0] <= start:
            held = coming[place][1]
            place += 1
        found.append(held)
    return found
