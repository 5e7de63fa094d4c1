"""One line of the access log: dead, skipped, or a request with its identity and outcome."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from tests.oracle.envelopes import unwrapped
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

UNROUTED = "__unrouted__"
OVERFLOW = "__overflow__"
DEFAULT_DEPARTMENT = "default"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


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
    """A line of a periodic log."""


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


def read(line: RawLine, settings: OracleSettings) -> Request | Dead | Skipped:
    """What a line is, late or not."""
    try:
        fields = strict_json(unwrapped(line.value or b""))
    except Unreadable as error:
        return Dead(Reason.JSON, str(error))
    if not isinstance(fields, dict):
        return Dead(Reason.JSON, "not an object")
    if text(fields.get("access_log_type")) not in (None, "DownstreamEnd"):
        return Skipped()
    return _request(fields, line.timestamp_ms, settings)


def _request(fields: dict[str, Any], timestamp_ms: int | None, settings: OracleSettings) -> Request | Dead:
    try:
        start_ms = epoch_ms(fields.get("start_time"))
    except Unreadable as error:
        return Dead(Reason.START_TIME, str(error))
    try:
        duration = milliseconds(fields.get("duration"))
    except Unreadable as error:
        return Dead(Reason.DURATION, str(error))
    event_ms = start_ms + (int(duration) if duration is not None else 0)
    if timestamp_ms is not None and event_ms > timestamp_ms + settings.max_ahead_ms:
        return Dead(Reason.START_TIME, "in the future")
    department, task, version = identity(text(fields.get("upstream_cluster")), settings)
    flags = response_flags(text(fields.get("response_flags")))
    return Request(
        event_ms=event_ms,
        department=department,
        task=task,
        version=version,
        replica=text(fields.get("upstream_host")),
        outcome=outcome(
            whole_number(fields.get("response_code")), flags, text(fields.get("response_code_details"))
        ),
        duration_us=microseconds(duration) if duration is not None else None,
        upstream_service_time_us=_upstream_us(fields.get("upstream_service_time")),
        flags=flags,
        bytes_received=_count(fields.get("bytes_received")),
        bytes_sent=_count(fields.get("bytes_sent")),
    )


def identity(cluster: str | None, settings: OracleSettings) -> tuple[str, str, str | None]:
    """Department, task and version (or None) that the gateway's choice of cluster means."""
    if cluster is None:
        return UNROUTED, UNROUTED, None
    parts = cluster.split("|")
    if len(parts) == 4 and parts[0] == "outbound":
        _, _, subset, host = parts
        labels = host.split(".")
        if len(labels) >= 2 and labels[0] and labels[1]:
            service, namespace = labels[0], labels[1]
            task = service.removeprefix(settings.service_prefix) or service
            department = settings.departments.get(namespace, namespace)
            return _name(department), _name(task), _name(subset) if subset else None
    return DEFAULT_DEPARTMENT, _name(cluster), None


def _name(name: str) -> str:
    return name if _NAME.fullmatch(name) else OVERFLOW


def response_flags(joined: str | None) -> frozenset[str]:
    """The flags of a line, each once."""
    return frozenset(flag.strip(" ") for flag in (joined or "").split(",")) - {"", "-"}


def outcome(code: int | None, flags: frozenset[str], details: str | None) -> Outcome:
    """The first outcome that fits; an unknown code is no error."""
    if "RL" in flags or details == "local_rate_limited":
        return Outcome.RATE_LIMITED
    if code == 0:
        return Outcome.ABORTED
    if code is not None and 500 <= code <= 599:
        return Outcome.ERROR_5XX
    if code is not None and 400 <= code <= 499:
        return Outcome.ERROR_4XX
    return Outcome.OK


def _upstream_us(value: Any) -> int | None:
    try:
        span = milliseconds(value)
    except Unreadable:
        return None
    return microseconds(span) if span is not None else None


def _count(value: Any) -> int:
    return max(whole_number(value) or 0, 0)
