"""Builder of service-metrics rows for the demo's tests: a test names only what it is about."""

from __future__ import annotations

from typing import Any

from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.timestamps import from_epoch_ms

START_MS = 1_790_000_000_000


def row(second: int = 0, *, span: str = "1s", level: str = "task", **fields: Any) -> ServiceMetricsRow:
    """A row of the given second after START_MS, of task search/ranking unless given otherwise."""
    start_ms = START_MS + 1000 * second
    seconds = {"1s": 1, "1m": 60}[span]
    requests = fields.setdefault("requests", 10)
    timed = fields.setdefault("latency_count", requests)
    values: dict[str, Any] = {
        "span": span,
        "level": level,
        "window_start": from_epoch_ms(start_ms),
        "window_end": from_epoch_ms(start_ms + 1000 * seconds),
        "department": "search",
        "task": None if level == "department" else "ranking",
        "version": None,
        "replica": "127.0.0.1:7001" if level == "replica" else None,
        "qps": requests / seconds,
        "latency_avg_ms": 10.0 if timed else None,
        "latency_min_ms": 1.0 if timed else None,
        "latency_max_ms": 1000.0 if timed else None,
        **dict.fromkeys([f"latency_p{percent}_ms" for percent in (50, 90, 95, 99)], 10.0 if timed else None),
        "upstream_service_time_avg_ms": None,
        "upstream_service_time_max_ms": None,
        "errors_4xx": 0,
        "errors_5xx": 0,
        "aborted": 0,
        "rate_limited": 0,
        "error_rate": 0.0,
        "rate_limited_ratio": 0.0,
        "response_flags": {},
        "bytes_received": 0,
        "bytes_sent": 0,
        "apdex": 1.0,
        "replicas_seen": 1,
        "qps_per_replica": requests / seconds,
        "histogram": {"zero": 0, "buckets": {"106": timed} if timed else {}},
        "concurrency": 0.01 * requests / seconds,
        "retries": 0,
        **fields,
    }
    identity = (values["department"], values["task"], values["version"], values["replica"])
    values["id"] = ServiceMetricsRow.id_of(span, level, *identity, start_ms)
    return ServiceMetricsRow.model_validate(values)
