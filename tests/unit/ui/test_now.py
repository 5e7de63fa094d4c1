"""The newest seconds of a task, merged for the page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.dashboard_rows import service_row
from tidegate.ui.now import Group

NEW_FIELDS = (
    *("upgraded", "first_byte_count", "first_byte_avg_ms", "first_byte_min_ms", "first_byte_max_ms"),
    *("first_byte_p50_ms", "first_byte_p90_ms", "first_byte_p95_ms", "first_byte_p99_ms"),
    *("first_byte_histogram", "stream_ms_per_token", "output_tokens_per_second", "input_tokens"),
    *("output_tokens", "concurrency", "retries", "grpc_status", "exemplar"),
)


def second(number: int, **fields: Any) -> dict[str, Any]:
    return service_row("1s", 1000 * number, 1000, 10, number, "vision", "chat") | fields


def test_tokens_and_requests_in_flight_are_added_and_the_slowest_request_is_kept() -> None:
    group = Group()
    slowest = {"request_id": "b", "trace_id": None, "latency_ms": 900.0}
    group.add(second(0, output_tokens=30, concurrency=2.0, grpc_status={"0": 9, "14": 1}))
    group.add(second(1, output_tokens=None, concurrency=4.0, grpc_status={"0": 10}, exemplar=slowest))
    group.add(second(2, output_tokens=50, concurrency=None, grpc_status={}, exemplar=None))
    shown = group.as_json(10)
    assert shown["output_tokens_per_second"] == 8
    assert shown["concurrency"] == pytest.approx(0.6)
    assert shown["grpc_status"] == {"0": 19, "14": 1}
    assert shown["exemplar"] == slowest


def test_a_row_of_0_1_0_has_none_of_it() -> None:
    group = Group()
    group.add({name: value for name, value in second(0).items() if name not in NEW_FIELDS})
    shown = group.as_json(10)
    for name in ("first_byte_p99_ms", "output_tokens_per_second", "concurrency", "exemplar"):
        assert shown[name] is None
    assert shown["p99_ms"] is not None
