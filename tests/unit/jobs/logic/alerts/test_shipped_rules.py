"""The shipped rules over rows of real kinds of requests, computed by the oracle."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.oracle import raw_lines, recompute
from tests.support.lines import at, grpc, line, streamed, tcp
from tidegate.jobs.logic.alerts.evaluation import Evaluation
from tidegate.schemas.alert_rules import SHIPPED, load
from tidegate.schemas.timestamps import from_text, to_epoch_ms

MINUTES = 4
PER_MINUTE = 30


def fired(request: Callable[..., str]) -> set[str]:
    """The rules that fire while a task gets such requests for some minutes."""
    lines = [
        request(start_time=at(60 * minute + number))
        for minute in range(MINUTES)
        for number in range(PER_MINUTE)
    ]
    minutes = sorted(
        (
            row
            for row in recompute(raw_lines(lines)).rows.values()
            if (row["span"], row["level"]) == ("1m", "task")
        ),
        key=lambda row: str(row["window_end"]),
    )
    rules, evaluation = load(SHIPPED), Evaluation()
    alerts = [
        alert
        for row in minutes
        for alert in evaluation.observe(
            rules, "service-metrics.1m", row, to_epoch_ms(from_text(row["window_end"])) + 2000
        )
    ]
    return {alert.rule for alert in alerts if alert.state == "firing"}


@pytest.mark.parametrize(
    "fields",
    [
        {"grpc_status": 14},
        {"grpc_status": "Unavailable"},
        {"response_flags": "UF"},
        {"response_flags": "UT"},
        {"response_flags": "UPE"},
    ],
)
def test_errors_fires_on_grpc_calls_and_streams_that_fail_with_200(fields: dict[str, object]) -> None:
    assert "errors" in fired(lambda **given: grpc(response_code=200, **fields, **given))


@pytest.mark.parametrize("status", [0, 3, 5, 8, 16])
def test_errors_does_not_fire_on_what_is_the_clients(status: int) -> None:
    assert fired(lambda **given: grpc(grpc_status=status, **given)) == set()


def test_nothing_fires_on_tls_passthrough() -> None:
    assert fired(tcp) == set()


def test_slow_streams_and_late_first_bytes_fire_where_they_are_known() -> None:
    slow = fired(lambda **given: streamed(duration=26_000, response_duration=6_000, **given))
    assert {"first-byte-slow", "tokens-slow"} <= slow
    unknown = fired(lambda **given: line(duration=400, response_duration=None, **given))
    assert unknown == set()
