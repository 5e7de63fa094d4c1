"""The oracle's reading of one line, against values worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.oracle import Dead, OracleSettings, Reason, Request, Skipped, raw_lines, read
from tests.support import cluster_names
from tests.support.envelopes import ENVELOPES
from tests.support.lines import (
    T0_MS,
    aborted,
    at,
    cluster,
    grpc,
    line,
    rate_limited,
    record,
    streamed,
    tcp,
    unrouted,
)


def found(value: str | bytes, timestamp_ms: int | None = None, **settings: Any) -> Request | Dead | Skipped:
    (raw,) = raw_lines([value], timestamp_ms=timestamp_ms)
    return read(raw, OracleSettings(**settings))


def request(value: str | bytes, **settings: Any) -> Request:
    result = found(value, **settings)
    assert isinstance(result, Request), result
    return result


def reason(value: str | bytes, timestamp_ms: int | None = None) -> Reason:
    result = found(value, timestamp_ms)
    assert isinstance(result, Dead), result
    return result.reason


def with_json(key: str, text: str) -> str:
    """An ordinary line whose `key` holds exactly this JSON text."""
    fields: dict[str, Any] = {key: "@@"}
    return line(**fields).replace('"@@"', text)


def test_an_ordinary_line_is_read_whole() -> None:
    assert request(
        line(start_time=at(1.25), duration=120, upstream_cluster=cluster(version="v2"))
    ) == Request(
        event_ms=T0_MS + 1370,
        department="vision",
        task="chat",
        version="v2",
        replica="10.60.1.10:8080",
        outcome=request(line()).outcome.OK,
        duration_us=120_000,
        upstream_service_time_us=118_000,
        flags=frozenset(),
        bytes_received=512,
        bytes_sent=2048,
        grpc_status=None,
        upgraded=False,
        first_byte_us=117_000,
        retries=0,
        input_tokens=None,
        output_tokens=None,
        request_id="8f14e45f-ceea-467f-9f6b-1d3a5c7e9b02",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    )


# Not JSON.


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"   ",
        b"null",
        b"[]",
        b"12",
        b'"text"',
        line().encode()[:-1],
        line().encode() + b"}",
        line().encode() + b" x",
        line().encode() * 2,
        b"\xef\xbb\xbf" + line().encode(),
        line(user_agent="@@").encode().replace(b"@@", b"\xff\xfe"),
        line(user_agent="@@").encode().replace(b"@@", b"\xed\xa0\x80"),
        line(user_agent="@@").encode().replace(b"@@", b"\n"),
        with_json("duration", "NaN").encode(),
        with_json("duration", "Infinity").encode(),
        with_json("duration", "-Infinity").encode(),
        with_json("duration", "012").encode(),
        with_json("duration", "+1").encode(),
        with_json("duration", ".5").encode(),
        with_json("duration", "1.").encode(),
        with_json("duration", "'12'").encode(),
        with_json("duration", "12,").encode()[:-1] + b",}",
        b"[" * 100_000,
    ],
)
def test_what_is_not_one_json_object_is_dead(value: bytes) -> None:
    assert reason(value) == Reason.JSON


@pytest.mark.parametrize(
    "value", [f" \t\r\n{line()}\n", json.dumps(record(), indent=2), line(extra={"other": {"deep": [1]}})]
)
def test_whitespace_and_further_keys_are_no_error(value: str) -> None:
    assert request(value) == request(line())


def test_of_a_repeated_key_the_last_value_holds() -> None:
    assert request(line(duration=5)[:-1] + ',"duration":7}').duration_us == 7000
    assert request(line(duration="bad")[:-1] + ',"duration":7}').duration_us == 7000
    assert reason(line(duration=7)[:-1] + ',"duration":"bad"}') == Reason.DURATION


def test_an_escaped_key_is_the_same_key() -> None:
    assert request(line(duration=5)[:-1] + ',"dur\\u0061tion":7}').duration_us == 7000


# Periodic lines.


@pytest.mark.parametrize("kind", ["DownstreamPeriodic", "UpstreamEnd", "downstreamend"])
def test_a_periodic_line_is_skipped_before_its_fields_are_read(kind: str) -> None:
    assert isinstance(found(line(extra={"access_log_type": kind}, start_time="bad", duration=-1)), Skipped)


@pytest.mark.parametrize("kind", ["DownstreamEnd", "-", "", None])
def test_the_line_of_an_ended_request_counts(kind: str | None) -> None:
    assert request(line(extra={"access_log_type": kind})) == request(line())


def test_the_line_of_an_ended_connection_is_a_tcp_line() -> None:
    ended = {"method": None, "protocol": None, "response_code": 0}
    assert found(line(extra={"access_log_type": "TcpConnectionEnd"}, **ended)) == Skipped(tcp=True)
    assert found(line(extra={"access_log_type": "TcpPeriodic"}, **ended)) == Skipped(tcp=False)


# start_time.


@pytest.mark.parametrize(
    ("start_time", "event_ms"),
    [
        ("2026-11-24T10:00:00Z", T0_MS),
        ("2026-11-24T10:00:00.5Z", T0_MS + 500),
        ("2026-11-24T10:00:00.123Z", T0_MS + 123),
        ("2026-11-24T10:00:00.123999999Z", T0_MS + 123),
        ("2026-11-24T10:00:00.000+00:00", T0_MS),
        ("2026-11-24T12:00:00.000+02:00", T0_MS),
        ("2026-11-24T04:30:00.000-05:30", T0_MS),
        ("1970-01-01T00:00:00Z", 0),
        ("2200-12-31T23:59:59.999Z", 7_289_654_399_999),
        ("2028-02-29T00:00:00Z", 1_835_395_200_000),
    ],
)
def test_a_start_time_with_a_zone_is_read_to_the_millisecond(start_time: str, event_ms: int) -> None:
    assert request(line(start_time=start_time, duration=0)).event_ms == event_ms


@pytest.mark.parametrize(
    "start_time",
    [
        None,
        "-",
        "",
        "yesterday",
        "2026-11-24",
        "2026-11-24T10:00:00",
        "2026-11-24T10:00Z",
        "2026-11-24T10:00:00+02",
        "2026-11-24T10:00:00+24:00",
        "2026-11-24T10:00:00+01:60",
        "2026-11-24T10:00:00.Z",
        "2026-11-24T10:00:00,5Z",
        "2026-11-24T24:00:00Z",
        "2026-11-24T10:00:60Z",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:30:00+01:00",
        "2201-01-01T00:00:00Z",
        "2026-11-24T10:00:00Z\n",
        "٢٠٢٦-11-24T10:00:00Z",
        True,
        {"seconds": 1},
        ["2026-11-24T10:00:00Z"],
    ],
)
def test_an_unreadable_start_time_is_dead(start_time: Any) -> None:
    assert reason(line(start_time=start_time)) == Reason.START_TIME


def test_an_absent_start_time_is_dead() -> None:
    assert reason(line(absent=["start_time"])) == Reason.START_TIME


def test_a_line_far_ahead_of_kafkas_clock_is_dead() -> None:
    ends_at_61_s = line(start_time=at(60), duration=1000)
    assert isinstance(found(ends_at_61_s, T0_MS + 1000), Request)
    assert reason(ends_at_61_s, T0_MS + 999) == Reason.START_TIME


# duration.


@pytest.mark.parametrize(
    ("text", "duration_us", "event_ms"),
    [
        ("0", 0, 0),
        ("-0", 0, 0),
        ("12", 12_000, 12),
        ('"12"', 12_000, 12),
        ('" 12 "', 12_000, 12),
        ('"12.5"', 12_500, 12),
        ('"1e3"', 1_000_000, 1000),
        ("1.5E+2", 150_000, 150),
        ("1500e-3", 1500, 1),
        ("0.0004", 0, 0),
        ("0.0005", 1, 0),
        ("12.0004999", 12_000, 12),
        ("0.9999", 1000, 0),
        ("1e-999999999999", 0, 0),
        ("10000000000", 10_000_000_000_000, 10_000_000_000),
        ("null", None, 0),
        ('"-"', None, 0),
        ('""', None, 0),
    ],
)
def test_a_duration_is_microseconds_half_up_and_moves_the_event_by_whole_ms(
    text: str, duration_us: int | None, event_ms: int
) -> None:
    read_line = request(with_json("duration", text))
    assert (read_line.duration_us, read_line.event_ms - T0_MS) == (duration_us, event_ms)


def test_an_absent_duration_is_unknown() -> None:
    assert request(line(absent=["duration"])).duration_us is None


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        "-0.001",
        "-1e-999999999999",
        '"-3"',
        "10000000000.001",
        "1e400",
        "1e999999999999",
        '"NaN"',
        '"Infinity"',
        '"12ms"',
        '"1_000"',
        '"0x10"',
        '"+5"',
        '".5"',
        '"5."',
        '"012"',
        '"1 2"',
        '"١٢"',
        "true",
        "false",
        "{}",
        "[12]",
    ],
)
def test_a_given_duration_that_is_no_time_span_is_dead(text: str) -> None:
    assert reason(with_json("duration", text)) == Reason.DURATION


def test_the_start_time_is_looked_at_before_the_duration() -> None:
    assert reason(line(start_time=None, duration=-1)) == Reason.START_TIME


# Other numbers have no errors.


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("7", 7),
        ('"7"', 7),
        ('" 7 "', 7),
        ("7e2", 700),
        ("7.0", 7),
        ("9007199254740991", 9_007_199_254_740_991),
        ("9007199254740992", 0),
        ("1e30", 0),
        ("7.5", 0),
        ("-7", 0),
        ("null", 0),
        ('"-"', 0),
        ('"many"', 0),
        ("true", 0),
        ("[7]", 0),
        ("{}", 0),
    ],
)
def test_bytes_are_whole_numbers_or_nothing(text: str, count: int) -> None:
    assert request(with_json("bytes_sent", text)).bytes_sent == count
    assert request(with_json("bytes_received", text)).bytes_received == count


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("7", 7000),
        ('"7"', 7000),
        ("0", 0),
        ("0.25", 250),
        ("-7", None),
        ('"-"', None),
        ("true", None),
        ("1e99", None),
    ],
)
def test_an_upstream_service_time_is_known_or_not(text: str, microseconds: int | None) -> None:
    assert request(with_json("upstream_service_time", text)).upstream_service_time_us == microseconds


# Outcome.


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("0", "aborted"),
        ('"0"', "aborted"),
        ("200", "ok"),
        ("399", "ok"),
        ("400", "errors_4xx"),
        ('"404"', "errors_4xx"),
        ("499", "errors_4xx"),
        ("500", "errors_5xx"),
        ("5.03e2", "errors_5xx"),
        ("599", "errors_5xx"),
        ("600", "ok"),
        ("-1", "ok"),
        ("503.5", "ok"),
        ("null", "ok"),
        ('"-"', "ok"),
        ('"teapot"', "ok"),
        ("[500]", "ok"),
    ],
)
def test_the_code_gives_the_outcome(text: str, outcome: str) -> None:
    assert request(with_json("response_code", text)).outcome == outcome


@pytest.mark.parametrize("code", [0, 200, 429, 503])
def test_a_rate_limited_request_is_nothing_else(code: int) -> None:
    assert request(rate_limited(response_code=code)).outcome == "rate_limited"
    assert request(line(response_code=code, response_flags="DC,RL")).outcome == "rate_limited"
    assert (
        request(line(response_code=code, response_code_details="local_rate_limited")).outcome
        == "rate_limited"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"response_flags": "RLSE"},
        {"response_flags": "RateLimited"},
        {"response_flags": "RateLimitServiceError"},
        {"response_code_details": "request_rate_limited"},
        {"response_code_details": "rate_limited_by_quota"},
        {"response_code_details": "rate_limiter_error"},
    ],
)
def test_every_rate_limit_of_envoy_is_recognised(fields: dict[str, str]) -> None:
    assert request(line(response_code=200, **fields)).outcome == "rate_limited"


def test_the_replicas_own_429_is_a_4xx() -> None:
    assert request(line(response_code=429)).outcome == "errors_4xx"


def test_an_aborted_and_an_unrouted_line() -> None:
    assert request(aborted()).outcome == "aborted"
    assert request(unrouted()).outcome == "errors_5xx"  # NR, whatever the code


@pytest.mark.parametrize(
    ("flags", "outcome"),
    [
        ("UF", "errors_5xx"),
        ("UH", "errors_5xx"),
        ("UT", "errors_5xx"),
        ("UPE", "errors_5xx"),
        ("UpstreamConnectionFailure,UpstreamRetryLimitExceeded", "errors_5xx"),
        ("DC", "aborted"),
        ("DR", "aborted"),
        ("UC,DC", "aborted"),
        ("DownstreamConnectionTermination", "aborted"),
        ("DI", "ok"),
        ("RFCF", "ok"),
        ("NEW_FLAG", "ok"),
        ("uf", "ok"),
    ],
)
def test_a_flag_gives_the_outcome_of_an_answer_that_began_with_200(flags: str, outcome: str) -> None:
    assert request(line(response_code=200, response_flags=flags)).outcome == outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(0, "ok"), (1, "aborted")]
    + [(status, "errors_5xx") for status in (2, 4, 12, 13, 14, 15)]
    + [(status, "errors_4xx") for status in (3, 5, 6, 7, 8, 9, 10, 11, 16)]
    + [
        ("14", "errors_5xx"),
        ("Unavailable", "errors_5xx"),
        ("DATA_LOSS", "errors_5xx"),
        ("Canceled", "aborted"),
    ]
    + [
        ("NotFound", "errors_4xx"),
        ("OK", "ok"),
        ("Teapot", "ok"),
        (17, "ok"),
        (-1, "ok"),
        (None, "ok"),
        ("-", "ok"),
    ],
)
def test_a_grpc_status_gives_the_outcome_of_a_200(status: int | str | None, outcome: str) -> None:
    assert request(grpc(grpc_status=status)).outcome == outcome


# What is no request, and what has no duration.


def test_a_tcp_connection_is_skipped_by_a_name_of_its_own() -> None:
    assert found(tcp()) == Skipped(tcp=True)
    assert found(tcp(response_code=None, method="-", protocol="")) == Skipped(tcp=True)
    assert found(tcp(response_flags="UF")) == Skipped(tcp=True)
    assert isinstance(found(tcp(start_time="-")), Dead)


@pytest.mark.parametrize(
    "value",
    [
        line(absent=("method", "protocol")),  # a format without them: its answer shows that it is HTTP
        tcp(protocol="HTTP/1.1"),
        tcp(method="GET"),
        tcp(response_code=400),
    ],
)
def test_a_line_that_has_a_method_a_protocol_or_an_answer_is_a_request(value: str) -> None:
    assert isinstance(found(value), Request)


@pytest.mark.parametrize("fields", [{"response_code": 101}, {"method": "CONNECT"}])
def test_an_upgraded_connection_is_a_request_without_durations(fields: dict[str, Any]) -> None:
    read_as = request(line(duration=4 * 3600 * 1000, **fields))
    assert (read_as.upgraded, read_as.duration_us, read_as.first_byte_us) == (True, None, None)
    assert read_as.event_ms == T0_MS + 4 * 3600 * 1000


# First byte, attempts, tokens, ids.


def test_a_stream_is_read_whole() -> None:
    read_as = request(streamed(upstream_request_attempt_count="3"))
    assert (read_as.first_byte_us, read_as.retries) == (200_000, 2)
    assert (read_as.input_tokens, read_as.output_tokens) == (30, 50)


@pytest.mark.parametrize("unknown", [None, "-", "", "many", -1, 1.5, 10**9 + 1, {}])
def test_tokens_and_attempts_that_cannot_be_read_are_unknown(unknown: Any) -> None:
    read_as = request(streamed(output_tokens=unknown, upstream_request_attempt_count=unknown))
    assert (read_as.output_tokens, read_as.retries) == (None, None)


def test_a_request_without_an_attempt_has_no_retry() -> None:
    assert request(line(upstream_request_attempt_count=0)).retries == 0


@pytest.mark.parametrize("request_id", [None, "-", "", "a b", "x" * 129, "\u00e4", 7])
def test_a_request_id_is_visible_ascii_of_a_bounded_length(request_id: Any) -> None:
    assert request(line(request_id=request_id)).request_id is None
    assert request(line(request_id="x" * 128)).request_id == "x" * 128


@pytest.mark.parametrize(
    "traceparent", [None, "-", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'A' * 32}-{'1' * 16}-01", "00-ab-cd-01"]
)
def test_another_form_than_w3cs_has_no_trace(traceparent: str | None) -> None:
    assert request(line(traceparent=traceparent)).trace_id is None


@pytest.mark.parametrize(
    ("joined", "flags"),
    [
        ("UF,URX", {"UF", "URX"}),
        (" UF , URX ", {"UF", "URX"}),
        ("UF,UF", {"UF"}),
        (",UF,,-,", {"UF"}),
        ("NEW_FLAG", {"NEW_FLAG"}),
        ("-", set()),
        ("", set()),
        (None, set()),
        (12, set()),
    ],
)
def test_flags_are_split_trimmed_and_counted_once(joined: Any, flags: set[str]) -> None:
    assert request(line(response_flags=joined)).flags == flags


# Identity.


@pytest.mark.parametrize(
    ("cluster_name", "identity"),
    [
        *cluster_names.ALL,
        (None, ("__unrouted__", "__unrouted__", None)),
        ("-", ("__unrouted__", "__unrouted__", None)),
        ("", ("__unrouted__", "__unrouted__", None)),
        (12, ("__unrouted__", "__unrouted__", None)),
    ],
)
def test_the_cluster_gives_department_task_and_version(
    cluster_name: Any, identity: cluster_names.Identity
) -> None:
    read_line = request(line(upstream_cluster=cluster_name), departments=cluster_names.DEPARTMENTS)
    assert (read_line.department, read_line.task, read_line.version) == identity


@pytest.mark.parametrize(
    ("extra", "task"),
    [({"x_task": "ocr"}, "ocr"), ({"x_task": "-"}, "chat"), ({"x_task": 7}, "chat"), ({}, "chat")],
)
def test_another_key_names_the_task_where_it_says_something(extra: dict[str, Any], task: str) -> None:
    assert request(line(extra=extra), name_key="x_task").task == task


def test_a_pattern_names_what_it_matches_whole() -> None:
    own = {"name_pattern": r"(?P<department>\w+):(?P<task>\w+)(?:@(?P<version>\w+))?"}
    read_line = request(line(upstream_cluster="search:ocr@v2"), **own)
    assert (read_line.department, read_line.task, read_line.version) == ("search", "ocr", "v2")
    assert request(line(upstream_cluster="x search:ocr"), **own).department == "default"
    assert request(line(), **own).task == "chat"


def test_without_a_prefix_the_task_is_the_service() -> None:
    assert request(line(upstream_cluster=cluster(task="a")), service_prefix="").task == "service-a"


@pytest.mark.parametrize(("host", "replica"), [*cluster_names.HOSTS, ("-", None), (None, None), ("", None)])
def test_the_upstream_host_is_the_replica(host: str | None, replica: str | None) -> None:
    assert request(line(upstream_host=host)).replica == replica


def test_half_a_surrogate_pair_reads_as_a_question_mark() -> None:
    assert request(with_json("upstream_host", r'"a\ud800b"')).replica == "a?b"
    assert request(with_json("upstream_host", r'"\ud83d\ude00"')).replica == "😀"


# Forged input.


def test_a_user_agent_that_carries_quotes_and_a_second_taskid_changes_nothing() -> None:
    forged = line(
        user_agent='x","taskid":"victim","upstream_cluster":"outbound|80||victim.bank","duration":"9'
    )
    assert request(forged) == request(line())


def test_a_taskid_header_never_moves_a_request() -> None:
    assert request(line(taskid="victim")) == request(line())
    assert request(unrouted(taskid="victim")).task == "__unrouted__"


@pytest.mark.parametrize(("wrapped", "counted"), ENVELOPES)
def test_a_line_in_an_envelope_is_a_request(wrapped: bytes, counted: bool) -> None:
    assert isinstance(found(wrapped), Request) == counted
