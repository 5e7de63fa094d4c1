"""What the demo shows of the rows that it reads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.demo_rows import START_MS, row
from tidegate.demo.board import SHOWN_SECONDS, Board, bucket_middle_ms, nearest_rank, percentile_ms
from tidegate.schemas.rows.service_metrics import UNROUTED

GROWTH = 2 ** (1 / 32)


def histogram_of(values_ms: list[float]) -> dict[str, object]:
    buckets: dict[str, int] = {}
    for value in values_ms:
        index = str(math.ceil(math.log(value, GROWTH) - 1e-9) - 1)
        buckets[index] = buckets.get(index, 0) + 1
    return {"zero": 0, "buckets": buckets}


def test_a_row_that_comes_twice_counts_once_and_the_newer_one_counts() -> None:
    board = Board()
    board.add(row(requests=10), START_MS + 2000)
    board.add(row(requests=12), START_MS + 9000)
    counted = board.counted()
    assert counted["search", "ranking"].requests == 12
    assert board.rows == {"1s": 1}
    assert board.ages_ms() == [1000]


def test_counts_before_a_moment_leave_out_the_seconds_after_it() -> None:
    board = Board()
    for second in range(4):
        board.add(row(second, requests=10, rate_limited=second), START_MS + 10_000)
    counted = board.counted(before_ms=START_MS + 2000)["search", "ranking"]
    assert (counted.requests, counted.rate_limited) == (20, 1)


def test_ages_are_of_the_seconds_asked_for() -> None:
    board = Board()
    for second in range(3):
        board.add(row(second), START_MS + 5000)
    assert board.ages_ms() == [4000, 3000, 2000]
    assert board.ages_ms(before_ms=START_MS + 1000) == [4000]


def test_only_task_rows_count_so_that_no_request_counts_twice() -> None:
    board = Board()
    for level in ("department", "task", "replica"):
        board.add(row(level=level), START_MS + 2000)
    assert sum(counts.requests for counts in board.counted().values()) == 10
    assert board.ages_ms() == [1000]


def test_minutes_are_counted_as_rows_and_not_as_requests() -> None:
    board = Board()
    board.add(row(span="1m", requests=600), START_MS + 70_000)
    assert board.rows == {"1m": 1}
    assert board.counted() == {}


def test_a_line_sums_the_newest_ten_seconds() -> None:
    board = Board()
    for second in range(SHOWN_SECONDS + 5):
        board.add(row(second, requests=second), START_MS + 20_000)
    _, line = board.lines(START_MS + 20_000)
    assert line.qps == pytest.approx(sum(range(5, 15)) / SHOWN_SECONDS)
    assert line.newest_age_seconds == pytest.approx(5.0)


def test_a_task_that_falls_silent_stays_in_the_table_with_a_growing_age() -> None:
    board = Board()
    board.add(row(0), START_MS + 1500)
    board.add(row(30, task="other"), START_MS + 31_500)
    silent = next(line for line in board.lines(START_MS + 40_000) if line.task == "ranking")
    assert silent.qps == 0
    assert silent.p50_ms is None
    assert silent.newest_age_seconds == pytest.approx(39.0)


def test_a_task_is_followed_by_its_versions() -> None:
    board = Board()
    board.add(row(), START_MS)
    for version in ("v2", "v1"):
        board.add(row(level="version", version=version), START_MS)
    assert [(line.task, line.version) for line in board.lines(START_MS)] == [
        (None, None),
        ("ranking", None),
        ("ranking", "v1"),
        ("ranking", "v2"),
    ]


def test_a_row_that_is_read_before_its_tasks_waits_for_it() -> None:
    board = Board()
    board.add(row(level="department"), START_MS)
    board.add(row(level="version", version="v1"), START_MS)
    board.add(row(level="replica"), START_MS)
    assert board.lines(START_MS) == []
    assert board.standing_out() == []
    board.add(row(), START_MS)
    assert [line.version for line in board.lines(START_MS)] == [None, None, "v1"]


def test_the_unrouted_come_last() -> None:
    board = Board()
    for department in (UNROUTED, "zoo", "search"):
        board.add(row(department=department, level="department"), START_MS)
        board.add(row(department=department), START_MS)
    departments = [line.department for line in board.lines(START_MS) if line.task is None]
    assert departments == ["search", "zoo", UNROUTED]


def test_replicas_are_those_that_answered_in_the_seconds_shown() -> None:
    board = Board()
    for second, port in enumerate((1, 2, 3)):
        board.add(row(second), START_MS)
        board.add(row(second, level="replica", replica=f"127.0.0.1:{port}"), START_MS)
    assert [line.replicas for line in board.lines(START_MS)] == [3, 3]


def test_shares_are_of_all_requests_and_apdex_leaves_out_the_limited() -> None:
    board = Board()
    board.add(row(requests=20, rate_limited=10, errors_5xx=5, apdex=0.5), START_MS)
    board.add(row(1, requests=10, apdex=1.0), START_MS)
    _, line = board.lines(START_MS + 2000)
    assert line.limited_percent == pytest.approx(100 * 10 / 30)
    assert line.errors_percent == pytest.approx(100 * 5 / 30)
    assert line.apdex == pytest.approx((10 * 0.5 + 10 * 1.0) / 20)


def test_a_slow_and_a_failing_replica_stand_out_and_a_common_one_does_not() -> None:
    board = Board()
    slow, failing, common = "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"
    board.add(row(requests=60, histogram=histogram_of([10.0] * 60)), START_MS)
    board.add(row(requests=20, level="replica", replica=slow, histogram=histogram_of([50.0] * 20)), START_MS)
    board.add(
        row(
            requests=20,
            level="replica",
            replica=failing,
            errors_5xx=8,
            histogram=histogram_of([10.0] * 20),
        ),
        START_MS,
    )
    board.add(
        row(requests=20, level="replica", replica=common, histogram=histogram_of([10.0] * 20)), START_MS
    )
    found = {line.replica: line for line in board.standing_out()}
    assert set(found) == {slow, failing}
    assert found[failing].errors_percent == pytest.approx(40.0)


@given(
    st.lists(st.floats(min_value=0.01, max_value=100_000), min_size=1, max_size=60),
    st.sampled_from([1, 50, 90, 99, 100]),
)
def test_a_percentile_over_rows_is_within_a_bucket_of_the_exact_nearest_rank(
    values: list[float], percent: int
) -> None:
    half = len(values) // 2
    rows = [
        row(
            second,
            requests=len(part),
            histogram=histogram_of(part),
            latency_min_ms=min(part),
            latency_max_ms=max(part),
        )
        for second, part in enumerate((values[:half], values[half:]))
        if part
    ]
    exact = nearest_rank(values, percent)
    assert exact is not None
    assert percentile_ms(rows, percent) == pytest.approx(exact, rel=0.0111)


def test_requests_of_no_time_at_all_have_the_lowest_ranks() -> None:
    rows = [
        row(
            requests=4,
            latency_min_ms=0.0,
            latency_max_ms=10.0,
            histogram={"zero": 3, "buckets": {"106": 1}},
        )
    ]
    assert percentile_ms(rows, 75) == 0
    assert percentile_ms(rows, 99) == pytest.approx(10.0, rel=0.0111)


def test_rows_without_a_timed_request_have_no_percentile() -> None:
    assert percentile_ms([row(requests=3, latency_count=0)], 50) is None


@given(st.integers(min_value=-400, max_value=600))
def test_a_buckets_middle_is_as_far_from_both_ends(index: int) -> None:
    low, high, middle = GROWTH**index, GROWTH ** (index + 1), bucket_middle_ms(index)
    assert (middle - low) / low == pytest.approx((high - middle) / high, rel=1e-6)


def test_a_streaming_task_has_its_tokens_and_its_time_to_the_first_byte() -> None:
    board = Board()
    for second in range(2):
        board.add(
            row(
                second,
                output_tokens=100 + 100 * second,
                first_byte_count=2,
                first_byte_min_ms=10.0,
                first_byte_max_ms=500.0,
                first_byte_histogram=histogram_of([10.0, 500.0]),
            ),
            START_MS + 5000,
        )
        board.add(row(second, task="plain"), START_MS + 5000)
    (line,) = board.streams()
    assert (line.task, line.output_tokens_per_second) == ("ranking", 150)
    assert line.first_byte_p50_ms == pytest.approx(10, rel=0.011)
    assert line.first_byte_p99_ms == pytest.approx(500, rel=0.011)


def test_an_upgraded_connection_has_no_part_in_apdex() -> None:
    board = Board()
    board.add(row(0, requests=10, upgraded=10, apdex=None), START_MS + 5000)
    board.add(row(1, requests=10, apdex=0.5), START_MS + 5000)
    (line,) = [
        line for line in board.lines(START_MS + 5000) if line.task == "ranking" and line.version is None
    ]
    assert line.apdex == 0.5
