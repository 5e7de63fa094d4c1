"""Access-log lines from values by key: the keys and types of the file that the shipped settings write. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from tidegate.schemas.access_log import ACCESS_LOG_FORMAT

_NUMBER_OPERATORS = (
    "%DURATION%",
    "%RESPONSE_CODE%",
    "%BYTES_RECEIVED%",
    "%BYTES_SENT%",
    "%GRPC_STATUS_NUMBER%",
    "%RESPONSE_DURATION%",
    "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
)
NUMBER_KEYS = frozenset(key for key, operator in ACCESS_LOG_FORMAT.items() if operator in _NUMBER_OPERATORS)
"""The keys whose values Envoy writes to a file as JSON numbers."""
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
_UNKNOWN = (None, "", "-")


def line_of(values: Mapping[str, Any]) -> bytes:
    """The line of these values: each key of the format, null where it is unknown, then the other keys."""
    others = [key for key in values if key not in ACCESS_LOG_FORMAT]
    record = {key: _value(key, values.get(key)) for key in (*ACCESS_LOG_FORMAT, *others)}
    return orjson.dumps(record)


def _value(key: str, value: Any) -> Any:
    # Envoy writes "-" for no flags, also to a file.
    if key == "response_flags":
        return "-" if value in _UNKNOWN else value
    if isinstance(value, str) and value in _UNKNOWN:
        return None
    if key in NUMBER_KEYS and isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    return value
