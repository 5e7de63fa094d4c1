"""The fields of every message of `prometheus.metrics`: labels, timestamp, value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.schemas.timestamps import from_text, to_epoch_ms


class BadSample(ValueError):
    """A sample in another form than the Prometheus adapter's. The message names the fault."""


def labels_of(raw: Any) -> Mapping[Any, Any]:
    """A message's labels. Raises BadSample."""
    if not isinstance(raw, Mapping) or not isinstance(labels := raw.get("labels"), Mapping):
        raise BadSample("not an object with labels")
    return labels


def value_of(raw: Mapping[Any, Any]) -> float:
    """The value, which may be NaN or infinite. Raises BadSample."""
    try:
        return float(raw["value"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadSample(f"value {raw.get('value')!r} is not a number") from error


def at_ms_of(raw: Mapping[Any, Any]) -> int:
    """The timestamp (epoch, ms). Raises BadSample."""
    try:
        return to_epoch_ms(from_text(raw["timestamp"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadSample(
            f"timestamp {raw.get('timestamp')!r} is not an ISO 8601 timestamp with a time zone"
        ) from error
