"""Whose word counts when several sources tell of one task's replicas: the best one that still speaks.

Best is the Kubernetes API, then Envoy's own health checks, then kube-state-metrics through Prometheus
(docs/decisions/0005-which-source-counts-ready-replicas.md). A worse source counts only once the one in charge was
silent for longer than `stale_ms`; a better one counts with its first word. Times are epoch milliseconds, and given.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.schemas.rows.limits import Source

BEST_FIRST: tuple[Source, ...] = ("kubernetes", "envoy", "prometheus")


@dataclass(frozen=True)
class SourceState:
    """Who is in charge of one task, and the newest moment that it spoke of. `source` None: nobody has spoken yet."""

    source: Source | None = None
    spoke_ms: int = 0


def accept(state: SourceState, source: Source, at_ms: int, stale_ms: int) -> tuple[SourceState, bool]:
    """The state after this source spoke of the moment `at_ms`, and whether what it said counts.

    What the one in charge says of an earlier moment than before doesn't: it comes out of order. Nor does what a better
    source said so long ago that it would be stale at once.
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
