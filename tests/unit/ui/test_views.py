"""The page's ready replicas if several sources publish rows of the same task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import permutations

import pytest

from tests.support.limit_rows import replicas_row
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import Source
from tidegate.schemas.topics import Topic
from tidegate.ui.source import Equal, Json
from tidegate.ui.views import Scope, Views

BEST_FIRST: tuple[Source, ...] = ("kubernetes", "envoy", "prometheus")
"""As docs/decisions/0005-which-source-counts-ready-replicas.md has it."""


class ReplicaRows:
    """A source with these rows of replicas and one second of service metrics."""

    name, address, reach = "replica rows", "memory", None

    def __init__(self, replicas: Sequence[Json]) -> None:
        self._replicas = list(replicas)

    def find(
        self,
        topic: Topic,
        equal: Equal,
        since: datetime | None = None,
        until: datetime | None = None,
        without: Sequence[str] = (),
    ) -> list[Json]:
        return self._replicas if topic == topics.REPLICAS else []

    def newest(self, topic: Topic, equal: Equal) -> Json | None:
        return {"window_start": "2026-11-24T10:00:00.000Z"}


@pytest.mark.parametrize("order", list(permutations(BEST_FIRST)))
def test_the_best_source_is_shown_whichever_comes_first(order: tuple[Source, ...]) -> None:
    for best, source in enumerate(BEST_FIRST):
        rows = [
            replicas_row(0, 1 + BEST_FIRST.index(one), source=one).model_dump(mode="json")
            for one in order
            if one in BEST_FIRST[best:]
        ]
        shown = Views(ReplicaRows(rows)).parts(Scope("vision", "chat"))["ready"]
        assert (shown["source"], shown["replicas_ready"]) == (source, 1 + best)
