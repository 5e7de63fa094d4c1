"""Current values of departments, tasks, versions or replicas: the newest whole seconds, merged exactly. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tidegate.jobs.logic.latency import Latencies
from tidegate.ui.series import SPAN_SECONDS

Json = Mapping[str, Any]
Names = tuple[str, str | None, str | None, str | None]
"""Department, task, version, replica."""


@dataclass
class Group:
    """Rows of some seconds, merged: counts added, latencies by their histograms."""

    requests: int = 0
    errors_4xx: int = 0
    errors_5xx: int = 0
    aborted: int = 0
    rate_limited: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    flags: dict[str, int] = field(default_factory=dict)
    latencies: Latencies = field(default_factory=Latencies)
    first_bytes: Latencies = field(default_factory=Latencies)
    grpc_status: dict[str, int] = field(default_factory=dict)
    exemplar: Json | None = None
    in_flight_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    def add(self, row: Json) -> None:
        """One more row."""
        self.requests += row["requests"]
        self.errors_4xx += row["errors_4xx"]
        self.errors_5xx += row["errors_5xx"]
        self.aborted += row["aborted"]
        self.rate_limited += row["rate_limited"]
        self.bytes_received += row["bytes_received"]
        self.bytes_sent += row["bytes_sent"]
        for flag, count in row["response_flags"].items():
            self.flags[flag] = self.flags.get(flag, 0) + count
        for status, count in row.get("grpc_status", {}).items():
            self.grpc_status[status] = self.grpc_status.get(status, 0) + count
        exemplar = row.get("exemplar")
        if exemplar and (self.exemplar is None or exemplar["latency_ms"] > self.exemplar["latency_ms"]):
            self.exemplar = exemplar
        self.latencies.add_row(row)
        self.first_bytes.add_first_bytes(row)
        if row.get("concurrency") is not None:
            self.in_flight_seconds = (self.in_flight_seconds or 0.0) + row["concurrency"] * SPAN_SECONDS[
                row["span"]
            ]
        self.input_tokens = _sum(self.input_tokens, row.get("input_tokens"))
        self.output_tokens = _sum(self.output_tokens, row.get("output_tokens"))

    def as_json(self, seconds: int) -> dict[str, Any]:
        """The values for the page: null where nothing is known, such as a ratio without a request."""
        return {
            "qps": self.requests / seconds,
            "p50_ms": self.latencies.percentile_ms(50),
            "p99_ms": self.latencies.percentile_ms(99),
            "max_ms": self.latencies.highest_ms,
            "errors_4xx": self.errors_4xx,
            "errors_5xx": self.errors_5xx,
            "aborted": self.aborted,
            "rate_limited": self.rate_limited,
            "error_rate": (self.errors_5xx + self.aborted) / self.requests if self.requests else None,
            "rate_limited_ratio": self.rate_limited / self.requests if self.requests else None,
            "bytes_received_per_second": self.bytes_received / seconds,
            "bytes_sent_per_second": self.bytes_sent / seconds,
            "flags": self.flags,
            "grpc_status": self.grpc_status,
            "exemplar": self.exemplar,
            "first_byte_p50_ms": self.first_bytes.percentile_ms(50),
            "first_byte_p99_ms": self.first_bytes.percentile_ms(99),
            "concurrency": _per_second(self.in_flight_seconds, seconds),
            "input_tokens_per_second": _per_second(self.input_tokens, seconds),
            "output_tokens_per_second": _per_second(self.output_tokens, seconds),
        }


def _sum(known: int | None, more: int | None) -> int | None:
    return known if more is None else (known or 0) + more


def _per_second(total: float | None, seconds: int) -> float | None:
    return None if total is None else total / seconds


def groups(rows: Iterable[Json]) -> dict[Names, Group]:
    """The rows of each department, task, version or replica, merged."""
    found: dict[Names, Group] = {}
    for row in rows:
        found.setdefault(names_of(row), Group()).add(row)
    return found


def names_of(row: Json) -> Names:
    """The names that identify the row's subject."""
    return row["department"], row["task"], row["version"], row["replica"]
