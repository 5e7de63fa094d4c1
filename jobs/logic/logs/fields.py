"""The fields of a service's log record: time, severity, request id, trace and span id. Pure.

Severities are OpenTelemetry's short names. No field is guessed: an unrecognized one is None.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson

from tidegate.schemas.timestamps import from_log_text

Severity = Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]

_SEVERITIES: Mapping[str, Severity] = {
    "trace": "TRACE",
    "debug": "DEBUG",
    "info": "INFO",
    "notice": "INFO",
    "information": "INFO",
    "warn": "WARN",
    "warning": "WARN",
    "error": "ERROR",
    "err": "ERROR",
    "severe": "ERROR",
    "critical": "FATAL",
    "crit": "FATAL",
    "fatal": "FATAL",
    "panic": "FATAL",
    "emerg": "FATAL",
    "alert": "FATAL",
}
_HEAD_CHARACTERS = 200
"""A severity is at a record's beginning; further on the word is part of the message."""
_SEVERITY = re.compile(
    r"(?<![\w/.-])(TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|SEVERE|CRITICAL|FATAL|PANIC"
    r"|(?:level|severity|lvl)[=:]\s*\"?[A-Za-z]+)(?![\w/.-])"
)
_KLOG = re.compile(r"([IWEF])(\d\d)(\d\d) (\d\d:\d\d:\d\d\.\d+)\b")
_KLOG_SEVERITIES: Mapping[str, Severity] = {"I": "INFO", "W": "WARN", "E": "ERROR", "F": "FATAL"}
_TIME_WITHIN = 64
"""Some loggers write the severity or their name before the time."""
_TRACEPARENT = re.compile(r"\b[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\b")
_TRACE_ID = re.compile(r"\btrace[-_. ]?id\W{1,4}([0-9a-f]{32}|[0-9a-f]{16})\b", re.IGNORECASE)
_SPAN_ID = re.compile(r"\bspan[-_. ]?id\W{1,4}([0-9a-f]{16})\b", re.IGNORECASE)
_REQUEST_ID = re.compile(
    r"\b(?:x[-_])?(?:request|req|correlation)[-_. ]?id[\"'\]]?\s{0,2}[=:]?\s{0,2}[\"'\[(]?"
    r"([A-Za-z0-9][A-Za-z0-9._-]{7,127})",
    re.IGNORECASE,
)
_ERROR_LINE = re.compile(
    r"^(?:Traceback \(most recent call last\):|(?:[A-Za-z_$][\w$]*\.)*[A-Z][\w$]*(?:Exception|Error)(?::|$))",
    re.MULTILINE,
)
_TIME_KEYS = ("timestamp", "@timestamp", "time", "ts", "asctime", "date")
_SEVERITY_KEYS = ("severity", "severity_text", "level", "levelname", "lvl", "log.level")
_REQUEST_KEYS = (
    "request_id",
    "requestId",
    "requestID",
    "request-id",
    "x-request-id",
    "x_request_id",
    "req_id",
)
_TRACE_KEYS = ("trace_id", "traceId", "traceID", "trace.id", "otelTraceID", "dd.trace_id")
_SPAN_KEYS = ("span_id", "spanId", "spanID", "span.id", "otelSpanID")
_EPOCH_SECONDS_BELOW = 100_000_000_000
_AHEAD = timedelta(days=1)


@dataclass(frozen=True)
class LogFields:
    """The fields of a record. time: UTC. A missing field is None."""

    time: datetime | None = None
    severity: Severity | None = None
    request_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None


def fields_of(text: str, now: datetime) -> LogFields:
    """The fields of a record. now: for times without a year; a time without a zone is UTC."""
    if text.startswith("{"):
        try:
            fields = orjson.loads(text)
        except orjson.JSONDecodeError:
            fields = None
        if isinstance(fields, dict):
            return _of_json(fields, text)
    return _of_text(text, now)


def _of_json(fields: Mapping[str, Any], text: str) -> LogFields:
    found = _ids(text)
    request_id, trace_id, span_id = (
        _first(fields, keys) for keys in (_REQUEST_KEYS, _TRACE_KEYS, _SPAN_KEYS)
    )
    severity = _first(fields, _SEVERITY_KEYS)
    return replace(
        found,
        time=_time_of(next((fields[key] for key in _TIME_KEYS if key in fields), None)),
        severity=None if severity is None else _SEVERITIES.get(severity.lower()),
        request_id=request_id or found.request_id,
        trace_id=trace_id or found.trace_id,
        span_id=span_id or found.span_id,
    )


def _of_text(text: str, now: datetime) -> LogFields:
    found = _ids(text)
    klog = _KLOG.match(text)
    if klog is not None:
        return replace(found, time=_klog_time(klog, now), severity=_KLOG_SEVERITIES[klog[1]])
    return replace(found, time=from_log_text(text, _TIME_WITHIN), severity=_severity_of(text))


def _ids(text: str) -> LogFields:
    parent = _TRACEPARENT.search(text)
    trace, span = _TRACE_ID.search(text), _SPAN_ID.search(text)
    request = _REQUEST_ID.search(text)
    return LogFields(
        request_id=None if request is None else request[1].rstrip(".-"),
        trace_id=parent[1] if parent is not None else None if trace is None else trace[1].lower(),
        span_id=parent[2] if parent is not None else None if span is None else span[1].lower(),
    )


def _severity_of(text: str) -> Severity | None:
    head = text[:_HEAD_CHARACTERS].partition("\n")[0]
    found = _SEVERITY.search(head)
    if found is not None:
        word = re.split(r"[=:\s\"]+", found[1])[-1].lower()
        if word in _SEVERITIES:
            return _SEVERITIES[word]
    return "ERROR" if _ERROR_LINE.search(text) else None


def _first(fields: Mapping[str, Any], keys: tuple[str, ...]) -> str | None:
    for key in keys:
        value = fields.get(key)
        if isinstance(value, str) and value:
            return value
    return None


def _time_of(value: Any) -> datetime | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value if value < _EPOCH_SECONDS_BELOW else value / 1000
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):
            return None
    return from_log_text(value) if isinstance(value, str) else None


def _klog_time(found: re.Match[str], now: datetime) -> datetime | None:
    """klog writes no year: the newest matching day that isn't in the future."""
    for year in (now.year + 1, now.year, now.year - 1):
        moment = _time_of(f"{year}-{found[2]}-{found[3]} {found[4]}")
        if moment is not None and moment <= now + _AHEAD:
            return moment
    return None
