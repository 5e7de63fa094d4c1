"""Follows tidegate.autoscaling-signals: the newest signals of each task, for whoever serves them."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from pydantic import ValidationError

from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kafka.log import Told, TopicsReader
from tidegate.schemas import topics
from tidegate.schemas.rows.signals import AutoscalingSignals
from tidegate.schemas.settings import Kafka

_LOG = logging.getLogger(__name__)
_WAIT_SECONDS = 0.2


class SignalsFeed(threading.Thread):
    """Reads the topic whole at its start, then what comes. Raises KafkaUnavailable when no broker answers."""

    def __init__(self, kafka: Kafka) -> None:
        super().__init__(name="autoscaling-signals", daemon=True)
        ensure_topics(kafka, [topics.AUTOSCALING_SIGNALS])
        self._reader = TopicsReader(kafka, [topics.AUTOSCALING_SIGNALS])
        self._changed = threading.Condition()
        self._newest: dict[str, AutoscalingSignals] = {}
        self._stopping = threading.Event()
        for told in self._reader.read({topics.AUTOSCALING_SIGNALS: None}):
            self._take(told)
        self._reader.follow()

    def newest(self, department: str, task: str) -> AutoscalingSignals | None:
        """A task's signals, also when they don't hold any more; None for one that has none."""
        return self._newest.get(f"{department}/{task}")

    def valid(self) -> list[AutoscalingSignals]:
        """All signals that hold now, by department and task."""
        now = datetime.now(UTC)
        return [row for _, row in sorted(self._newest.items()) if row.valid_until > now]

    def wait(self, seconds: float) -> None:
        """Until something has changed, no longer than this."""
        with self._changed:
            self._changed.wait(seconds)

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self.join(10)
        self._reader.close()

    def run(self) -> None:
        """Follow. Kafka that is away is waited for: what was known grows old, and says so itself."""
        while not self._stopping.is_set():
            found = self._reader.coming(_WAIT_SECONDS)
            for told in found:
                self._take(told)
            if found:
                with self._changed:
                    self._changed.notify_all()

    def _take(self, told: Told) -> None:
        if told.value is None:
            self._newest.pop(told.key, None)
            return
        try:
            row = AutoscalingSignals.model_validate_json(told.value)
        except ValidationError as error:
            _LOG.warning("the signals of %r can't be read: %s", told.key, error.errors()[0]["msg"])
            return
        before = self._newest.get(told.key)
        # Revisions begin anew where the job's state was lost: a newer moment counts, too.
        if before is None or row.computed_at >= before.computed_at:
            self._newest[told.key] = row
