"""What the rate-limit controller hears from Kafka: replica changes, who is alive, gateways, operators, the catalog."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from pydantic import BaseModel, ValidationError

from tidegate.jobs.logic.catalog_rows import RowCatalog
from tidegate.jobs.logic.limits.book import LimitBook
from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import (
    GatewayRow,
    LimitControl,
    RateLimitRow,
    ReplicaChange,
    ReplicasRow,
    TaskRow,
)
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import to_epoch_ms

_LOG = logging.getLogger(__name__)
_AT_ONCE = 500
_TIMEOUT_SECONDS = 5.0
_RETRIABLE = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}

RowType = TypeVar("RowType", bound=BaseModel)


class LimitFeed:
    """Reads whole topics into a book, beside every consumer group, and goes on with what comes.

    A row that can't be read is told in the log and changes nothing: what was known before stays.
    """

    def __init__(
        self,
        kafka: Kafka,
        book: LimitBook,
        recent_ms: int,
        *,
        catalog_from_topic: bool,
        missing_is_empty: bool = False,
    ) -> None:
        """recent_ms: how far back it is worth to look for who is alive.

        missing_is_empty: a topic that isn't there is one without a row.
        Raises KafkaException when Kafka doesn't answer, or a topic can't be read.
        """
        self._book = book
        self._rows = RowCatalog()
        self._catalog_changed = False
        self._unreadable = 0
        self._missing_is_empty = missing_is_empty
        self._consumer = Consumer(
            {
                **kafka.client_config(),
                "group.id": f"tidegate-limit-reading-{uuid.uuid4()}",
                "enable.auto.commit": False,
                # Of a topic that was made anew: all of it.
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "log_level": 4,
            }
        )
        self._takers: dict[str, Callable[[Message], None]] = {
            kafka.topic(topics.RATE_LIMITS_CURRENT): self._restore,
            kafka.topic(topics.REPLICA_CHANGES): self._change,
            kafka.topic(topics.REPLICAS): self._replicas,
            kafka.topic(topics.GATEWAYS): self._gateway,
            kafka.topic(topics.LIMIT_CONTROLS): self._control,
        }
        if catalog_from_topic:
            self._takers[kafka.topic(topics.TASKS)] = self._task
        recent = {kafka.topic(topics.REPLICAS), kafka.topic(topics.GATEWAYS)}
        try:
            places = self._places(recent, now_ms() - recent_ms)
            self._consumer.assign(places)
        except BaseException:
            self._consumer.close()
            raise
        self._unread = {(place.topic, place.partition) for place in places}

    @property
    def unreadable(self) -> int:
        """Rows that could not be read."""
        return self._unreadable

    def caught_up(self) -> bool:
        """Whether all that the topics held at the start has been read."""
        return not self._unread

    def poll(self, timeout_seconds: float) -> bool:
        """Take what has come; True when there was something. Kafka away is waited out."""
        taken = 0
        for message in self._consumer.consume(_AT_ONCE, timeout_seconds):
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:
                    self._unread.discard((message.topic() or "", message.partition() or 0))
                elif error.code() not in _RETRIABLE:
                    _LOG.warning("reading %s: %s", message.topic(), error)
                continue
            taken += 1
            self._takers[message.topic() or ""](message)
        if self._catalog_changed:
            self._catalog_changed = False
            self._book.apply_catalog(self._rows.catalog().tasks.values())
        return taken > 0

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def catalog_rows(self) -> RowCatalog:
        """The catalog of the topic, as far as it has been read."""
        return self._rows

    def _places(self, recent: set[str], since_ms: int) -> list[TopicPartition]:
        """Where to begin in each partition: at its first message, or at the first one of late."""
        every = self._consumer.list_topics(timeout=_TIMEOUT_SECONDS).topics
        places, asked = [], []
        for name in self._takers:
            if name not in every and self._missing_is_empty:
                continue
            if name not in every or every[name].error is not None:
                raise KafkaException(
                    every[name].error if name in every else KafkaError(KafkaError._UNKNOWN_TOPIC, name)
                )
            for partition in every[name].partitions:
                if name in recent:
                    asked.append(TopicPartition(name, partition, since_ms))
                else:
                    places.append(TopicPartition(name, partition, OFFSET_BEGINNING))
        for place in self._consumer.offsets_for_times(asked, timeout=_TIMEOUT_SECONDS) if asked else ():
            if place.error is not None:
                raise KafkaException(place.error)
            places.append(
                place if place.offset >= 0 else TopicPartition(place.topic, place.partition, OFFSET_END)
            )
        return places

    def _read(self, message: Message, model: type[RowType]) -> RowType | None:
        try:
            return model.model_validate_json(message.value() or b"")
        except ValidationError as error:
            self._unreadable += 1
            wrong = error.errors(include_url=False)[0]
            _LOG.warning(
                "%s-%s-%s is no %s, and left out: %s: %s",
                *(message.topic(), message.partition(), message.offset(), model.__name__),
                *(".".join(map(str, wrong["loc"])) or "the whole", wrong["msg"]),
            )
            return None

    def _restore(self, message: Message) -> None:
        if message.value() is not None and (row := self._read(message, RateLimitRow)):
            self._book.restore(row)

    def _change(self, message: Message) -> None:
        if message.value() is not None and (row := self._read(message, ReplicaChange)):
            self._book.apply_change(row)

    def _replicas(self, message: Message) -> None:
        if row := self._read(message, ReplicasRow):
            self._book.observe_heartbeat(
                TaskKey(row.department, row.task), _not_ahead(to_epoch_ms(row.observed_at))
            )

    def _gateway(self, message: Message) -> None:
        if row := self._read(message, GatewayRow):
            self._book.observe_gateway(
                row.gateway, row.gateways_ready, _not_ahead(to_epoch_ms(row.observed_at))
            )

    def _control(self, message: Message) -> None:
        if message.value() is None:
            self._book.remove_control(_key(message))
        elif row := self._read(message, LimitControl):
            self._book.apply_control(row)

    def _task(self, message: Message) -> None:
        key = _key(message)
        row = None
        if message.value() is not None and (row := self._read(message, TaskRow)) is None:
            return
        if reason := self._rows.put(key, row):
            self._unreadable += 1
            _LOG.warning("the catalog's row is refused, the last good one stays: %s", reason)
        else:
            self._catalog_changed = True


def _key(message: Message) -> str:
    return (message.key() or b"").decode("utf-8", "replace")


def now_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000


def _not_ahead(at_ms: int) -> int:
    """A source whose clock is ahead would else never be silent, and a gateway's later rows would be older ones."""
    return min(at_ms, now_ms())
