"""From requests to service-metrics rows, in one DuckDB query over whole numbers.

The query counts and sums; ratios are taken in Python, whose division of two whole numbers rounds once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]

from tests.oracle.histogram import SCALE, bucket_of, nearest_rank
from tests.oracle.lines import Outcome, Request
from tests.oracle.settings import OracleSettings

Row = dict[str, Any]
SPAN_MS = {"1s": 1000, "1m": 60_000}
LEVELS = ("department", "task", "version", "replica")
PERCENTS = (50, 90, 95, 99)

_SCHEMA = pa.schema(
    [
        ("event_ms", pa.int64()),
        *((name, pa.string()) for name in (*LEVELS, "outcome")),
        ("answered_by", pa.string()),  # task and replica: one address that serves two tasks is two replicas
        ("latency_us", pa.int64()),  # null unless the request reached a replica and its duration is known
        ("upstream_us", pa.int64()),
        ("bucket", pa.int32()),  # null where latency_us is null or 0
        ("apdex_halves", pa.int8()),  # 2 satisfied, 1 tolerating, 0 frustrated, null rate limited
        ("flags", pa.list_(pa.string())),
        ("bytes_received", pa.int64()),
        ("bytes_sent", pa.int64()),
    ]
)

# What is put in place of a request's names at each level, and which requests have the level at all.
_GROUPS = {
    "department": ("NULL AS task, NULL AS version, NULL AS replica", "true"),
    "task": ("NULL AS version, NULL AS replica", "true"),
    "version": ("NULL AS replica", "version IS NOT NULL"),
    "replica": ("replica AS replica", "replica IS NOT NULL"),
}
_LEVELED = " UNION ALL BY NAME ".join(
    f"SELECT '{level}' AS level, * REPLACE ({names}) FROM requests WHERE {condition}"
    for level, (names, condition) in _GROUPS.items()
)
_SPANS = ", ".join(f"('{span}', {ms})" for span, ms in SPAN_MS.items())
_OUTCOMES = ", ".join(f"count(*) FILTER (outcome = '{kind}') AS {kind}" for kind in Outcome)

_ROWS = f"""
    WITH leveled AS ({_LEVELED}),
    spans(span, span_ms) AS (VALUES {_SPANS})
    SELECT span, level, department, task, version, replica,
           event_ms // span_ms * span_ms AS start_ms,
           count(*) AS requests,
           {_OUTCOMES},
           count(latency_us) AS latency_count,
           sum(latency_us) AS latency_sum_us,
           min(latency_us) AS latency_min_us,
           max(latency_us) AS latency_max_us,
           list_sort(list(latency_us) FILTER (latency_us IS NOT NULL)) AS latencies_us,
           count(*) FILTER (latency_us = 0) AS zero,
           map_entries(histogram(bucket) FILTER (bucket IS NOT NULL)) AS buckets,
           count(upstream_us) AS upstream_count,
           sum(upstream_us) AS upstream_sum_us,
           max(upstream_us) AS upstream_max_us,
           flatten(list(flags)) AS flags,
           sum(bytes_received) AS bytes_received,
           sum(bytes_sent) AS bytes_sent,
           sum(apdex_halves) AS apdex_halves,
           count(apdex_halves) AS apdex_requests,
           count(DISTINCT answered_by) AS replicas_seen
    FROM leveled CROSS JOIN spans
    GROUP BY span, level, department, task, version, replica, start_ms
"""


def rows_of(requests: Sequence[Request], tasks: Sequence[str], settings: OracleSettings) -> dict[str, Row]:
    """Every 1s and 1m row of the counted requests, by id. `tasks`: each request's task after the folds."""
    if not requests:
        return {}
    database = _database()
    database.register("requests", _table(requests, tasks, settings))
    try:
        result = database.execute(_ROWS)
        columns = [column[0] for column in result.description or ()]
        rows = [_row(dict(zip(columns, values, strict=True))) for values in result.fetchall()]
    finally:
        database.unregister("requests")
    return {row["id"]: row for row in rows}


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One empty database in memory for the process: opening one costs as much as a small query."""
    return duckdb.connect()


def _table(requests: Sequence[Request], tasks: Sequence[str], settings: OracleSettings) -> Any:
    latencies = [request.duration_us if request.replica is not None else None for request in requests]
    return pa.table(
        {
            "event_ms": [request.event_ms for request in requests],
            "department": [request.department for request in requests],
            "task": list(tasks),
            "version": [request.version for request in requests],
            "replica": [request.replica for request in requests],
            "outcome": [str(request.outcome) for request in requests],
            "answered_by": [
                f"{task} {request.replica}" if request.replica is not None else None
                for request, task in zip(requests, tasks, strict=True)
            ],
            "latency_us": latencies,
            "upstream_us": [request.upstream_service_time_us for request in requests],
            "bucket": [bucket_of(latency) if latency else None for latency in latencies],
            "apdex_halves": [_apdex_halves(request, settings.apdex_target_ms * 1000) for request in requests],
            "flags": [sorted(request.flags) for request in requests],
            "bytes_received": [request.bytes_received for request in requests],
            "bytes_sent": [request.bytes_sent for request in requests],
        },
        schema=_SCHEMA,
    )


def _apdex_halves(request: Request, target_us: int) -> int | None:
    if request.outcome == Outcome.RATE_LIMITED:
        return None
    if request.outcome in (Outcome.ERROR_5XX, Outcome.ABORTED) or request.duration_us is None:
        return 0
    if request.duration_us <= target_us:
        return 2
    return 1 if request.duration_us <= 4 * target_us else 0


def _row(found: dict[str, Any]) -> Row:
    span, start_ms, requests = found["span"], found["start_ms"], found["requests"]
    seconds = SPAN_MS[span] // 1000
    names = {level: found[level] for level in LEVELS}
    identity = [span, found["level"], *(name or "" for name in names.values()), str(start_ms)]
    latencies = found["latencies_us"] or []
    return {
        "id": "|".join(identity),
        "span": span,
        "level": found["level"],
        "window_start": _moment(start_ms),
        "window_end": _moment(start_ms + SPAN_MS[span]),
        **names,
        "requests": requests,
        "qps": requests / seconds,
        "latency_count": found["latency_count"],
        "latency_avg_ms": _mean_ms(found["latency_sum_us"], found["latency_count"]),
        "latency_min_ms": _ms(found["latency_min_us"]),
        "latency_max_ms": _ms(found["latency_max_us"]),
        **{
            f"latency_p{percent}_ms": _ms(latencies[nearest_rank(len(latencies), percent) - 1])
            if latencies
            else None
            for percent in PERCENTS
        },
        "upstream_service_time_avg_ms": _mean_ms(found["upstream_sum_us"], found["upstream_count"]),
        "upstream_service_time_max_ms": _ms(found["upstream_max_us"]),
        "errors_4xx": found["errors_4xx"],
        "errors_5xx": found["errors_5xx"],
        "aborted": found["aborted"],
        "rate_limited": found["rate_limited"],
        "error_rate": (found["errors_5xx"] + found["aborted"]) / requests,
        "rate_limited_ratio": found["rate_limited"] / requests,
        "response_flags": dict(Counter(found["flags"])),
        "bytes_received": found["bytes_received"],
        "bytes_sent": found["bytes_sent"],
        "apdex": found["apdex_halves"] / (2 * found["apdex_requests"]) if found["apdex_requests"] else None,
        "replicas_seen": found["replicas_seen"],
        "qps_per_replica": requests / (found["replicas_seen"] * seconds) if found["replicas_seen"] else None,
        "histogram": {
            "scale": SCALE,
            "zero": found["zero"],
            "buckets": {str(entry["key"]): entry["value"] for entry in found["buckets"] or []},
        },
    }


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000


def _mean_ms(sum_us: int | None, count: int) -> float | None:
    return None if sum_us is None else sum_us / (count * 1000)


def _moment(epoch_ms: int) -> str:
    whole, ms = divmod(epoch_ms, 1000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
