"""Builders of call-statistics rows for tests: a test names only the fields that it is about."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate.schemas.rows.signals import CallStatisticsRow


def calls_row(
    at: int,
    *,
    department: str = "vision",
    task: str | None = "chat",
    client: str | None = None,
    span: str = "1h",
    latencies: Sequence[float] = (20.0,),
    until: int | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A row as JSON has it, of the window that begins `at` (epoch ms), one call for each latency (ms, above 0).

    until: for an open window, when it is counted to (epoch ms).
    """
    length_ms = 3_600_000 if span == "1h" else 86_400_000
    level = "department" if task is None else "task" if client is None else "client"
    buckets = Counter(math.ceil(32 * math.log2(latency)) - 1 for latency in latencies)
    made = {
        "id": CallStatisticsRow.id_of(span, level, department, task, client, at),
        "span": span,
        "level": level,
        "window_start": _text(at),
        "window_end": _text(at + length_ms if until is None else until),
        "complete": until is None,
        "department": department,
        "task": task,
        "client": client,
        "clients_seen": 1,
        "requests": len(latencies),
        "errors_4xx": 0,
        "errors_5xx": 0,
        "aborted": 0,
        "rate_limited": 0,
        "error_rate": 0.0,
        "bytes_received": 100,
        "bytes_sent": 200,
        "latency_count": len(latencies),
        "latency_avg_ms": sum(latencies) / len(latencies) if latencies else None,
        "latency_max_ms": max(latencies, default=None),
        "latency_p50_ms": None,
        "latency_p99_ms": None,
        "histogram": {
            "scale": 5,
            "zero": 0,
            "buckets": {str(index): count for index, count in sorted(buckets.items())},
        },
    } | fields
    CallStatisticsRow.model_validate(made)
    return made


def _text(epoch_ms: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=epoch_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
