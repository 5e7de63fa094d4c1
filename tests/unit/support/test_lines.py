"""The builders and strategies give what they promise: a test that draws no odd line would prove nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.oracle import Dead, OracleSettings, RawLine, Request, Skipped, raw_lines, read
from tests.support.lines import line, rate_limited, record
from tests.support.strategies import any_lines, streams
from tidegate.schemas.access_log import ACCESS_LOG_FORMAT


def test_a_line_has_the_keys_of_the_access_log() -> None:
    assert json.loads(line()).keys() == ACCESS_LOG_FORMAT.keys()
    assert json.loads(rate_limited()).keys() == ACCESS_LOG_FORMAT.keys()


def test_a_test_changes_only_what_it_names() -> None:
    usual, changed = record(), record(duration=7)
    assert {key for key in usual if usual[key] != changed[key]} == {"duration"}


def test_a_misspelt_field_is_refused() -> None:
    with pytest.raises(TypeError, match="duratoin"):
        line(duratoin=12)
    with pytest.raises(TypeError, match="star_time"):
        line(absent=["star_time"])


def test_a_line_can_lack_a_key_and_have_others() -> None:
    assert "duration" not in json.loads(line(absent=["duration"]))
    assert json.loads(line(extra={"access_log_type": "TcpPeriodic"}))["access_log_type"] == "TcpPeriodic"


@pytest.mark.parametrize("size", [1500, 4000, 100_000])
def test_a_line_grows_to_a_size_and_stays_the_same_request(size: int) -> None:
    grown = line(size=size)
    assert size <= len(grown.encode()) <= size + 30
    small, large = (read(raw, OracleSettings()) for raw in raw_lines([line(), grown]))
    assert small == large


def traits(value: bytes) -> set[str]:
    """What a drawn line is an example of."""
    found = read(raw_lines([value])[0], OracleSettings())
    bytes_hold = {
        "empty": not value,
        "deep or long": len(value) > 9000,
        "a repeated key": value.count(b'"duration":') > 1,
        "a NaN": b'"duration":NaN' in value,
    }
    if isinstance(found, Dead):
        return {f"dead: {found.reason}"} | {trait for trait, holds in bytes_hold.items() if holds}
    if isinstance(found, Skipped):
        return {"tcp" if found.tcp else "skipped"}
    replica = found.replica or ""
    request_holds = {
        "an unknown duration": found.duration_us is None,
        "a fraction of a ms": found.duration_us is not None and found.duration_us % 1000 != 0,
        "no replica": found.replica is None,
        "a folded task": found.task == "__overflow__",
        "a folded department": found.department == "__overflow__",
        "a folded version": found.version == "__overflow__",
        "unrouted": found.department == "__unrouted__",
        "another cluster": found.department == "default",
        "many flags": len(found.flags) > 100,
        "a NUL in a name": "\x00" in replica,
        "half a surrogate pair": "?" in replica,
        "a long name": len(replica) > 1000,
        "a gRPC call": found.grpc_status is not None,
        "an upgrade": found.upgraded,
        "a first byte": found.first_byte_us is not None,
        "tokens": found.output_tokens is not None,
        "retries": bool(found.retries),
        "no request id": found.request_id is None,
        "no trace": found.trace_id is None,
    }
    return {str(found.outcome)} | {trait for trait, holds in (bytes_hold | request_holds).items() if holds}


EVERY_TRAIT = {
    *("empty", "deep or long", "a repeated key", "a NaN"),
    *("dead: not JSON", "dead: start_time", "dead: duration", "skipped", "tcp"),
    *("a gRPC call", "an upgrade", "a first byte", "tokens", "retries", "no request id", "no trace"),
    *("an unknown duration", "a fraction of a ms", "no replica", "a NUL in a name"),
    *("a folded task", "a folded department", "a folded version", "unrouted", "another cluster"),
    *("many flags", "half a surrogate pair", "a long name"),
    *("ok", "errors_4xx", "errors_5xx", "aborted", "rate_limited"),
}


@pytest.mark.slow
def test_the_strategies_reach_every_kind_of_line() -> None:
    seen: set[str] = set()

    @settings(
        max_examples=5000,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(any_lines())
    def draw(value: bytes) -> None:
        seen.update(traits(value))

    draw()
    assert seen == EVERY_TRAIT


def test_streams_put_lines_into_shared_groups_and_several_partitions() -> None:
    shared, partitions = [], []

    @settings(max_examples=50, derandomize=True, deadline=None, database=None, phases=[Phase.generate])
    @given(streams())
    def draw(stream: list[RawLine]) -> None:
        requests = [found for raw in stream if isinstance(found := read(raw, OracleSettings()), Request)]
        groups = {(found.event_ms // 1000, found.department, found.task, found.replica) for found in requests}
        shared.append(len(requests) - len(groups))
        partitions.append(len({raw.position.partition for raw in stream}))

    draw()
    assert max(shared) > 3
    assert max(partitions) == 3
