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
TIMES = ("latency", "first_byte")
"""What a row has a count, a mean, extremes, percentiles and a histogram of."""

_SCHEMA = pa.schema(
    [
        ("event_ms", pa.int64()),
        *((name, pa.string()) for name in (*LEVELS, "outcome")),
        ("answered_by", pa.string()),  # task and replica: one address that serves two tasks is two replicas
        ("latency_us", pa.int64()),  # null unless the request reached a replica and its duration is known
        ("latency_bucket", pa.int32()),  # null where latency_us is null or 0
        ("first_byte_us", pa.int64()),  # as latency_us, of response_duration
        ("first_byte_bucket", pa.int32()),
        ("upstream_us", pa.int64()),
        ("duration_us", pa.int64()),
        ("stream_us", pa.int64()),  # null unless latency, first byte and output tokens are known
        ("stream_tokens", pa.int64()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("retries", pa.int64()),
        ("upgraded", pa.bool_()),
        ("grpc_status", pa.int8()),
        ("exemplar", pa.string()),
        ("apdex_halves", pa.int8()),  # 2 satisfied, 1 tolerating, 0 frustrated, null rate limited or upgraded
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

_TIMES = ", ".join(
    f"""count({time}_us) AS {time}_count,
        sum({time}_us) AS {time}_sum_us,
        min({time}_us) AS {time}_min_us,
        max({time}_us) AS {time}_max_us,
        list_sort(list({time}_us) FILTER ({time}_us IS NOT NULL)) AS {time}_list_us,
        count(*) FILTER ({time}_us = 0) AS {time}_zero,
        map_entries(histogram({time}_bucket) FILTER ({time}_bucket IS NOT NULL)) AS {time}_buckets"""
    for time in TIMES
)

_ROWS = f"""
    WITH leveled AS ({_LEVELED}),
    spans(span, span_ms) AS (VALUES {_SPANS})
    SELECT span, level, department, task, version, replica,
           event_ms // span_ms * span_ms AS start_ms,
           count(*) AS requests,
           {_OUTCOMES},
           {_TIMES},
           sum(duration_us) AS duration_sum_us,
           sum(stream_us) AS stream_sum_us,
           sum(stream_tokens) AS stream_tokens,
           sum(input_tokens) AS input_tokens,
           sum(output_tokens) AS output_tokens,
           sum(retries) AS retries,
           count(*) FILTER (upgraded AND outcome <> 'rate_limited') AS upgraded,
           list(grpc_status) FILTER (grpc_status IS NOT NULL) AS grpc_statuses,
           list(exemplar) FILTER (exemplar IS NOT NULL) AS exemplars,
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
    return duckdb.connect(config={"threads": 1})


def _table(requests: Sequence[Request], tasks: Sequence[str], settings: OracleSettings) -> Any:
    latencies = [request.duration_us if request.replica is not None else None for request in requests]
    first_bytes = [request.first_byte_us if request.replica is not None else None for request in requests]
    streams = [_stream(request) for request in requests]
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
            "latency_bucket": [bucket_of(latency) if latency else None for latency in latencies],
            "first_byte_us": first_bytes,
            "first_byte_bucket": [bucket_of(time) if time else None for time in first_bytes],
            "upstream_us": [request.upstream_service_time_us for request in requests],
            "duration_us": [request.duration_us for request in requests],
            "stream_us": [time for time, _ in streams],
            "stream_tokens": [tokens for _, tokens in streams],
            "input_tokens": [request.input_tokens for request in requests],
            "output_tokens": [request.output_tokens for request in requests],
            "retries": [request.retries for request in requests],
            "upgraded": [request.upgraded for request in requests],
            "grpc_status": [request.grpc_status for request in requests],
            "exemplar": [_exemplar(request) for request in requests],
            "apdex_halves": [_apdex_halves(request, settings.apdex_target_ms * 1000) for request in requests],
            "flags": [sorted(request.flags) for request in requests],
            "bytes_received": [request.bytes_received for request in requests],
            "bytes_sent": [request.bytes_sent for request in requests],
        },
        schema=_SCHEMA,
    )


def _stream(request: Request) -> tuple[int | None, int | None]:
    """The time and the tokens of a stream: from its first byte to its last; nothing where one is unknown."""
    whole, first, tokens = request.duration_us, request.first_byte_us, request.output_tokens
    if request.replica is None or whole is None or first is None or tokens is None or first > whole:
        return None, None
    return whole - first, tokens


def _exemplar(request: Request) -> str | None:
    """`latency request_id trace_id`, of a request that has a latency and an id."""
    if request.replica is None or request.duration_us is None or request.request_id is None:
        return None
    return f"{request.duration_us} {request.request_id} {request.trace_id or ''}"


def _slowest(exemplars: list[str] | None) -> dict[str, Any] | None:
    """Of equally slow ones the least request id, then the least trace id."""
    if not exemplars:
        return None
    parts = [text.split(" ") for text in exemplars]
    latency, request_id, trace_id = min(parts, key=lambda part: (-int(part[0]), part[1], part[2] or "g"))
    return {"request_id": request_id, "trace_id": trace_id or None, "latency_ms": int(latency) / 1000}


def _apdex_halves(request: Request, target_us: int) -> int | None:
    if request.outcome == Outcome.RATE_LIMITED or request.upgraded:
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
    return {
        "id": "|".join(identity),
        "span": span,
        "level": found["level"],
        "window_start": _moment(start_ms),
        "window_end": _moment(start_ms + SPAN_MS[span]),
        **names,
        "requests": requests,
        "qps": requests / seconds,
        **_distribution(found, "latency"),
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
        "histogram": _histogram(found, "latency"),
        "upgraded": found["upgraded"],
        **_distribution(found, "first_byte"),
        "first_byte_histogram": _histogram(found, "first_byte") if found["first_byte_count"] else None,
        "stream_ms_per_token": _ratio(found["stream_sum_us"], found["stream_tokens"], 1000),
        "output_tokens_per_second": _ratio(
            1_000_000 * (found["stream_tokens"] or 0), found["stream_sum_us"], 1
        ),
        "input_tokens": _whole(found["input_tokens"]),
        "output_tokens": _whole(found["output_tokens"]),
        "concurrency": _ratio(found["duration_sum_us"], seconds, 1_000_000),
        "retries": _whole(found["retries"]),
        "grpc_status": dict(Counter(str(status) for status in found["grpc_statuses"] or [])),
        "exemplar": _slowest(found["exemplars"]),
    }


def _distribution(found: dict[str, Any], time: str) -> dict[str, Any]:
    ordered = found[f"{time}_list_us"] or []
    return {
        f"{time}_count": found[f"{time}_count"],
        f"{time}_avg_ms": _mean_ms(found[f"{time}_sum_us"], found[f"{time}_count"]),
        f"{time}_min_ms": _ms(found[f"{time}_min_us"]),
        f"{time}_max_ms": _ms(found[f"{time}_max_us"]),
        **{
            f"{time}_p{percent}_ms": _ms(ordered[nearest_rank(len(ordered), percent) - 1])
            if ordered
            else None
            for percent in PERCENTS
        },
    }


def _histogram(found: dict[str, Any], time: str) -> dict[str, Any]:
    return {
        "scale": SCALE,
        "zero": found[f"{time}_zero"],
        "buckets": {str(entry["key"]): entry["value"] for entry in found[f"{time}_buckets"] or []},
    }


def _ratio(part: int | None, whole: int | None, scale: int) -> float | None:
    """part / whole / scale; None where one is unknown or nothing is divided by."""
    return None if part is None or not whole else int(part) / (int(whole) * scale)


def _whole(total: int | None) -> int | None:
    return None if total is None else int(total)


def _ms(us: int | None) -> float | None:
    return None if us is None else us / 1000


def _mean_ms(sum_us: int | None, count: int) -> float | None:
    return None if sum_us is None else sum_us / (count * 1000)


def _moment(epoch_ms: int) -> str:
    whole, ms = divmod(epoch_ms, 1000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
