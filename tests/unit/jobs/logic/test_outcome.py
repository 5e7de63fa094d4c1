"""The outcome of one line, held to the oracle's."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings

from tests.oracle import OracleSettings, Request, raw_lines, read
from tests.support.lines import grpc, line, rate_limited, tcp, unrouted, upgraded
from tests.support.strategies import odd_lines, ordinary_lines
from tidegate.jobs.logic.outcome import outcome_of
from tidegate.schemas.response_flags import RESPONSE_FLAGS


def agrees(value: bytes) -> bool:
    """Whether the oracle says the same; of a line that it can't read there is nothing to say."""
    found = read(raw_lines([value])[0], OracleSettings())
    return not isinstance(found, Request) or outcome_of(json.loads(value)) == str(found.outcome)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(ordinary_lines() | odd_lines())
def test_a_line_has_the_outcome_that_the_oracle_gives_it(value: bytes) -> None:
    assert agrees(value)


@pytest.mark.parametrize("flag", [form for flag in RESPONSE_FLAGS for form in (flag.short, flag.long)])
def test_every_flag_gives_the_oracles_outcome(flag: str) -> None:
    for code in (0, 200, 404, 503):
        assert agrees(line(response_code=code, response_flags=flag).encode())


@pytest.mark.parametrize(
    "status",
    [*range(18), "14", None, "OK", "Unavailable", "DATA_LOSS", "Canceled", "CANCELLED", "unavailable", "Ok"],
)
def test_every_grpc_status_gives_the_oracles_outcome(status: int | str | None) -> None:
    assert agrees(grpc(grpc_status=status).encode())


@pytest.mark.parametrize("value", [line(), rate_limited(), unrouted(), upgraded()])
def test_a_request_has_an_outcome(value: str) -> None:
    assert outcome_of(json.loads(value)) is not None


def test_what_is_no_request_has_none() -> None:
    assert outcome_of(json.loads(tcp())) is None
    assert outcome_of(json.loads(line(extra={"access_log_type": "DownstreamPeriodic"}))) is None
    ended = line(method=None, protocol=None, response_code=0, extra={"access_log_type": "TcpConnectionEnd"})
    assert outcome_of(json.loads(ended)) is None
