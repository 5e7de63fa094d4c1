"""The newest windows of all departments and tasks, fetched once for everybody who looks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from tidegate.schemas.rows.service_metrics import Span
from tidegate.schemas.topics import service_metrics
from tidegate.ui.series import SPAN_SECONDS, start_of
from tidegate.ui.source import Json, Source

_SETTLE_SECONDS = 6
"""A window that ended so long before the newest one is whole; a younger one is fetched again."""


class NewestWindows:
    """Keeps the rows of whole windows, and asks the source for the others. For several threads."""

    def __init__(self, source: Source, span: Span, count: int, without: Sequence[str]) -> None:
        self._source = source
        self._topic = service_metrics(span)
        self._seconds = SPAN_SECONDS[span]
        self._count = count
        self._without = without
        self._whole: dict[int, list[Json]] = {}
        self._lock = threading.Lock()

    def up_to(self, end: int) -> dict[int, list[Json]]:
        """The rows of the `count` windows that end at `end` (seconds since the epoch) or before, by their start.

        Raises SourceUnavailable.
        """
        last = end - end % self._seconds
        starts = range(last - self._count * self._seconds, last, self._seconds)
        with self._lock:
            kept = {start: self._whole[start] for start in starts if start in self._whole}
            missing = [start for start in starts if start not in kept]
            if missing:
                fetched = self._fetch(missing[0], missing[-1] + self._seconds)
                kept |= {start: fetched.get(start, []) for start in missing}
            self._whole = {
                start: rows for start, rows in kept.items() if start + self._seconds + _SETTLE_SECONDS <= end
            }
        return kept

    def _fetch(self, since: int, until: int) -> dict[int, list[Json]]:
        found: dict[int, list[Json]] = {}
        for row in self._source.find(
            self._topic,
            {"level": ("department", "task")},
            datetime.fromtimestamp(since, UTC),
            datetime.fromtimestamp(until, UTC),
            self._without,
        ):
            found.setdefault(start_of(row), []).append(row)
        return found
