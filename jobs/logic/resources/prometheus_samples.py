"""Samples in the form of the Prometheus Kafka adapter, and the selection of series."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import translate
from typing import Any

import orjson

NAME = "__name__"
_LAST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last timestamp that can be written."""


class BadSeries(ValueError):
    """An invalid series. The message gives the reason."""


class Wanted:
    """The selection of series by name, and of their labels."""

    def __init__(self, names: Iterable[str], drop_labels: Sequence[str]) -> None:
        """names: globs of metrics' names. drop_labels: regular expressions, each of a whole label's name."""
        self._names = re.compile("|".join(translate(name) for name in names) or r"(?!)")
        self._drop = re.compile("|".join(f"(?:{label})" for label in drop_labels) or r"(?!)")
        self._known: dict[str, bool] = {}

    def takes(self, name: str) -> bool:
        """Whether a metric is selected."""
        found = self._known.get(name)
        if found is None:
            found = self._names.fullmatch(name) is not None
            if len(self._known) < 100_000:  # the sender chooses the names
                self._known[name] = found
        return found

    def keeps(self, name: str) -> bool:
        """Whether a label of this name stays. The metric's name always does."""
        return name == NAME or not self._drop.fullmatch(name)


def labels_of(pairs: Iterable[tuple[bytes, bytes]] | None, keeps: Callable[[str], bool]) -> dict[str, str]:
    """A series' labels that stay, with names as Prometheus 3 allows them: any UTF-8 but the empty one.

    keeps: whether a label stays; one that doesn't is not checked. Raises BadSeries.
    """
    if pairs is None:
        raise BadSeries("labels_refs: an odd number of references, or one beyond the end of symbols")
    labels: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name = raw_name.decode(errors="backslashreplace")
        if not keeps(name):
            continue
        try:
            raw_name.decode()
            value = raw_value.decode()
        except UnicodeDecodeError as error:
            raise BadSeries(f"label {name[:80]!r} is not valid UTF-8, in its name or its value") from error
        if not name:
            raise BadSeries("a label has an empty name")
        if name in labels:
            raise BadSeries(f"label {name[:80]!r} is given twice")
        labels[name] = value
    if not labels.get(NAME):
        raise BadSeries(f"no label {NAME}")
    return labels


def message_of(labels: Mapping[str, str], value: float, at_ms: int) -> bytes:
    """The JSON of one sample. Raises BadSeries for a timestamp out of range."""
    if not 0 <= at_ms <= _LAST_MS:
        raise BadSeries(f"timestamp {at_ms} ms is out of range")
    return orjson.dumps(
        {"timestamp": _moment(at_ms), "value": number_text(value), "name": labels[NAME], "labels": labels}
    )


def number_text(value: float) -> str:
    """A number as Go formats it: NaN, +Inf, -Inf; an integer without a fraction."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def pod_of(labels: Mapping[str, Any]) -> str:
    """The partition key of a series: its pod's namespace and name, else the metric's name."""
    pod = labels.get("exported_pod") or labels.get("pod")
    namespace = labels.get("exported_namespace") or labels.get("namespace")
    return f"{namespace}/{pod}" if pod else str(labels.get(NAME))


def _moment(at_ms: int) -> str:
    seconds, ms = divmod(at_ms, 1000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{ms:03}Z" if ms else f"{text}Z"
