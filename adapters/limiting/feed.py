"""The rate-limit controller's inputs from Kafka: replica changes, heartbeats, gateways, controls."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime

from confluent_kafka import KafkaError, KafkaException

from tidegate.adapters.kafka.client import KafkaUnavailable
from tidegate.adapters.kafka.log import LogMessage, TopicLog, row_of
from tidegate.jobs.logic.limits.book import LimitBook
from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import (
    GatewayRow,
    LimitControl,
    RateLimitRow,
    ReplicaChange,
    ReplicasRow,
)
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import from_epoch_ms, to_epoch_ms
from tidegate.schemas.topics import Topic


class LimitFeed:
    """Reads whole topics into a book, and goes on with what comes.

    A row that can't be read is logged and changes nothing: what was known before stays.
    """

    def __init__(
        self,
        kafka: Kafka,
        book: LimitBook,
        recent_ms: int,
        *,
        missing_is_empty: bool = False,
    ) -> None:
        """recent_ms: how far back heartbeats are read.

        missing_is_empty: a topic that doesn't exist is one without a row.
        Raises KafkaException when Kafka doesn't answer, or a topic can't be read.
        """
        self._book = book
        self._takers: dict[Topic, Callable[[LogMessage], None]] = {
            topics.RATE_LIMITS_CURRENT: self._restore,
            topics.REPLICA_CHANGES: self._change,
            topics.REPLICAS: self._replicas,
            topics.GATEWAYS: self._gateway,
            topics.LIMIT_CONTROLS: self._control,
        }
        since: dict[Topic, datetime | None] = dict.fromkeys(self._takers)
        since |= dict.fromkeys((topics.REPLICAS, topics.GATEWAYS), from_epoch_ms(now_ms() - recent_ms))
        self._log = TopicLog(kafka, self._takers)
        try:
            self._log.follow(since)
            if self._log.missing and not missing_is_empty:
                raise KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC, ", ".join(self._log.missing)))
        except KafkaUnavailable as error:
            self._log.close()
            # The controller decides by the code which errors are temporary.
            raise (error.__cause__ if isinstance(error.__cause__, KafkaException) else error) from None
        except BaseException:
            self._log.close()
            raise

    def caught_up(self) -> bool:
        """Whether all that the topics held at the start has been read."""
        return self._log.caught_up()

    def poll(self, timeout_seconds: float) -> bool:
        """Take what has come; True when there was something. Kafka away is waited out."""
        messages = self._log.poll(timeout_seconds)
        for message in messages:
            self._takers[message.topic](message)
        return bool(messages)

    def close(self) -> None:
        """Leave Kafka."""
        self._log.close()

    def _restore(self, message: LogMessage) -> None:
        if message.value is not None and (row := row_of(message, RateLimitRow)):
            self._book.restore(row)

    def _change(self, message: LogMessage) -> None:
        if message.value is not None and (row := row_of(message, ReplicaChange)):
            self._book.apply_change(row)

    def _replicas(self, message: LogMessage) -> None:
        if row := row_of(message, ReplicasRow):
            self._book.observe_heartbeat(
                TaskKey(row.department, row.task), _not_ahead(to_epoch_ms(row.observed_at))
            )

    def _gateway(self, message: LogMessage) -> None:
        if row := row_of(message, GatewayRow):
            self._book.observe_gateway(
                row.gateway, row.gateways_ready, _not_ahead(to_epoch_ms(row.observed_at))
            )

    def _control(self, message: LogMessage) -> None:
        if message.value is None:
            self._book.remove_control(message.key)
        elif row := row_of(message, LimitControl):
            self._book.apply_control(row)


def now_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


def _not_ahead(at_ms: int) -> int:
    """A source whose clock is ahead would else never be silent, and a gateway's later rows would be older ones."""
    return min(at_ms, now_ms())
