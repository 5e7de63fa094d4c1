"""Which source counts if several report a task's replicas: the best one that is not silent.

Best is the Kubernetes API, then Envoy's own health checks, then kube-state-metrics through Prometheus
(docs/decisions/0005-which-source-counts-ready-replicas.md). A worse source counts only once the active one has been
silent for longer than `stale_ms`; a better one counts with its first report. Times are epoch milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.schemas.rows.limits import Source

BEST_FIRST: tuple[Source, ...] = ("kubernetes", "envoy", "prometheus")


@dataclass(frozen=True)
class SourceState:
    """The active source of a task, and the newest moment that it reported. `source` None: no report yet."""

    source: Source | None = None
    spoke_ms: int = 0


def accept(state: SourceState, source: Source, at_ms: int, stale_ms: int) -> tuple[SourceState, bool]:
    """The state after this source's report of the moment `at_ms`, and whether the report counts.

    A report of the active source for an earlier moment doesn't: it is out of order. Nor does a better source's report
    that is so old that it would be stale at once.
    """
    if state.source is None:
        counts = True
    elif source == state.source:
        counts = at_ms >= state.spoke_ms
    elif BEST_FIRST.index(source) < BEST_FIRST.index(state.source):
        counts = at_ms >= state.spoke_ms - stale_ms
    else:
        counts = at_ms > state.spoke_ms + stale_ms
    return (SourceState(source, at_ms) if counts else state), counts
