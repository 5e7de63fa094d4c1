"""What the keyed functions are given, as their jobs' SQL gives it."""

from __future__ import annotations

import json
from typing import Any

from tests.support.keyed_harness import FIRST_MS, KeyedHarness
from tidegate.jobs.logic.catalog_rows import rows_of as catalog_rows_of
from tidegate.schemas import catalog as catalogs
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.rows.resources import ResourceMetricsRow
from tidegate.schemas.timestamps import from_epoch_ms, to_text

_CATALOG = """
gateways: {edge: {}}
departments:
  vision:
    gateway: edge
    tasks:
      chat:
        qps_per_replica: 3
        owner: team-chat
        slo: {p99_ms: 500, error_rate: 0.01}
        autoscaling: {max_replicas: 9, targets: {qps_per_replica: 2}}
"""


def catalog_row() -> str:
    """The catalog's entry of vision/chat: two requests/s a replica, and nine of them at most."""
    (row,) = catalog_rows_of(catalogs.parse(_CATALOG, "catalog"), from_epoch_ms(FIRST_MS))
    return row.model_dump_json()


def profile_input(source: str, text: str | None, key: str = "vision/chat", at_ms: int = FIRST_MS) -> Any:
    """An element of the jobs task-profile and alerts."""
    message = None if text is None else text.encode()
    return (key, source, message, 0, 0, to_text(from_epoch_ms(at_ms)))


def second_row(start_ms: int, requests: int, latency_ms: float = 50.0, task: str = "chat") -> str:
    """A second of a task, all requests of one latency, with the fields that the jobs read."""
    return json.dumps(
        {
            "level": "task",
            "department": "vision",
            "task": task,
            "version": None,
            "replica": None,
            "window_end": to_text(from_epoch_ms(start_ms + 1000)),
            "requests": requests,
            "rate_limited": 0,
            "errors_5xx": 0,
            "aborted": 0,
            "latency_count": requests,
            "latency_p99_ms": latency_ms,
            "latency_min_ms": latency_ms,
            "latency_max_ms": latency_ms,
            "histogram": {"scale": 5, "zero": 0, "buckets": {"180": requests}},
        }
    )


def minute_row(start_ms: int) -> str:
    """A minute of vision/chat within its SLO."""
    return json.dumps(
        {
            "level": "task",
            "window_end": to_text(from_epoch_ms(start_ms + 60_000)),
            "requests": 600,
            "rate_limited": 0,
            "replicas_seen": 3,
            "latency_count": 600,
            "latency_p99_ms": 50.0,
            "error_rate": 0.0,
        }
    )


def limit_row(at_ms: int, revision: int) -> str:
    """The limit of vision/chat."""
    return RateLimitRow(
        id=f"vision|chat|{revision}|applied",
        department="vision",
        task="chat",
        gateway="edge",
        replicas=3,
        qps_per_replica=3.0,
        gateways=1,
        limit_qps=9.0 + revision / 10,
        limit_qps_per_gateway=9.0,
        burst=9,
        state="applied",
        reason="3 replicas",
        change_id=None,
        revision=revision,
        decided_at=from_epoch_ms(at_ms),
        applied_at=from_epoch_ms(at_ms),
        target="file",
    ).model_dump_json()


def resource_row(start_ms: int) -> str:
    """A window of vision/chat: half of two cores."""
    start_ms = start_ms // 10_000 * 10_000
    values: dict[str, Any] = {
        **dict.fromkeys(ResourceMetricsRow.model_fields),
        "id": ResourceMetricsRow.id_of("10s", "task", "vision", "chat", None, start_ms),
        "span": "10s",
        "level": "task",
        "window_start": from_epoch_ms(start_ms),
        "window_end": from_epoch_ms(start_ms + 10_000),
        "department": "vision",
        "task": "chat",
        "replicas_seen": 3,
        "cpu_cores": 1.0,
        "cpu_limit_cores": 2.0,
        "cpu_of_limit_ratio": 0.5,
        "replicas_with_cpu": 3,
        "replicas_with_memory": 0,
        "replicas_with_gpu": 0,
        "samples": 6,
    }
    return ResourceMetricsRow(**values).model_dump_json()


def rows_of(harness: KeyedHarness) -> list[dict[str, Any]]:
    """The rows of the main output."""
    return [json.loads(row[1]) for row in harness.main if row[1] is not None]
