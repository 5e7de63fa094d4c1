"""The outcome of a request by its line of the access log, as the job counts it.

The job computes the same in the JVM (`jobs/java/Outcome.java`); this is for what handles lines one by one. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tidegate.schemas.response_flags import OUTCOME_OF_FLAG, Outcome

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_MOST_CHARACTERS = 40
_CANCELLED = 1
_GRPC_SERVER_ERRORS = frozenset({2, 4, 12, 13, 14, 15})
"""OpenTelemetry's semantic conventions for gRPC servers."""
_MAX_GRPC_STATUS = 16
_GRPC_NAMES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
_GRPC_STATUSES = (
    {name: status for status, name in enumerate(_GRPC_NAMES)}
    | {name.title().replace("_", ""): status for status, name in enumerate(_GRPC_NAMES)}
    | {"Canceled": _CANCELLED, "CANCELED": _CANCELLED}
)
"""The names that Envoy's `%GRPC_STATUS%` writes, in snake and camel case."""


def outcome_of(line: Mapping[str, Any]) -> Outcome | None:
    """The outcome of a request, the first that fits; None for a line that is no request (periodic, or of TCP)."""
    code = _whole(line.get("response_code"))
    if not _is_request(line, code):
        return None
    flags = (_text(line.get("response_flags")) or "").split(",")
    by_flags = {OUTCOME_OF_FLAG.get(flag.strip(" ")) for flag in flags}
    details = _text(line.get("response_code_details")) or ""
    status = grpc_status_of(line.get("grpc_status"))
    if "rate_limited" in by_flags or "rate_limited" in details or details == "rate_limiter_error":
        return "rate_limited"
    if code == 0 or "aborted" in by_flags or status == _CANCELLED:
        return "aborted"
    if _is_in_class(code, 5) or "errors_5xx" in by_flags or status in _GRPC_SERVER_ERRORS:
        return "errors_5xx"
    if _is_in_class(code, 4) or status not in (None, 0):
        return "errors_4xx"
    return "ok"


def _is_request(line: Mapping[str, Any], code: int | None) -> bool:
    if _text(line.get("access_log_type")) not in (None, "DownstreamEnd", "TcpConnectionEnd"):
        return False
    is_http = _text(line.get("method")) is not None or _text(line.get("protocol")) is not None
    return is_http or code not in (None, 0)


def grpc_status_of(value: object) -> int | None:
    """A gRPC status by its number, or by a name that Envoy writes; None for anything else."""
    named = _GRPC_STATUSES.get(value.strip(" ")) if isinstance(value, str) else None
    status = _whole(value) if named is None else named
    return status if status is not None and 0 <= status <= _MAX_GRPC_STATUS else None


def _is_in_class(code: int | None, hundreds: int) -> bool:
    return code is not None and code // 100 == hundreds


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip(" ") not in ("", "-") else None


def _whole(value: object) -> int | None:
    """A whole number, or a text that is one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip(" ")
    if len(text) > _MOST_CHARACTERS or not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else None
