"""One line of the access log: dead, skipped, or a request with its identity and outcome."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from tests.oracle.envelopes import unwrapped
from tests.oracle.identity import identity_of, replica
from tests.oracle.settings import OracleSettings
from tests.oracle.values import (
    Unreadable,
    epoch_ms,
    microseconds,
    milliseconds,
    strict_json,
    text,
    whole_number,
)


class Position(NamedTuple):
    """Where a line stands in Kafka."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True)
class RawLine:
    """A message of the access-log topic; without Kafka's timestamp the future is not looked for."""

    value: bytes | None
    position: Position
    timestamp_ms: int | None = None


def raw_lines(
    values: Iterable[str | bytes],
    partition: int = 0,
    topic: str = "gateway.access-logs",
    timestamp_ms: int | None = None,
) -> list[RawLine]:
    """Lines of one partition, with offsets 0, 1, 2, ..."""
    return [
        RawLine(
            value.encode() if isinstance(value, str) else value,
            Position(topic, partition, offset),
            timestamp_ms,
        )
        for offset, value in enumerate(values)
    ]


class Reason(StrEnum):
    """Which part of a dead line could not be read; a dead letter's reason starts with it."""

    JSON = "not JSON"
    START_TIME = "start_time"
    DURATION = "duration"

    @classmethod
    def of(cls, reason: str) -> Reason:
        """The class of a dead letter's reason: it names the field, or else it is about the JSON itself."""
        for field in (cls.START_TIME, cls.DURATION):
            if re.match(rf"{field}\b", reason):
                return field
        return cls.JSON


@dataclass(frozen=True)
class Dead:
    """A line that could not be read."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class Skipped:
    """A line that is no request: of a periodic log, or (tcp) of a TCP connection."""

    tcp: bool = False


class Outcome(StrEnum):
    """Each request has one; the first that fits, in this order."""

    RATE_LIMITED = "rate_limited"
    ABORTED = "aborted"
    ERROR_5XX = "errors_5xx"
    ERROR_4XX = "errors_4xx"
    OK = "ok"


@dataclass(frozen=True)
class Request:
    """A line that could be read. Unknown values are None."""

    event_ms: int
    department: str
    task: str
    version: str | None
    replica: str | None
    outcome: Outcome
    duration_us: int | None
    upstream_service_time_us: int | None
    flags: frozenset[str]
    bytes_received: int
    bytes_sent: int
    grpc_status: int | None = None
    upgraded: bool = False
    """101 or CONNECT: then both durations are None."""
    first_byte_us: int | None = None
    retries: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    request_id: str | None = None
    trace_id: str | None = None


def read(line: RawLine, settings: OracleSettings) -> Request | Dead | Skipped:
    """What a line is, late or not."""
    try:
        fields = strict_json(unwrapped(line.value or b""))
    except Unreadable as error:
        return Dead(Reason.JSON, str(error))
    if not isinstance(fields, dict):
        return Dead(Reason.JSON, "not an object")
    if text(fields.get("access_log_type")) not in (None, "DownstreamEnd", "TcpConnectionEnd"):
        return Skipped()
    return _request(fields, line.timestamp_ms, settings)


def _request(
    fields: dict[str, Any], timestamp_ms: int | None, settings: OracleSettings
) -> Request | Dead | Skipped:
    try:
        start_ms = epoch_ms(fields.get("start_time"))
    except Unreadable as error:
        return Dead(Reason.START_TIME, str(error))
    try:
        duration = milliseconds(fields.get("duration"))
    except Unreadable as error:
        return Dead(Reason.DURATION, str(error))
    code, method = whole_number(fields.get("response_code")), text(fields.get("method"))
    if method is None and text(fields.get("protocol")) is None and code in (None, 0):
        return Skipped(tcp=True)
    event_ms = start_ms + (int(duration) if duration is not None else 0)
    if timestamp_ms is not None and event_ms > timestamp_ms + settings.max_ahead_ms:
        return Dead(Reason.START_TIME, "in the future")
    department, task, version = identity_of(fields, settings)
    flags = response_flags(text(fields.get("response_flags")))
    grpc_status = _grpc_status(fields.get("grpc_status"))
    attempts = _known_count(fields.get("upstream_request_attempt_count"))
    upgraded = code == 101 or method == "CONNECT"
    return Request(
        event_ms=event_ms,
        department=department,
        task=task,
        version=version,
        replica=replica(text(fields.get("upstream_host"))),
        outcome=outcome(code, flags, text(fields.get("response_code_details")), grpc_status),
        duration_us=microseconds(duration) if duration is not None and not upgraded else None,
        upstream_service_time_us=_lenient_us(fields.get("upstream_service_time")),
        flags=flags,
        bytes_received=_count(fields.get("bytes_received")),
        bytes_sent=_count(fields.get("bytes_sent")),
        grpc_status=grpc_status,
        upgraded=upgraded,
        first_byte_us=None if upgraded else _lenient_us(fields.get("response_duration")),
        retries=None if attempts is None else max(attempts - 1, 0),
        input_tokens=_known_count(fields.get("input_tokens")),
        output_tokens=_known_count(fields.get("output_tokens")),
        request_id=_request_id(text(fields.get("request_id"))),
        trace_id=_trace_id(text(fields.get("traceparent"))),
    )


def response_flags(joined: str | None) -> frozenset[str]:
    """The flags of a line, each once."""
    return frozenset(flag.strip(" ") for flag in (joined or "").split(",")) - {"", "-"}


_LIMITED = {"RL", "RateLimited", "RLSE", "RateLimitServiceError"}
_LEFT = {"DC", "DownstreamConnectionTermination", "DR", "DownstreamRemoteReset"}
_FAILED = {
    *("LH", "FailedLocalHealthCheck", "UH", "NoHealthyUpstream", "UT", "UpstreamRequestTimeout"),
    *("LR", "LocalReset", "UR", "UpstreamRemoteReset", "UF", "UpstreamConnectionFailure"),
    *("UC", "UpstreamConnectionTermination", "UO", "UpstreamOverflow", "NR", "NoRouteFound"),
    *("FI", "FaultInjected", "URX", "UpstreamRetryLimitExceeded", "SI", "StreamIdleTimeout"),
    *("IH", "InvalidEnvoyRequestHeaders", "DPE", "DownstreamProtocolError"),
    *("UMSDR", "UpstreamMaxStreamDurationReached", "NFCF", "NoFilterConfigFound"),
    *("DT", "DurationTimeout", "UPE", "UpstreamProtocolError", "NC", "NoClusterFound"),
    *("OM", "OverloadManagerTerminated", "DF", "DnsResolutionFailed", "DO", "DropOverload"),
    *("UDO", "UnconditionalDropOverload"),
}
_CANCELLED, _SERVER_ERRORS = 1, {2, 4, 12, 13, 14, 15}
"""gRPC statuses; the others but 0 are the client's errors."""


def outcome(
    code: int | None, flags: frozenset[str], details: str | None, grpc_status: int | None = None
) -> Outcome:
    """The first outcome that fits; an unknown code is no error."""
    if flags & _LIMITED or "rate_limited" in (details or "") or details == "rate_limiter_error":
        return Outcome.RATE_LIMITED
    if code == 0 or flags & _LEFT or grpc_status == _CANCELLED:
        return Outcome.ABORTED
    if (code is not None and 500 <= code <= 599) or flags & _FAILED or grpc_status in _SERVER_ERRORS:
        return Outcome.ERROR_5XX
    if (code is not None and 400 <= code <= 499) or grpc_status not in (None, 0):
        return Outcome.ERROR_4XX
    return Outcome.OK


def _known_count(value: Any, most: int = 10**9) -> int | None:
    number = whole_number(value)
    return number if number is not None and 0 <= number <= most else None


_GRPC_NAMES = [
    *("Ok", "Cancelled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *(
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
    ),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
]


def _grpc_status(value: Any) -> int | None:
    """By number, or by name in camel case (`DataLoss`) or snake case (`DATA_LOSS`)."""
    name = (text(value) or "").strip(" ").replace("Canceled", "Cancelled").replace("CANCELED", "CANCELLED")
    for status, camel in enumerate(_GRPC_NAMES):
        if name in (camel, re.sub(r"(?<=[a-z])(?=[A-Z])", "_", camel).upper()):
            return status
    return _known_count(value, most=16)


def _request_id(given: str | None) -> str | None:
    """1 to 128 visible ASCII characters."""
    return given if given is not None and re.fullmatch(r"[!-~]{1,128}", given) else None


def _trace_id(traceparent: str | None) -> str | None:
    """The trace id of a W3C traceparent; one of zeros only is none."""
    form = r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}"
    found = re.fullmatch(form, traceparent or "")
    return found[1] if found and found[1].strip("0") else None


def _lenient_us(value: Any) -> int | None:
    try:
        span = milliseconds(value)
    except Unreadable:
        return None
    return microseconds(span) if span is not None else None


def _count(value: Any) -> int:
    return max(whole_number(value) or 0, 0)
