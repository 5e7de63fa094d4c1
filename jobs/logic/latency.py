"""Percentiles of merged latency histograms, by the contract: nearest rank, never outside the values' own extremes.

The histogram is OpenTelemetry's base-2 exponential one at scale 5: bucket i holds (g^i, g^(i+1)] ms with g = 2^(1/32).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

GROWTH = 2 ** (1 / 32)


@dataclass
class Latencies:
    """The latencies of some requests, merged from rows. lowest_ms, highest_ms: None without latencies."""

    count: int = 0
    zero: int = 0
    buckets: dict[int, int] = field(default_factory=dict)
    lowest_ms: float | None = None
    highest_ms: float | None = None

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Add a service-metrics row, as parsed JSON. Raises KeyError, TypeError or ValueError if it is invalid."""
        if row["latency_count"]:
            self._add_times(row, "latency", row["histogram"])

    def add_first_bytes(self, row: Mapping[str, Any]) -> None:
        """Add a row's times to the first byte instead; a row of 0.1.0 has none. Raises as add_row."""
        if row.get("first_byte_count"):
            self._add_times(row, "first_byte", row["first_byte_histogram"])

    def add(self, other: Latencies) -> None:
        """Add those of another object."""
        if other.lowest_ms is not None and other.highest_ms is not None:
            self._add(other.count, other.zero, other.buckets, other.lowest_ms, other.highest_ms)

    def percentile_ms(self, percent: float) -> float | None:
        """The nearest-rank percentile, off by 1.1 % at most; None without latencies."""
        total = self.zero + sum(self.buckets.values())
        if not total or self.lowest_ms is None or self.highest_ms is None:
            return None
        rank = max(1, math.ceil(percent / 100 * total))
        value, passed = 0.0, self.zero
        if rank > self.zero:
            for index in sorted(self.buckets):
                passed += self.buckets[index]
                value = bucket_middle_ms(index)
                if passed >= rank:
                    break
        return min(max(value, self.lowest_ms), self.highest_ms)

    def _add_times(self, row: Mapping[str, Any], name: str, histogram: Mapping[str, Any]) -> None:
        self._add(
            int(row[f"{name}_count"]),
            int(histogram["zero"]),
            {int(index): count for index, count in histogram["buckets"].items()},
            float(row[f"{name}_min_ms"]),
            float(row[f"{name}_max_ms"]),
        )

    def _add(
        self, count: int, zero: int, buckets: Mapping[int, int], lowest_ms: float, highest_ms: float
    ) -> None:
        self.count += count
        self.zero += zero
        for index, more in buckets.items():
            self.buckets[index] = self.buckets.get(index, 0) + more
        self.lowest_ms = lowest_ms if self.lowest_ms is None else min(self.lowest_ms, lowest_ms)
        self.highest_ms = highest_ms if self.highest_ms is None else max(self.highest_ms, highest_ms)


def bucket_middle_ms(index: int) -> float:
    """The value of a bucket with the same relative distance to both of its bounds."""
    return float(2 * GROWTH ** (index + 1) / (1 + GROWTH))
