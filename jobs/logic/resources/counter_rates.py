"""A counter's increase in a window, from the samples around it.

Between two consecutive samples the increase is spread evenly over the time between them, and a window gets its share.
So windows that lie side by side add up to the whole, and no increase is lost or counted twice. As in Prometheus'
`rate()`: a value that fell is a reset and counts from zero; a series' first sample adds nothing; samples more than five
minutes apart have nothing to do with each other; a staleness marker ends the series. Where it differs: `rate()` uses
the samples within its range only and extrapolates to the range's ends; this interpolates with the samples just outside.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

LOOKBACK_MS = 5 * 60_000
"""Prometheus' default lookback: a sample is not used for longer."""

Sample = tuple[int, float]
"""Moment (epoch, ms) and value; NaN: the series ended there."""


@dataclass(frozen=True)
class Increase:
    """A counter's increase in a window, and the part of the window that samples cover."""

    amount: float = 0.0
    covered_ms: float = 0.0

    def __add__(self, other: Increase) -> Increase:
        return Increase(self.amount + other.amount, self.covered_ms + other.covered_ms)

    @property
    def per_second(self) -> float | None:
        """The rate over the covered part; None without one."""
        return 1000 * self.amount / self.covered_ms if self.covered_ms > 0 else None


def insert(samples: list[Sample], sample: Sample) -> bool:
    """Insert a sample in order. Returns False for a duplicate and for an infinite value."""
    if math.isinf(sample[1]):
        return False
    index = bisect_left(samples, sample[0], key=lambda one: one[0])
    if index < len(samples) and samples[index][0] == sample[0]:
        return False
    samples.insert(index, sample)
    return True


def increase(samples: Sequence[Sample], start_ms: int, end_ms: int) -> Increase:
    """The increase between two moments. samples: in order of time."""
    amount = covered_ms = 0.0
    for (before_ms, _), (after_ms, _), grown in _steps(samples):
        overlap_ms = min(after_ms, end_ms) - max(before_ms, start_ms)
        if overlap_ms > 0:
            amount += grown * overlap_ms / (after_ms - before_ms)
            covered_ms += overlap_ms
    return Increase(amount, covered_ms)


def covered(samples: Sequence[Sample], start_ms: int, end_ms: int) -> list[tuple[int, int]]:
    """The intervals between two moments over which the increase is known, in order."""
    found = (
        (max(before_ms, start_ms), min(after_ms, end_ms))
        for (before_ms, _), (after_ms, _), _ in _steps(samples)
    )
    return [(low_ms, high_ms) for low_ms, high_ms in found if low_ms < high_ms]


def together(series: Sequence[Sequence[Sample]], start_ms: int, end_ms: int) -> Increase:
    """The sum of the increases of several series, over the time that any of them covers."""
    amount = sum(increase(samples, start_ms, end_ms).amount for samples in series)
    covered_ms = until_ms = 0
    for low_ms, high_ms in sorted(one for samples in series for one in covered(samples, start_ms, end_ms)):
        covered_ms += max(0, high_ms - max(low_ms, until_ms))
        until_ms = max(until_ms, high_ms)
    return Increase(amount, float(covered_ms))


def jumps(samples: Sequence[Sample], start_ms: int, end_ms: int) -> float | None:
    """The increase as observed: of the samples within the window, without interpolation. For counts of rare events.

    None if no sample in the window has a predecessor.
    """
    found = [grown for _, (after_ms, _), grown in _steps(samples) if start_ms <= after_ms < end_ms]
    return sum(found) if found else None


def within(samples: Sequence[Sample], start_ms: int, end_ms: int) -> list[float]:
    """A gauge's values in a window; without one, the last value before that is no older than LOOKBACK_MS."""
    found = [value for at_ms, value in samples if start_ms <= at_ms < end_ms and not math.isnan(value)]
    if found:
        return found
    before = [sample for sample in samples if sample[0] < start_ms]
    if not before or math.isnan(before[-1][1]) or start_ms - before[-1][0] > LOOKBACK_MS:
        return []
    if any(start_ms <= at_ms < end_ms for at_ms, _ in samples):
        return []  # it ended in this window
    return [before[-1][1]]


def trimmed(samples: list[Sample], closed_ms: int) -> list[Sample]:
    """The samples that later windows need: from the last one before the end of the closed windows."""
    index = bisect_left(samples, closed_ms, key=lambda one: one[0])
    return samples[max(0, index - 1) :]


def _steps(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Sample, float]]:
    for before, after in pairwise(samples):
        if math.isnan(before[1]) or math.isnan(after[1]) or after[0] - before[0] > LOOKBACK_MS:
            continue
        grown = after[1] - before[1]
        yield before, after, grown if grown >= 0 else after[1]
