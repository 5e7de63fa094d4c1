"""The slowest replica of a task against its siblings: an outlier by the median absolute deviation.

The modified z-score of Iglewicz and Hoaglin (How to Detect and Handle Outliers, 1993): 0.6745 x (value - median) / MAD,
an outlier above 3.5. Where over half of the replicas are equally slow the MAD is 0; it is then taken as 5 % of the
median, so that an imperceptible difference is not an outlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from tidegate.schemas.rows.resources import SlowReplica

SCALE = 0.6745
OUTLIER = 3.5
LEAST_SIBLINGS = 3
LEAST_SPREAD = 0.05


def slowest(p99_ms: Mapping[str, float]) -> SlowReplica | None:
    """The slowest replica; None for fewer than three, which have no majority. p99_ms: with enough requests."""
    if len(p99_ms) < LEAST_SIBLINGS:
        return None
    middle = median(p99_ms.values())
    spread = max(median(abs(value - middle) for value in p99_ms.values()), LEAST_SPREAD * middle)
    # Of equals the first by name, so that a replay gives the same result.
    replica = max(sorted(p99_ms), key=lambda name: p99_ms[name])
    distance = p99_ms[replica] - middle
    deviations = SCALE * distance / spread if spread else 0.0
    return SlowReplica(
        replica=replica,
        latency_p99_ms=p99_ms[replica],
        median_p99_ms=middle,
        deviations=deviations,
        outlier=deviations > OUTLIER,
    )
