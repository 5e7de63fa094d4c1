"""Follows tidegate.autoscaling-signals: the newest signals of each task, for whoever serves them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kafka.log import LogMessage, TopicLog, row_of
from tidegate.schemas import topics
from tidegate.schemas.rows.signals import AutoscalingSignals
from tidegate.schemas.settings import Kafka

_WAIT_SECONDS = 0.2


class SignalsFeed(threading.Thread):
    """Reads the topic whole at its start, then what comes. Raises KafkaUnavailable when no broker answers."""

    def __init__(self, kafka: Kafka) -> None:
        super().__init__(name="autoscaling-signals", daemon=True)
        ensure_topics(kafka, [topics.AUTOSCALING_SIGNALS])
        self._log = TopicLog(kafka, [topics.AUTOSCALING_SIGNALS])
        self._changed = threading.Condition()
        self._newest: dict[str, AutoscalingSignals] = {}
        self._stopping = threading.Event()
        for message in self._log.snapshot():
            self._take(message)
        self._log.follow()

    def newest(self, department: str, task: str) -> AutoscalingSignals | None:
        """A task's signals, also after their `valid_until`; None where it has none."""
        return self._newest.get(f"{department}/{task}")

    def valid(self) -> list[AutoscalingSignals]:
        """All signals that are valid now, by department and task."""
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
        self._log.close()

    def run(self) -> None:
        """Follow. While Kafka is away the newest signals stay, until their `valid_until`."""
        while not self._stopping.is_set():
            found = self._log.poll(_WAIT_SECONDS)
            for message in found:
                self._take(message)
            if found:
                with self._changed:
                    self._changed.notify_all()

    def _take(self, message: LogMessage) -> None:
        if message.value is None:
            self._newest.pop(message.key, None)
            return
        if (row := row_of(message, AutoscalingSignals)) is None:
            return
        before = self._newest.get(message.key)
        # Revisions begin anew where the job's state was lost: a newer moment counts, too.
        if before is None or row.computed_at >= before.computed_at:
            self._newest[message.key] = row
