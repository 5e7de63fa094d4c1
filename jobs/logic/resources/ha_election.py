"""Of several Prometheus that scrape the same, one is taken: the samples of the others are the same once more.

As Mimir and Cortex do it: the first replica of a cluster that is heard is elected, and another takes its place when it
hasn't been heard for a while. Time is that of arrival, so that a replica whose clock is wrong harms nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Elections:
    """Which replica of each cluster is taken. failover_ms: a replica that is silent for so long loses its place."""

    failover_ms: int
    _elected: dict[str, tuple[str, int]] = field(default_factory=dict)

    def takes(self, cluster: str, replica: str, now_ms: int) -> bool:
        """Whether samples of this replica, arriving now, are taken."""
        elected = self._elected.get(cluster)
        if elected is None or elected[0] == replica or now_ms - elected[1] > self.failover_ms:
            self._elected[cluster] = (replica, now_ms)
            return True
        return False
