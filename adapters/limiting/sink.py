"""Where the controller's rows go: `tidegate.rate-limits`, and the newest of each task to `.current`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

from confluent_kafka import KafkaError, Message, Producer

from tidegate.schemas import topics
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.settings import Kafka

_LOG = logging.getLogger(__name__)


class RowSink(Protocol):
    """Takes rows."""

    def put(self, rows: Iterable[RateLimitRow]) -> None:
        """Take rows, in order."""

    def durable(self, timeout_seconds: float) -> bool:
        """Whether all rows up to now are safe, within this time."""


class KafkaRows:
    """Rows into Kafka, none lost while it is away. Of one leader: the next one has its own."""

    def __init__(self, kafka: Kafka) -> None:
        self._all = kafka.topic(topics.RATE_LIMITS)
        self._current = kafka.topic(topics.RATE_LIMITS_CURRENT)
        self._producer = Producer(
            {
                **kafka.client_config(),
                "enable.idempotence": True,
                "linger.ms": 0,
                # As long as this process lives: a row is only lost with it.
                "message.timeout.ms": 0,
                "log_level": 4,
            }
        )

    def put(self, rows: Iterable[RateLimitRow]) -> None:
        """Take rows, in order."""
        for row in rows:
            key = f"{row.department}/{row.task}"
            current = row.model_copy(update={"id": key})
            for topic, one in ((self._all, row), (self._current, current)):
                while True:
                    try:
                        self._producer.produce(topic, one.model_dump_json(), key, on_delivery=_delivered)
                        break
                    except BufferError:
                        self._producer.poll(0.1)
        self._producer.poll(0)

    def durable(self, timeout_seconds: float) -> bool:
        """Whether Kafka has all rows, within this time."""
        return self._producer.flush(timeout_seconds) == 0

    def forget(self) -> None:
        """Drop what Kafka hasn't taken yet: who leads no longer has nothing to say.

        None of it was carried out before it was safe, and what was carried out the next leader reads at the target.
        """
        self._producer.purge()


class ShownRows:
    """Rows to people, for a dry run: nothing is kept."""

    def __init__(self, show: Callable[[RateLimitRow], None]) -> None:
        self._show = show

    def put(self, rows: Iterable[RateLimitRow]) -> None:
        """Show rows, in order."""
        for row in rows:
            self._show(row)

    def durable(self, timeout_seconds: float) -> bool:
        """Nothing is at stake."""
        return True


def _delivered(error: KafkaError | None, message: Message) -> None:
    if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
        _LOG.error("a row of %s was not taken by Kafka: %s", message.topic(), error)
