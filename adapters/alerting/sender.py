"""Follows tidegate.alerts and sends alerts, with one thread a target, so that an unavailable one delays no other."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from tidegate.adapters.alerting.targets import Alertmanager, SendFailed, Target, Webhook
from tidegate.adapters.backoff import Backoff
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kafka.log import LogMessage, TopicLog, row_of
from tidegate.jobs.logic.alerts.outbox import Outbox
from tidegate.schemas import topics
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.settings.signals import Alerts

_LOG = logging.getLogger(__name__)

_WAIT_SECONDS = 0.5
_AT_ONCE = 64
"""The number of alerts in a request: Alertmanager rejects a whole request for one invalid alert."""


def targets_of(settings: Alerts) -> list[Target]:
    """The receivers from the settings."""
    found: list[Target] = [Alertmanager(url, settings.resend_seconds) for url in settings.alertmanager_urls]
    if settings.webhook_url is not None:
        found.append(Webhook(settings.webhook_url))
    return found


class Sending(threading.Thread):
    """The sender for one target: takes rows, and sends what is due until `stop`."""

    def __init__(self, target: Target, resend_seconds: float, max_backoff_seconds: float) -> None:
        super().__init__(name=target.name, daemon=True)
        self._target = target
        self._outbox = Outbox(round(resend_seconds * 1000))
        self._backoff = Backoff(1, max_backoff_seconds)
        self._news = threading.Condition()
        self._stopping = False
        self.requests = 0
        """The number of requests that the target has acknowledged."""

    def put(self, row: AlertRow) -> None:
        """Add a row of the topic."""
        with self._news:
            self._outbox.put(row)
            self._news.notify()

    def stop(self) -> None:
        """Send what is due, then stop."""
        with self._news:
            self._stopping = True
            self._news.notify()

    def run(self) -> None:
        """Send until `stop`. An unavailable target is retried with backoff, and gets the newest state of each alert."""
        failures = 0
        while True:
            with self._news:
                due = self._outbox.due(_now_ms())[:_AT_ONCE]
                if not due:
                    if self._stopping:
                        return
                    self._news.wait(_WAIT_SECONDS)
                    continue
            if self._try(due, failures):
                failures = 0
                continue
            failures += 1
            until = time.monotonic() + self._backoff.delay(failures, random.random())  # noqa: S311
            with self._news:
                while not self._stopping and (left := until - time.monotonic()) > 0:
                    self._news.wait(left)
                if self._stopping:
                    return

    def _try(self, due: Sequence[AlertRow], failures: int) -> bool:
        try:
            self._target.send(due, datetime.now(UTC))
        except SendFailed as error:
            if not error.lasting or len(due) > 1:
                if failures == 0 or not error.lasting:
                    _LOG.warning("%s; %d alerts are waiting for a retry", error, len(due))
                return self._one_by_one(due) if error.lasting else False
            _LOG.error("%s; alert %s is dropped, since the target rejects it", error, due[0].id)
        with self._news:
            self._outbox.sent(due, _now_ms())
        self.requests += 1
        return True

    def _one_by_one(self, due: Sequence[AlertRow]) -> bool:
        """Send alerts that were rejected together one by one, so that only the invalid ones are dropped."""
        taken = [self._try([row], 0) for row in due]
        return all(taken)


def run(kafka: Kafka, settings: Alerts, targets: Sequence[Target], stop: threading.Event) -> int:
    """Send until `stop` is set. Returns the number of acknowledged requests.

    Raises KafkaUnavailable if no broker answers at the start. A later outage of Kafka is waited out.
    """
    ensure_topics(kafka, [topics.ALERTS])
    log = TopicLog(kafka, [topics.ALERTS])
    sending = [Sending(target, settings.resend_seconds, settings.max_backoff_seconds) for target in targets]
    try:
        newest: dict[str, AlertRow] = {}
        for message in log.snapshot():
            if row := _alert_of(message):
                newest[row.alert_key] = row
        for thread in sending:
            for row in newest.values():
                thread.put(row)
            thread.start()
        log.follow()
        while not stop.is_set():
            for message in log.poll(_WAIT_SECONDS):
                if row := _alert_of(message):
                    for thread in sending:
                        thread.put(row)
    finally:
        log.close()
        for thread in sending:
            thread.stop()
        for thread in sending:
            if thread.is_alive():
                thread.join(15)
    return sum(thread.requests for thread in sending)


def _alert_of(message: LogMessage) -> AlertRow | None:
    return row_of(message, AlertRow) if message.value else None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
