"""Reads OTLP log records as lines. Pure.

The body may be the line itself as JSON, or the keys are attributes (Envoy's and Istio's OpenTelemetry access loggers)
or the body's own keys.
"""

from __future__ import annotations

from typing import Any

from tidegate.adapters.receiving.lines import line_of
from tidegate.jobs.logic.logs.envelopes import opened


def lines_of_request(request: Any) -> list[bytes]:
    """The line of each record of an ExportLogsServiceRequest, in order."""
    return [
        _line(record)
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def _line(record: Any) -> bytes:
    kind = record.body.WhichOneof("value")
    if kind == "string_value" and (text := opened(record.body.string_value.strip().encode())).startswith(
        b"{"
    ):
        return text
    values = {pair.key: _value(pair.value) for pair in record.attributes}
    if kind == "kvlist_value":
        values |= {pair.key: _value(pair.value) for pair in record.body.kvlist_value.values}
    if not values and kind == "string_value":
        return str(
            record.body.string_value
        ).encode()  # a line of a text format: the job's dead letter shows it
    return line_of(values)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    if kind == "bytes_value":
        return value.bytes_value.decode("utf-8", "replace")
    return None if kind is None else getattr(value, kind)
