"""One sample in the form of the Prometheus Kafka adapter, from a series' labels; and which series are wanted."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import translate
from typing import Any

import orjson

NAME = "__name__"
_LAST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z: no timestamp can be written after it."""
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class BadSeries(ValueError):
    """A series that is none. The message says why."""


class Wanted:
    """Which series are taken, and which of their labels are left out."""

    def __init__(self, names: Iterable[str], drop_labels: Sequence[str]) -> None:
        """names: globs of metrics' names. drop_labels: regular expressions, each of a whole label's name."""
        self._names = re.compile("|".join(translate(name) for name in names) or r"(?!)")
        self._drop = re.compile("|".join(f"(?:{label})" for label in drop_labels) or r"(?!)")
        self._known: dict[str, bool] = {}

    def takes(self, name: str) -> bool:
        """Whether a metric is wanted."""
        found = self._known.get(name)
        if found is None:
            found = self._names.fullmatch(name) is not None
            if len(self._known) < 100_000:  # whoever writes chooses the names
                self._known[name] = found
        return found

    def kept(self, labels: Mapping[str, str]) -> dict[str, str]:
        """The labels that stay. The name always does."""
        return {
            name: value for name, value in labels.items() if name == NAME or not self._drop.fullmatch(name)
        }


def labels_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A series' labels. Raises BadSeries for labels that no Prometheus sends."""
    labels: dict[str, str] = {}
    for name, value in pairs:
        if not _LABEL_NAME.fullmatch(name):
            raise BadSeries(f"label name {name[:80]!r} is none")
        if name in labels:
            raise BadSeries(f"label {name} stands twice")
        labels[name] = value
    if not labels.get(NAME):
        raise BadSeries(f"no label {NAME}")
    return labels


def message_of(labels: Mapping[str, str], value: float, at_ms: int) -> bytes:
    """The JSON of one sample. Raises BadSeries for a moment that can't be written."""
    if not 0 <= at_ms <= _LAST_MS:
        raise BadSeries(f"timestamp {at_ms} ms is none")
    return orjson.dumps(
        {"timestamp": _moment(at_ms), "value": number_text(value), "name": labels[NAME], "labels": labels}
    )


def number_text(value: float) -> str:
    """As Go writes it: NaN, +Inf, -Inf; a whole number without a fraction."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def pod_of(labels: Mapping[str, Any]) -> str:
    """What keeps a pod's series together: its namespace and name, else the metric's name."""
    pod = labels.get("exported_pod") or labels.get("pod")
    namespace = labels.get("exported_namespace") or labels.get("namespace")
    return f"{namespace}/{pod}" if pod else str(labels.get(NAME))


def _moment(at_ms: int) -> str:
    seconds, ms = divmod(at_ms, 1000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{ms:03}Z" if ms else f"{text}Z"
