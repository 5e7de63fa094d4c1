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
from tidegate.adapters.kafka import partition_range
from tidegate.jobs.logic.catalog_rows import RowCatalog
from tidegate.jobs.logic.envoy_limits import TaskKey
from tidegate.jobs.logic.limit_book import LimitBook
from tidegate.schemas import topics
from tidegate.schemas.limit_rows import (
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
_TIMEOUT_SECONDS = 30.0
_RETRIABLE = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}

RowType = TypeVar("RowType", bound=BaseModel)


class LimitFeed:
    """Reads whole topics into a book, beside every consumer group, and goes on with what comes.

    A row that can't be read is told in the log and changes nothing: what was known before stays.
    """

    def __init__(self, kafka: Kafka, book: LimitBook, recent_ms: int, *, catalog_from_topic: bool) -> None:
        """recent_ms: how far back it is worth to look for who is alive.

        Raises KafkaException when a topic can't be found.
        """
        self._book = book
        self._rows = RowCatalog()
        self._catalog_changed = False
        self._unreadable = 0
        self._kafka = kafka
        self._consumer = Consumer(
            {
                **kafka.client_config(),
                "group.id": f"tidegate-limit-reading-{uuid.uuid4()}",
                "enable.auto.commit": False,
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
        since_ms = int(time.time() * 1000) - recent_ms
        self._ends: dict[tuple[str, int], int] = {}
        places = []
        for name in self._takers:
            for partition in self._partitions(name):
                first, end = partition_range(self._consumer, name, partition, _TIMEOUT_SECONDS)
                place = TopicPartition(name, partition, OFFSET_BEGINNING)
                if name in recent:
                    place = self._since(name, partition, since_ms)
                if first < end and place.offset != OFFSET_END:
                    self._ends[name, partition] = end
                places.append(place)
        self._consumer.assign(places)

    @property
    def unreadable(self) -> int:
        """Rows that could not be read."""
        return self._unreadable

    def caught_up(self) -> bool:
        """Whether all that the topics held at the start has been read."""
        positions = self._consumer.position([TopicPartition(name, part) for name, part in self._ends])
        for place in positions:
            end = self._ends[place.topic, place.partition]
            if place.offset >= end:
                self._ends.pop((place.topic, place.partition))
        if self._ends:
            # What was there at the start may be gone by now, by retention.
            for name, partition in list(self._ends):
                low, high = partition_range(self._consumer, name, partition, _TIMEOUT_SECONDS)
                if low >= high:
                    self._ends.pop((name, partition))
        return not self._ends

    def poll(self, timeout_seconds: float) -> bool:
        """Take what has come; True when there was something. Kafka away is waited out."""
        messages = self._consumer.consume(_AT_ONCE, timeout_seconds)
        for message in messages:
            if error := message.error():
                if error.code() not in _RETRIABLE:
                    _LOG.warning("reading %s: %s", message.topic(), error)
                continue
            self._takers[message.topic() or ""](message)
        if self._catalog_changed:
            self._catalog_changed = False
            self._book.use_catalog(self._rows.catalog().tasks.values())
        return bool(messages)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def catalog_rows(self) -> RowCatalog:
        """The catalog of the topic, as far as it has been read."""
        return self._rows

    def _partitions(self, name: str) -> list[int]:
        found = self._consumer.list_topics(name, timeout=_TIMEOUT_SECONDS).topics[name]
        if found.error is not None:
            raise KafkaException(found.error)
        return sorted(found.partitions)

    def _since(self, name: str, partition: int, since_ms: int) -> TopicPartition:
        (place,) = self._consumer.offsets_for_times(
            [TopicPartition(name, partition, since_ms)], timeout=_TIMEOUT_SECONDS
        )
        return place if place.offset >= 0 else TopicPartition(name, partition, OFFSET_END)

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
            self._book.change(row)

    def _replicas(self, message: Message) -> None:
        if row := self._read(message, ReplicasRow):
            self._book.hear(TaskKey(row.department, row.task), to_epoch_ms(row.observed_at))

    def _gateway(self, message: Message) -> None:
        if row := self._read(message, GatewayRow):
            self._book.gateway(row.gateway, row.gateways_ready, to_epoch_ms(row.observed_at))

    def _control(self, message: Message) -> None:
        if message.value() is not None and (row := self._read(message, LimitControl)):
            self._book.control(row)

    def _task(self, message: Message) -> None:
        key = (message.key() or b"").decode("utf-8", "replace")
        row = None
        if message.value() is not None and (row := self._read(message, TaskRow)) is None:
            return
        if reason := self._rows.put(key, row):
            self._unreadable += 1
            _LOG.warning("the catalog's row is refused, the last good one stays: %s", reason)
        else:
            self._catalog_changed = True
