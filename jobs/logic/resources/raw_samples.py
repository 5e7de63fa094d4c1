"""What every message of `prometheus.metrics` has: labels, a moment, a number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidegate.schemas.timestamps import from_text, to_epoch_ms


class BadSample(ValueError):
    """A sample that isn't written as the Prometheus adapter writes them. The message says what is wrong."""


def labels_of(raw: Any) -> Mapping[Any, Any]:
    """A message's labels. Raises BadSample."""
    if not isinstance(raw, Mapping) or not isinstance(labels := raw.get("labels"), Mapping):
        raise BadSample("not an object with labels")
    return labels


def value_of(raw: Mapping[Any, Any]) -> float:
    """The number, which may be NaN or infinite. Raises BadSample."""
    try:
        return float(raw["value"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadSample(f"value {raw.get('value')!r} is no number") from error


def at_ms_of(raw: Mapping[Any, Any]) -> int:
    """The moment (epoch, ms). Raises BadSample."""
    try:
        return to_epoch_ms(from_text(raw["timestamp"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadSample(f"timestamp {raw.get('timestamp')!r} is none") from error
