"""Deduplication of HA Prometheus: one of several replicas that scrape the same targets is elected.

As in Mimir and Cortex: the first replica of a cluster to send samples is elected, and another takes over when it has
been silent for a while. Time is that of arrival, so that a replica with a wrong clock does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Elections:
    """The elected replica of each cluster. failover_ms: the silence after which another replica is elected."""

    failover_ms: int
    _elected: dict[str, tuple[str, int]] = field(default_factory=dict)

    def takes(self, cluster: str, replica: str, now_ms: int) -> bool:
        """Whether samples of this replica, arriving now, are accepted."""
        elected = self._elected.get(cluster)
        if elected is None or elected[0] == replica or now_ms - elected[1] > self.failover_ms:
            self._elected[cluster] = (replica, now_ms)
            return True
        return False
