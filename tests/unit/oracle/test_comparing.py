"""The comparison finds what differs, and nothing else; the laws between rows find what breaks them."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.oracle import (
    Expected,
    OracleSettings,
    Position,
    RawLine,
    Row,
    compare,
    compare_fates,
    groups_that_differ_from_their_children,
    late_by_a_watermark_after_every_line,
    minutes_that_differ_from_their_seconds,
    raw_lines,
    recompute,
    unlawful_lateness,
)
from tests.support.lines import T0_MS, at, cluster, line, rate_limited

TASK = f"1s|task|vision|chat|||{T0_MS}"


@pytest.fixture
def expected() -> Expected:
    return recompute(
        raw_lines(
            [
                line(duration=10, response_flags="UF"),
                line(duration=20, upstream_cluster=cluster(version="v1"), upstream_host="b"),
                line(duration=1000),
                rate_limited(),
                line(upstream_cluster=cluster(task="other"), upstream_host="c", duration=3),
            ]
        )
    )


def changed(expected: Expected, field: str, value: Any, name: str = TASK) -> list[Row]:
    rows = copy.deepcopy(dict(expected.rows))
    rows[name][field] = value
    return list(rows.values())


def test_equal_rows_have_no_difference(expected: Expected) -> None:
    assert compare(copy.deepcopy(list(expected.rows.values())), expected.rows) == []


def test_a_missing_and_an_unexpected_row_are_reported(expected: Expected) -> None:
    rows = [row for name, row in expected.rows.items() if name != TASK]
    assert compare(rows, expected.rows) == [f"{TASK}: missing (oracle: 3 requests)"]
    without = {name: row for name, row in expected.rows.items() if name != TASK}
    assert compare(expected.rows.values(), without) == [f"{TASK}: not expected (job: 3 requests)"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("requests", 4),
        ("requests", 3.0),
        ("requests", None),
        ("aborted", False),
        ("bytes_sent", 1),
        ("qps", 3.00001),
        ("latency_avg_ms", None),
        ("latency_min_ms", 9.99),
        ("latency_p50_ms", 20.0),
        ("latency_p99_ms", None),
        ("response_flags", {"UF": 1}),
        ("response_flags", {"UF": 2, "RL": 1}),
        ("histogram", {"scale": 5, "zero": 0, "buckets": {}}),
        ("window_start", "2026-11-24T10:00:00Z"),
        ("task", None),
        ("version", "v1"),
        ("apdex", 0.9),
        ("replicas_seen", 3),
        ("invented", 1),
    ],
)
def test_a_changed_field_is_reported_with_its_name(expected: Expected, field: str, value: Any) -> None:
    problems = compare(changed(expected, field, value), expected.rows)
    assert problems, "no difference found"
    assert all(TASK in problem for problem in problems)
    assert any(f": {field}: " in problem for problem in problems)


def test_an_absent_field_is_a_difference(expected: Expected) -> None:
    rows = copy.deepcopy(dict(expected.rows))
    del rows[TASK]["version"]
    assert compare(rows.values(), expected.rows) == [f"{TASK}: version: missing, oracle None"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latency_p50_ms", 10.1),
        ("latency_p50_ms", 10.109),
        ("qps", 3),
        ("latency_avg_ms", 15 * (1 + 1e-12)),
    ],
)
def test_a_percentile_within_its_error_and_a_float_of_other_rounding_agree(
    expected: Expected, field: str, value: float
) -> None:
    # The task's requests of this second: 10 ms, 20 ms and a refused one; p50 is rank 1 of 2.
    assert compare(changed(expected, field, value), expected.rows) == []


@pytest.mark.parametrize(
    ("field", "value"), [("latency_p50_ms", 10.12), ("latency_p50_ms", 9.95), ("latency_p99_ms", 20.01)]
)
def test_a_percentile_past_its_error_or_outside_of_the_extremes_is_reported(
    expected: Expected, field: str, value: float
) -> None:
    assert compare(changed(expected, field, value), expected.rows) != []


def test_a_row_written_twice_is_no_difference_unless_it_changed(expected: Expected) -> None:
    rows = list(expected.rows.values())
    assert compare([*rows, *copy.deepcopy(rows)], expected.rows) == []
    assert compare([*rows, *changed(expected, "requests", 5)], expected.rows) == [
        f"written twice, differently: {TASK}: requests: first 3, then 5"
    ]


# Fates.


def positions(partition: int, *offsets: int) -> list[Position]:
    return [Position("gateway.access-logs", partition, offset) for offset in offsets]


def test_fates_that_agree_and_fates_that_do_not() -> None:
    lines = raw_lines(
        [line(), "broken", line(duration=-1), line(), line(extra={"access_log_type": "TcpPeriodic"})]
    )
    counted, broken, negative, late, _ = (raw.position for raw in lines)
    expected = recompute(lines, late=[late])
    counts = {"counted": 1, "late": 1, "dead": 2, "skipped": 1, "tcp": 0}
    dead = {broken: "not an object", negative: "duration: -1 is negative"}
    assert compare_fates(expected, [late], dead, counts) == []
    assert len(compare_fates(expected, [], dead, counts)) == 1
    assert len(compare_fates(expected, [late, counted], dead, counts)) == 1
    assert len(compare_fates(expected, [late], {broken: "not JSON"}, counts)) == 1
    assert len(compare_fates(expected, [late], dead | {counted: "not JSON"}, counts)) == 1
    assert len(compare_fates(expected, [late], dead | {negative: "start_time: unknown"}, counts)) == 1
    assert len(compare_fates(expected, [late], dead, counts | {"counted": 2})) == 1
    assert len(compare_fates(expected, [late, Position("other", 0, 0)], dead, counts)) == 1


# Lateness.


def ends(*seconds: float) -> list[str]:
    return [line(start_time=at(second), duration=0) for second in seconds]


def test_a_line_may_be_late_once_a_line_before_it_is_the_delay_past_its_window() -> None:
    lines = raw_lines(ends(3.0, 0.5, 2.999, 0.5))
    # Its window ends at 1.0; 3.0 - 2 = 1.0 closes it.
    assert unlawful_lateness(lines, positions(0, 1, 3), OracleSettings()) == []
    assert late_by_a_watermark_after_every_line(lines, OracleSettings()) == set(positions(0, 1, 3))


def test_a_line_must_not_be_late_by_a_hair_or_by_lines_after_it() -> None:
    lines = raw_lines(ends(2.999, 0.5, 9.0))
    assert len(unlawful_lateness(lines, positions(0, 1), OracleSettings())) == 1
    assert late_by_a_watermark_after_every_line(lines, OracleSettings()) == frozenset()
    assert len(unlawful_lateness(raw_lines(ends(9.0)), positions(0, 0), OracleSettings())) == 1


def test_a_line_of_another_partition_may_have_closed_the_window() -> None:
    lines = raw_lines(ends(0.5), partition=0) + raw_lines(ends(0.1, 9.0), partition=1)
    assert unlawful_lateness(lines, positions(0, 0), OracleSettings()) == []
    assert len(unlawful_lateness(lines, positions(1, 1), OracleSettings())) == 1


def test_dead_and_skipped_lines_close_no_window() -> None:
    far = at(90)
    lines = [
        RawLine(raw.value, raw.position, T0_MS)
        for raw in raw_lines(
            [
                line(start_time=far, duration=0),
                line(start_time=at(50), extra={"access_log_type": "TcpPeriodic"}),
                *ends(0.5),
            ]
        )
    ]
    assert len(unlawful_lateness(lines, positions(0, 2), OracleSettings())) == 1
    assert late_by_a_watermark_after_every_line(lines, OracleSettings()) == frozenset()


def test_a_dead_line_cannot_be_late() -> None:
    assert unlawful_lateness(raw_lines(["broken"]), positions(0, 0), OracleSettings()) != []


# Laws between rows.


def test_the_oracles_rows_obey_the_laws(expected: Expected) -> None:
    assert minutes_that_differ_from_their_seconds(expected.rows) == []
    assert groups_that_differ_from_their_children(expected.rows) == []


@pytest.mark.parametrize("field", ["requests", "aborted", "bytes_sent", "latency_count"])
def test_a_minute_that_is_not_its_seconds_is_reported(expected: Expected, field: str) -> None:
    rows = copy.deepcopy(dict(expected.rows))
    rows[TASK][field] += 1
    assert minutes_that_differ_from_their_seconds(rows) != []


def test_a_second_without_its_minute_and_a_minute_without_seconds_are_reported(expected: Expected) -> None:
    for span, problem in (("1m", "seconds without a minute"), ("1s", "a minute without seconds")):
        rows = {
            name: row for name, row in expected.rows.items() if (row["span"], row["task"]) != (span, "other")
        }
        problems = minutes_that_differ_from_their_seconds(rows)
        assert problems
        assert all(problem in text for text in problems)


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        (f"1s|department|vision||||{T0_MS}", "requests", 9),
        (TASK, "latency_max_ms", 999.0),
        (TASK, "requests", 1),
        (TASK, "replicas_seen", 7),
        (f"1s|replica|vision|chat||10.60.1.10:8080|{T0_MS}", "latency_count", 2),
        (f"1s|version|vision|chat|v1||{T0_MS}", "requests", 9),
    ],
)
def test_a_group_that_is_not_its_children_is_reported(
    expected: Expected, name: str, field: str, value: Any
) -> None:
    rows = copy.deepcopy(dict(expected.rows))
    rows[name][field] = value
    assert groups_that_differ_from_their_children(rows) != []
