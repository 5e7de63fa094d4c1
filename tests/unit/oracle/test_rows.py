"""The oracle's rows, with every number worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.oracle import (
    Expected,
    OracleSettings,
    Position,
    RawLine,
    Row,
    in_order_of_arrival,
    raw_lines,
    recompute,
)
from tests.oracle.histogram import bucket_of, nearest_rank
from tests.support.lines import (
    T0_MS,
    aborted,
    at,
    cluster,
    grpc,
    line,
    rate_limited,
    streamed,
    tcp,
    unrouted,
    upgraded,
)


def rows(*lines: str, **settings: Any) -> Expected:
    return recompute(raw_lines(lines), OracleSettings(**settings))


def row(expected: Expected, name: str, start_ms: int = T0_MS) -> Row:
    """The row of a name such as `1s|task|vision|chat||`."""
    return expected.rows[f"{name}|{start_ms}"]


def test_one_request_makes_a_row_at_each_of_its_levels_and_spans() -> None:
    expected = rows(line(upstream_cluster=cluster(version="v1")))
    assert set(expected.rows) == {
        f"{span}|{group}|{T0_MS}"
        for span in ("1s", "1m")
        for group in (
            "department|vision|||",
            "task|vision|chat||",
            "version|vision|chat|v1|",
            "replica|vision|chat|v1|10.60.1.10:8080",
        )
    }


def test_a_whole_row() -> None:
    """Five requests to one task: 10, 20 and 800 ms answered, one 503 after 30 ms, one refused."""
    expected = rows(
        line(duration=10, upstream_service_time="9"),
        line(duration=20, upstream_service_time="18"),
        line(duration=800, upstream_service_time=None, response_code=404),
        line(
            duration=30, response_code=503, response_flags="UC", upstream_host="b", upstream_service_time="30"
        ),
        rate_limited(),
    )
    assert row(expected, "1s|task|vision|chat||") == {
        "id": f"1s|task|vision|chat|||{T0_MS}",
        "span": "1s",
        "level": "task",
        "window_start": "2026-11-24T10:00:00.000Z",
        "window_end": "2026-11-24T10:00:01.000Z",
        "department": "vision",
        "task": "chat",
        "version": None,
        "replica": None,
        "requests": 5,
        "qps": 5.0,
        "latency_count": 4,
        "latency_avg_ms": 215.0,  # (10 + 20 + 30 + 800) / 4
        "latency_min_ms": 10.0,
        "latency_max_ms": 800.0,
        "latency_p50_ms": 20.0,  # rank ceil(0.5 * 4) = 2
        "latency_p90_ms": 800.0,  # rank ceil(3.6) = 4
        "latency_p95_ms": 800.0,
        "latency_p99_ms": 800.0,
        "upstream_service_time_avg_ms": 19.0,  # (9 + 18 + 30) / 3
        "upstream_service_time_max_ms": 30.0,
        "errors_4xx": 1,
        "errors_5xx": 1,
        "aborted": 0,
        "rate_limited": 1,
        "error_rate": 0.2,
        "rate_limited_ratio": 0.2,
        "response_flags": {"UC": 1, "RL": 1},
        "bytes_received": 5 * 512,
        "bytes_sent": 4 * 2048 + 18,
        "apdex": 0.625,  # of four: 10 and 20 ms satisfied, 800 ms tolerating, the 503 frustrated: 2.5 / 4
        "replicas_seen": 2,
        "qps_per_replica": 2.5,
        "histogram": {
            "scale": 5,
            "zero": 0,
            # 32 * log2: 10 -> 106.3, 20 -> 138.3, 30 -> 157.02, 800 -> 308.6
            "buckets": {"106": 1, "138": 1, "157": 1, "308": 1},
        },
        "upgraded": 0,
        "first_byte_count": 4,  # the refused request has none
        "first_byte_avg_ms": 117.0,
        "first_byte_min_ms": 117.0,
        "first_byte_max_ms": 117.0,
        "first_byte_p50_ms": 117.0,
        "first_byte_p90_ms": 117.0,
        "first_byte_p95_ms": 117.0,
        "first_byte_p99_ms": 117.0,
        "first_byte_histogram": {"scale": 5, "zero": 0, "buckets": {"219": 4}},  # 32 * log2(117) = 219.8
        "stream_ms_per_token": None,
        "output_tokens_per_second": None,
        "input_tokens": None,
        "output_tokens": None,
        "concurrency": 0.86,  # (10 + 20 + 800 + 30 + 0) ms in 1 s
        "retries": 0,
        "grpc_status": {},
        "exemplar": {
            "request_id": "8f14e45f-ceea-467f-9f6b-1d3a5c7e9b02",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            "latency_ms": 800.0,
        },
    }


def test_the_speed_of_streams_is_that_of_the_lines_that_know_all_three() -> None:
    task = row(
        rows(
            streamed(),  # 50 tokens in 1000 ms
            streamed(duration=700, output_tokens=150),  # 150 in 500 ms
            streamed(duration=1000, output_tokens=None),
            streamed(duration=1000, response_duration=None),
            streamed(duration=150),  # a first byte after the last one
        ),
        "1m|task|vision|chat||",
    )
    assert task["stream_ms_per_token"] == 7.5  # 1500 / 200
    assert task["output_tokens_per_second"] == 200 / 1.5
    assert (task["input_tokens"], task["output_tokens"]) == (150, 300)
    assert task["first_byte_count"] == 4


def test_an_upgraded_connection_counts_and_changes_no_latency() -> None:
    task = row(
        rows(*(line(duration=50, start_time=at(0.1)) for _ in range(10)), upgraded(start_time=before_t0())),
        "1s|task|vision|chat||",
    )
    assert (task["requests"], task["upgraded"], task["latency_count"], task["first_byte_count"]) == (
        11,
        1,
        10,
        10,
    )
    assert (task["latency_max_ms"], task["concurrency"], task["apdex"]) == (50.0, 0.5, 1.0)


def test_only_upgraded_connections_have_no_apdex_and_no_concurrency() -> None:
    task = row(rows(upgraded(start_time=before_t0())), "1s|task|vision|chat||")
    assert (task["apdex"], task["concurrency"], task["latency_count"]) == (None, None, 0)


def before_t0() -> str:
    """Such that what lasts four hours ends at T0."""
    return "2026-11-24T06:00:00.000Z"


def test_grpc_statuses_and_retries_are_counted() -> None:
    task = row(
        rows(
            *(grpc(grpc_status=status) for status in (0, 0, 14)),
            line(upstream_request_attempt_count=3),
            line(upstream_request_attempt_count=None),
        ),
        "1s|task|vision|chat||",
    )
    assert task["grpc_status"] == {"0": 2, "14": 1}
    assert (task["errors_5xx"], task["error_rate"], task["retries"]) == (1, 0.2, 2)


def test_the_exemplar_is_the_slowest_that_has_an_id_and_the_least_id_of_equals() -> None:
    task = row(
        rows(
            line(duration=90, request_id="-"),
            line(duration=80, request_id="b"),
            line(duration=80, request_id="a", traceparent=None),
            line(duration=80, request_id="a"),
            line(duration=10, request_id="0"),
            line(duration=99, request_id="none", upstream_host=None),
        ),
        "1s|task|vision|chat||",
    )
    assert task["exemplar"] == {
        "request_id": "a",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "latency_ms": 80.0,
    }


def test_failures_behind_a_200_are_errors() -> None:
    """Envoy answers gRPC with 200; no backend, a refused connection, a timeout, and an answer cut after its headers."""
    task = row(
        rows(
            line(),
            *(line(response_flags=flags, upstream_host=None) for flags in ("UF", "UH", "UT", "UPE")),
        ),
        "1s|task|vision|chat||",
    )
    assert (task["error_rate"], task["apdex"]) == (0.8, 0.2)


def test_flags_are_counted_apart_in_their_short_and_long_forms() -> None:
    task = row(
        rows(
            line(response_code=503, response_flags="UF,URX"),
            line(response_code=503, response_flags="UpstreamConnectionFailure,UpstreamRetryLimitExceeded"),
            line(response_code=429, response_flags="RateLimited"),
            line(response_code=429, response_flags="RL"),
            line(response_code=429),
            line(response_flags="RLSE"),
        ),
        "1s|task|vision|chat||",
    )
    names = (
        "UF",
        "URX",
        "UpstreamConnectionFailure",
        "UpstreamRetryLimitExceeded",
        "RateLimited",
        "RL",
        "RLSE",
    )
    assert task["response_flags"] == dict.fromkeys(names, 1)
    assert (task["errors_5xx"], task["rate_limited"], task["errors_4xx"]) == (2, 3, 1)


def test_tcp_connections_make_no_row() -> None:
    expected = rows(tcp(), tcp(response_flags="DC"))
    assert expected.rows == {}
    assert expected.counts()["tcp"] == 2


def test_a_minute_row_counts_the_minute() -> None:
    expected = rows(*(line(start_time=at(second), duration=0) for second in (0, 0.999, 1, 59.999, 60)))
    minute = row(expected, "1m|task|vision|chat||")
    assert (minute["requests"], minute["qps"], minute["qps_per_replica"]) == (4, 4 / 60, 4 / 60)
    assert (minute["window_start"], minute["window_end"]) == (
        "2026-11-24T10:00:00.000Z",
        "2026-11-24T10:01:00.000Z",
    )
    assert row(expected, "1s|task|vision|chat||")["requests"] == 2
    assert row(expected, "1m|task|vision|chat||", T0_MS + 60_000)["requests"] == 1


def test_a_request_belongs_to_the_second_in_which_it_ended() -> None:
    expected = rows(line(start_time=at(0.9), duration=100), line(start_time=at(0.9), duration=99))
    assert row(expected, "1s|task|vision|chat||")["requests"] == 1
    assert row(expected, "1s|task|vision|chat||", T0_MS + 1000)["requests"] == 1


def test_an_unknown_duration_counts_without_latency() -> None:
    task = row(rows(line(duration=None), line(duration=40)), "1s|task|vision|chat||")
    assert (task["requests"], task["latency_count"], task["latency_avg_ms"]) == (2, 1, 40.0)
    assert task["apdex"] == 0.5


def test_without_latency_there_are_nulls_and_an_empty_histogram() -> None:
    task = row(rows(rate_limited()), "1s|task|vision|chat||")
    assert [task[f"latency_{part}_ms"] for part in ("avg", "min", "max", "p50", "p90", "p95", "p99")] == [
        None
    ] * 7
    assert task["upstream_service_time_avg_ms"] is None
    assert task["upstream_service_time_max_ms"] is None
    assert task["apdex"] is None
    assert (task["replicas_seen"], task["qps_per_replica"]) == (0, None)
    assert task["histogram"] == {"scale": 5, "zero": 0, "buckets": {}}


def test_what_reached_no_replica_has_no_latency_and_no_replica_row() -> None:
    expected = rows(line(duration=40), line(duration=9, upstream_host=None, response_code=503))
    assert row(expected, "1s|task|vision|chat||")["latency_max_ms"] == 40.0
    assert row(expected, "1s|replica|vision|chat||10.60.1.10:8080")["requests"] == 1
    assert len([name for name in expected.rows if name.startswith("1s|replica")]) == 1


def test_zero_milliseconds_are_counted_apart() -> None:
    task = row(rows(line(duration=0), line(duration=1)), "1s|task|vision|chat||")
    assert task["histogram"] == {"scale": 5, "zero": 1, "buckets": {"-1": 1}}
    assert (task["latency_p50_ms"], task["latency_min_ms"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("duration", "halves"),
    [(500, 2), (500.001, 1), (2000, 1), (2000.001, 0), (None, 0)],
)
def test_apdex_bounds_belong_to_the_better_side(duration: float | None, halves: int) -> None:
    assert row(rows(line(duration=duration)), "1m|department|vision|||")["apdex"] == halves / 2


def test_apdex_takes_its_target_from_the_settings() -> None:
    assert row(rows(line(duration=100), apdex_target_ms=99), "1s|task|vision|chat||")["apdex"] == 0.5


def test_apdex_of_errors_aborts_and_4xx() -> None:
    expected = rows(
        line(duration=1, response_code=500),
        aborted(duration=1),
        line(duration=1, response_code=404),
        rate_limited(),
    )
    assert row(expected, "1s|task|vision|chat||")["apdex"] == 1 / 3


def test_error_rate_is_5xx_and_aborted_over_all() -> None:
    expected = rows(line(response_code=500), aborted(), line(response_code=404), rate_limited(), line())
    task = row(expected, "1s|task|vision|chat||")
    assert (task["errors_4xx"], task["errors_5xx"], task["aborted"], task["rate_limited"]) == (1, 1, 1, 1)
    assert (task["error_rate"], task["rate_limited_ratio"]) == (0.4, 0.2)


def test_one_address_of_two_tasks_is_two_replicas_of_the_department() -> None:
    expected = rows(
        line(upstream_host="a", upstream_cluster=cluster(task="x")),
        line(upstream_host="a", upstream_cluster=cluster(task="y")),
        line(upstream_host="b", upstream_cluster=cluster(task="y")),
    )
    assert row(expected, "1s|department|vision|||")["replicas_seen"] == 3
    assert row(expected, "1s|task|vision|y||")["replicas_seen"] == 2
    assert row(expected, "1s|replica|vision|y||b")["replicas_seen"] == 1


def test_versions_part_the_replicas_of_a_task() -> None:
    expected = rows(
        line(upstream_cluster=cluster(version="v1"), upstream_host="a"),
        line(upstream_cluster=cluster(version="v2"), upstream_host="a"),
        line(upstream_cluster=cluster(), upstream_host="a"),
    )
    assert row(expected, "1s|task|vision|chat||")["requests"] == 3
    assert row(expected, "1s|task|vision|chat||")["replicas_seen"] == 1
    assert {
        name.rsplit("|", 1)[0] for name in expected.rows if name.startswith(("1s|version", "1s|replica"))
    } == {
        "1s|version|vision|chat|v1|",
        "1s|version|vision|chat|v2|",
        "1s|replica|vision|chat|v1|a",
        "1s|replica|vision|chat|v2|a",
        "1s|replica|vision|chat||a",
    }


def test_unrouted_requests_have_rows_of_their_own() -> None:
    expected = rows(unrouted(), unrouted(taskid="chat"))
    assert row(expected, "1s|department|__unrouted__|||")["requests"] == 2
    assert row(expected, "1s|task|__unrouted__|__unrouted__||")["errors_5xx"] == 2
    assert len(expected.rows) == 4


def test_flags_are_counted_per_line() -> None:
    expected = rows(line(response_flags="UF,URX"), line(response_flags="UF"), line(response_flags="UF,UF"))
    assert row(expected, "1s|task|vision|chat||")["response_flags"] == {"UF": 3, "URX": 1}


def test_sums_of_fractions_are_exact() -> None:
    task = row(rows(*[line(duration=0.1)] * 10), "1s|task|vision|chat||")
    assert (task["latency_avg_ms"], task["latency_min_ms"], task["latency_max_ms"]) == (0.1, 0.1, 0.1)


def test_percentiles_are_the_nearest_rank() -> None:
    task = row(rows(*(line(duration=ms) for ms in range(100, 0, -1))), "1s|task|vision|chat||")
    assert [task[f"latency_p{percent}_ms"] for percent in (50, 90, 95, 99)] == [50.0, 90.0, 95.0, 99.0]
    two = row(rows(line(duration=1), line(duration=2)), "1s|task|vision|chat||")
    assert (two["latency_p50_ms"], two["latency_p90_ms"]) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [(1, 50, 1), (2, 50, 1), (3, 50, 2), (10, 90, 9), (11, 90, 10), (100, 99, 99), (101, 99, 100)],
)
def test_nearest_rank_is_the_ceiling(count: int, percent: int, rank: int) -> None:
    assert nearest_rank(count, percent) == rank


@pytest.mark.parametrize(
    ("duration_us", "bucket"),
    [
        (1000, -1),  # 1 ms = base^0 closes bucket -1
        (1001, 0),
        (2000, 31),
        (2001, 32),
        (1999, 31),
        (4000, 63),
        (500, -33),
        (1024_000, 319),
        (1024_001, 320),
        (1, -319),  # 32 * log2(0.001) = -318.905
        (120_000, 221),  # 32 * log2(120) = 221.02
        (10_000_000_000_000, 1063),  # 32 * log2(1e10) = 1063.017
    ],
)
def test_a_bucket_is_open_below_and_closed_above(duration_us: int, bucket: int) -> None:
    assert bucket_of(duration_us) == bucket


def test_late_dead_and_skipped_lines_are_in_no_row() -> None:
    lines = raw_lines(
        [
            line(),
            line(duration=7),
            "broken",
            line(extra={"access_log_type": "TcpPeriodic"}),
            line(duration=-1),
        ]
    )
    expected = recompute(lines, late={lines[1].position})
    assert expected.counts() == {"counted": 1, "late": 1, "dead": 2, "skipped": 1, "tcp": 0}
    assert [expected.fates[raw.position].reason for raw in lines] == [
        None,
        None,
        "not JSON",
        None,
        "duration",
    ]
    assert row(expected, "1m|task|vision|chat||")["latency_min_ms"] == 120.0
    assert row(expected, "1m|task|vision|chat||")["requests"] == 1


def test_no_lines_make_no_rows() -> None:
    assert recompute([]).rows == {}


def test_a_message_without_a_value_is_dead() -> None:
    expected = recompute([RawLine(None, Position("gateway.access-logs", 0, 0))])
    assert expected.counts()["dead"] == 1


def test_two_lines_at_one_position_are_a_mistake_of_the_test() -> None:
    with pytest.raises(ValueError, match="two lines at one position"):
        recompute(raw_lines([line()]) + raw_lines([line()]))


def test_tasks_past_the_number_fold_by_name_in_each_second() -> None:
    lines = [line(duration=0, upstream_cluster=cluster(task=task)) for task in ("c", "b", "a")]
    lines.append(line(duration=0, start_time=at(1), upstream_cluster=cluster(task="c")))
    expected = rows(*lines, max_tasks_per_department=2)
    names = {name for name in expected.rows if "|task|" in name}
    assert names == {
        f"{span}|task|vision|{task}|||{start}"
        for span, task, start in (
            ("1s", "a", T0_MS),
            ("1s", "b", T0_MS),
            ("1s", "__overflow__", T0_MS),
            ("1s", "c", T0_MS + 1000),
            ("1m", "a", T0_MS),
            ("1m", "b", T0_MS),
            ("1m", "__overflow__", T0_MS),
            ("1m", "c", T0_MS),
        )
    }


def test_tasks_past_the_number_fold_by_arrival_where_a_job_does_so() -> None:
    lines = [line(upstream_cluster=cluster(task=task)) for task in ("c", "b", "a", "c")]
    lines.append(line(upstream_cluster=cluster(task="z", department="other")))
    expected = recompute(
        raw_lines(lines), OracleSettings(max_tasks_per_department=2), fold=in_order_of_arrival
    )
    found = {(row["task"], row["requests"]) for row in expected.rows.values() if row["level"] == "task"}
    assert found == {("c", 2), ("b", 1), ("__overflow__", 1), ("z", 1)}


def test_the_same_task_name_in_two_departments_is_two_tasks() -> None:
    expected = rows(
        line(upstream_cluster=cluster(department="a")), line(upstream_cluster=cluster(department="b"))
    )
    assert row(expected, "1s|task|a|chat||")["requests"] == 1
    assert row(expected, "1s|task|b|chat||")["requests"] == 1


def test_a_forged_line_moves_no_count() -> None:
    honest = [line(), unrouted()]
    forged = [
        line(user_agent='"}\n{"taskid":"victim"', taskid="victim", authority='a","taskid":"b'),
        unrouted(taskid="chat", path='/x","upstream_cluster":"outbound|80||service-chat.vision.svc'),
    ]
    assert rows(*forged).rows == rows(*honest).rows
