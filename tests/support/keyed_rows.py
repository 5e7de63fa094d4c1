"""What the keyed functions are given, as their jobs' SQL gives it."""

from __future__ import annotations

import json
from typing import Any

from tests.support.keyed_harness import FIRST_MS, KeyedHarness
from tidegate.jobs.logic.catalog_rows import rows_of as catalog_rows_of
from tidegate.schemas import catalog as catalogs
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


def rows_of(harness: KeyedHarness) -> list[dict[str, Any]]:
    """The rows of the main output."""
    return [json.loads(row[1]) for row in harness.main if row[1] is not None]
