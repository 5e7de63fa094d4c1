"""The sinks of the controller's rows: `tidegate.rate-limits`, and the newest row of each task in `.current`."""

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
    """A sink of rows."""

    def put(self, rows: Iterable[RateLimitRow]) -> None:
        """Add rows, in order."""

    def durable(self, timeout_seconds: float) -> bool:
        """Whether all rows so far are durable within the timeout."""


class KafkaRows:
    """A sink into Kafka, which keeps rows while Kafka is away. Each leader session has its own."""

    def __init__(self, kafka: Kafka) -> None:
        self._all = kafka.topic(topics.RATE_LIMITS)
        self._current = kafka.topic(topics.RATE_LIMITS_CURRENT)
        self._producer = Producer(
            {
                **kafka.client_config(),
                "enable.idempotence": True,
                "linger.ms": 0,
                # No timeout: a row is lost only with this process.
                "message.timeout.ms": 0,
                "log_level": 4,
            }
        )

    def put(self, rows: Iterable[RateLimitRow]) -> None:
        """Add rows, in order."""
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
        """Whether Kafka acknowledges all rows within the timeout."""
        return self._producer.flush(timeout_seconds) == 0

    def forget(self) -> None:
        """Drop the rows that Kafka has not acknowledged: a former leader must not publish.

        No decision is carried out before its row is durable, and the next leader reads the target itself.
        """
        self._producer.purge()


class ShownRows:
    """A sink that shows rows, for a dry run: nothing is stored."""

    def __init__(self, show: Callable[[RateLimitRow], None]) -> None:
        self._show = show

    def put(self, rows: Iterable[RateLimitRow]) -> None:
        """Show rows, in order."""
        for row in rows:
            self._show(row)

    def durable(self, timeout_seconds: float) -> bool:
        """Always: nothing is stored."""
        return True


def _delivered(error: KafkaError | None, message: Message) -> None:
    if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
        _LOG.error("a row of topic %s was not delivered to Kafka: %s", message.topic(), error)
