"""The exponential histogram and the exact percentile, in whole numbers only."""

from __future__ import annotations

from functools import lru_cache

SCALE = 5
BUCKETS_PER_DOUBLING = 2**SCALE
_US_PER_MS = 1000


@lru_cache(maxsize=200_000)
def bucket_of(duration_us: int) -> int:
    """The index i with base^i < duration <= base^(i+1), where base = 2^(1/32) ms. `duration_us` > 0.

    Raised to the 32nd power the bounds are powers of two: 2^i < (duration_us / 1000)^32 <= 2^(i+1). Both
    sides times 1000^32 are whole numbers, so there is no rounding.
    """
    if duration_us <= 0:
        raise ValueError("a duration of 0 belongs in the count of zeros")
    value: int = duration_us**BUCKETS_PER_DOUBLING
    unit: int = _US_PER_MS**BUCKETS_PER_DOUBLING
    exponent = value.bit_length() - unit.bit_length() - 1  # at or just below the smallest that is enough
    while value << max(-exponent, 0) > unit << max(exponent, 0):
        exponent += 1
    return exponent - 1


def nearest_rank(count: int, percent: int) -> int:
    """The 1-based rank of a percentile among `count` sorted values: ceil(percent / 100 * count)."""
    return (percent * count + 99) // 100
