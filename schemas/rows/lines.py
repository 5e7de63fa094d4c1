"""Lines that tidegate carries but doesn't write: the gateway's access log, and the services' logs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from tidegate.schemas.access_log import ACCESS_LOG_FORMAT, ACCESS_LOG_TYPE
from tidegate.schemas.index_hints import FieldType, IndexAs
from tidegate.schemas.rows.base import Row
from tidegate.schemas.timestamps import Timestamp

ACCESS_LOG_NUMBERS = (
    "bytes_received",
    "bytes_sent",
    "duration",
    "grpc_status",
    "input_tokens",
    "output_tokens",
    "response_code",
    "response_duration",
    "upstream_request_attempt_count",
    "upstream_service_time",
)
"""The keys of the access log whose value is a number, a text that is a number, null, `"-"`, or absent."""

ACCESS_LOG_TIME = "start_time"
"""The key of the access log that holds when the request began."""

_UNITS = {
    "bytes_received": "bytes of the request's body",
    "bytes_sent": "bytes of the response's body",
    "duration": "ms from the request's first byte to the response's last",
    "grpc_status": "gRPC status of a gRPC call, 0 to 16",
    "input_tokens": "tokens of the prompt",
    "model": "the model that answered",
    "output_tokens": "tokens of the answer",
    "response_code": "HTTP status; 0 where the client left before an answer",
    "response_duration": "ms from the request's first byte to the response's first",
    "start_time": "when the request began, ISO 8601",
    "upstream_request_attempt_count": "attempts at an upstream, 0 where none was made",
    "upstream_service_time": "ms that the replica took",
}


def _access_log_line() -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for key, operator in (ACCESS_LOG_FORMAT | {"access_log_type": ACCESS_LOG_TYPE}).items():
        index_as: FieldType = "keyword"
        if key in ACCESS_LOG_NUMBERS:
            index_as = "long"
        elif key == ACCESS_LOG_TIME:
            index_as = "date"
        meaning = f"{_UNITS[key]}; " if key in _UNITS else ""
        fields[key] = (
            Annotated[int | float | str | None, IndexAs(index_as)],
            Field(default=None, description=f"{meaning}Envoy's {operator}"),
        )
    return create_model(
        "AccessLogLine",
        __config__=ConfigDict(frozen=True, extra="allow"),
        __doc__=(
            "One line of the gateway's JSON access log, untouched. Any value may be a number, a text that is "
            'a number, null, "-", or absent; the last three mean unknown. Other keys may stand beside these.'
        ),
        **fields,
    )


AccessLogLine = _access_log_line()
"""The access log's line as it may arrive: every known key, each in every form that real logs hold."""


class InferenceLogLine(Row):
    """One record of an inference service's log, with the stack trace below it (topic `inference.logs`)."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    timestamp: Timestamp | None = Field(
        None, description="the time in the record; null: it has none, and Kafka's time holds"
    )
    department: str
    task: str
    replica: str
    stream: str = Field(description="stdout, stderr, or the file's name")
    message: Annotated[str, IndexAs("text")]
    severity: str | None = Field(None, description="TRACE, DEBUG, INFO, WARN, ERROR or FATAL")
    request_id: str | None = None
    trace_id: str | None = Field(None, description="32 hex digits (W3C), or 16")
    span_id: str | None = None
