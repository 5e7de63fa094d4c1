"""Kafka topics read as logs: what they hold up to now, then what comes. Joins no consumer group, commits nothing."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from pydantic import BaseModel, ValidationError

from tidegate.adapters.kafka.client import KafkaUnavailable, partition_range
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import to_epoch_ms
from tidegate.schemas.topics import Topic

_LOG = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 10.0
_CRITICAL = 2
_AT_ONCE = 500
_STEP_SECONDS = 0.05
"""`consume` waits so long for as many messages as were asked for, however few there are."""
_MISSING_EVERY_SECONDS = 2.0
_GROWTH_EVERY_SECONDS = 30.0
_LOOK_TIMEOUT_SECONDS = 1.0
_PASSING = {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE}

Partition = tuple[str, int]
"""A topic's full name, and the partition's number."""
Since = Mapping[Topic, datetime | None]
"""From which moment of Kafka's each topic is read; None: from its first message."""
RowType = TypeVar("RowType", bound=BaseModel)


@dataclass(frozen=True)
class LogMessage:
    """One message of a topic. value None: a tombstone, its key was removed. at_ms: the message's timestamp."""

    topic: Topic
    partition: int
    offset: int
    key: str
    value: bytes | None
    at_ms: int


class TopicLog:
    """Reads topics beside every consumer group. A topic that doesn't exist is empty until it is created.

    Order holds within a partition. `follow` finds topics and partitions that are created later, and reads a topic
    that was deleted and created again from its first message. Every method raises KafkaUnavailable when no broker
    answers, except `poll`. Not for several threads.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Iterable[Topic],
        keys: Iterable[str] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        """keys: only messages with one of these. strict: `poll` raises KafkaUnavailable, too, rather than waits."""
        self._address = kafka.bootstrap_servers
        self._keys = None if keys is None else {key.encode() for key in keys}
        self._topics = {kafka.topic(topic): topic for topic in topics}
        self._names = {topic: name for name, topic in self._topics.items()}
        self._strict = strict
        self._consumer = Consumer(
            kafka.client_config()
            | {
                "group.id": f"tidegate-reading-{uuid.uuid4()}",
                "enable.auto.commit": False,
                # Of a topic that was created again: all of it.
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 16_384,
                "log_level": _CRITICAL,  # our own errors report each fault once
            }
        )
        self._next: dict[Partition, int] = {}
        """Where `follow` goes on."""
        self._unread: dict[Partition, int] = {}
        """Where the partitions ended when `follow` began, of those that it has not read so far."""
        self._followed: set[Topic] = set()
        self._missing_due = self._growth_due = 0.0
        self._reported: str | None = None
        self.missing: list[str] = []
        """Full names of the topics that did not exist when they were looked up last."""

    def __enter__(self) -> TopicLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def snapshot(self, since: Since | None = None) -> Iterator[LogMessage]:
        """All messages up to the end offsets of now. since: of these topics only, and from these moments on."""
        return self.read(self._begin(since))

    def follow(self, since: Since | None = None) -> None:
        """From now on `poll` gives what comes: from these moments on, else after what was read, else from now on."""
        if since is not None:
            begin = self._begin(since)
            self._next |= {partition: first for partition, (first, _) in begin.items()}
            self._unread = {partition: end for partition, (first, end) in begin.items() if first < end}
        elif not self._followed:
            self._begin(None)
        now = time.monotonic()
        self._missing_due, self._growth_due = now + _MISSING_EVERY_SECONDS, now + _GROWTH_EVERY_SECONDS
        self._assign()

    def poll(self, wait_seconds: float, at_once: int = _AT_ONCE) -> list[LogMessage]:
        """What has come; waits up to so long for so many. While Kafka is away nothing comes, and nothing is lost."""
        self._find_new_partitions()
        found = []
        for message in self._consumer.consume(at_once, wait_seconds):
            partition = message.topic() or "", message.partition() or 0
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._unread.pop(partition, None)
                else:
                    self._report(partition[0], error)
                continue
            self._reported = None
            self._next[partition] = following = (message.offset() or 0) + 1
            if partition in self._unread and following >= self._unread[partition]:
                del self._unread[partition]
            if self._wants(message):
                found.append(self._message(message))
        return found

    def caught_up(self) -> bool:
        """Whether `poll` has given all that the topics held when `follow` began."""
        return not self._unread

    def ends(self, topic: Topic) -> dict[Partition, tuple[int, int]]:
        """Each partition's first offset, and the one after its last. `follow` goes on there."""
        name = self._names[topic]
        self._followed.add(topic)
        try:
            found = self._consumer.list_topics(name, timeout=_TIMEOUT_SECONDS).topics[name]
            if found.error is not None:
                if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    if name not in self.missing:
                        self.missing.append(name)
                    return {}
                raise KafkaException(found.error)
            if name in self.missing:
                self.missing.remove(name)
            ends = {
                (name, number): partition_range(self._consumer, name, number, _TIMEOUT_SECONDS)
                for number in found.partitions
            }
        except KafkaException as error:
            raise self._unavailable(name, error) from error
        self._next |= {partition: end for partition, (_, end) in ends.items()}
        return ends

    def read(self, ranges: Mapping[Partition, tuple[int, int]]) -> Iterator[LogMessage]:
        """The messages of these partitions between two offsets, the second one excluded."""
        left = {partition: end for partition, (first, end) in ranges.items() if first < end}
        self._consumer.assign([TopicPartition(*partition, ranges[partition][0]) for partition in left])
        received_at = time.monotonic()
        while left:
            messages = self._consumer.consume(_AT_ONCE, _STEP_SECONDS)
            if messages:
                received_at = time.monotonic()
            elif time.monotonic() - received_at > _TIMEOUT_SECONDS:
                names = ", ".join(sorted({name for name, _ in left}))
                raise KafkaUnavailable(f"Kafka at {self._address} stopped answering while {names} was read")
            for message in messages:
                partition = message.topic() or "", message.partition() or 0
                error, offset = message.error(), message.offset() or 0
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise self._unavailable(partition[0], KafkaException(error))
                if partition not in left:
                    continue
                if error is None and offset < left[partition] and self._wants(message):
                    yield self._message(message)
                # The end itself need not be a message: a compacted topic has gaps.
                if error is not None or offset >= left[partition] - 1:
                    del left[partition]
        self._consumer.unassign()

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _begin(self, since: Since | None) -> dict[Partition, tuple[int, int]]:
        """The offsets between these moments and now."""
        moments = dict.fromkeys(self._names) if since is None else since
        return {
            partition: (self._offset_at(partition, moment, low, high), high)
            for topic, moment in moments.items()
            for partition, (low, high) in self.ends(topic).items()
        }

    def _offset_at(self, partition: Partition, moment: datetime | None, low: int, high: int) -> int:
        if moment is None or low >= high:
            return low
        asked = TopicPartition(*partition, to_epoch_ms(moment))
        try:
            (found,) = self._consumer.offsets_for_times([asked], timeout=_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise self._unavailable(partition[0], error) from error
        return found.offset if found.offset >= 0 else high

    def _assign(self) -> None:
        self._consumer.assign([TopicPartition(*partition, at) for partition, at in self._next.items()])

    def _find_new_partitions(self) -> None:
        """A job creates its topics when it starts, which may be after us; and a topic's partitions may be added to."""
        now = time.monotonic()
        grown = now >= self._growth_due
        if not grown and (not self.missing or now < self._missing_due):
            return
        self._missing_due = now + _MISSING_EVERY_SECONDS
        if grown:
            self._growth_due = now + _GROWTH_EVERY_SECONDS
        names = [self._names[topic] for topic in self._followed] if grown else list(self.missing)
        new = []
        for name in names:
            try:
                found = self._consumer.list_topics(name, timeout=_LOOK_TIMEOUT_SECONDS).topics[name]
            except KafkaException:
                break  # Kafka is away, which `poll` waits out
            new += [(name, number) for number in found.partitions if (name, number) not in self._next]
        if new:
            self._next |= dict.fromkeys(new, OFFSET_BEGINNING)
            arrived = {name for name, _ in new}
            self.missing = [name for name in self.missing if name not in arrived]
            self._assign()

    def _report(self, name: str, error: KafkaError) -> None:
        """Log it, once while it lasts."""
        if self._strict:
            raise self._unavailable(name, KafkaException(error))
        away = error.code() == KafkaError._ALL_BROKERS_DOWN
        if (away or error.code() not in _PASSING) and self._reported != error.str():
            self._reported = error.str()
            what = ", ".join(self._topics) if away else name
            _LOG.warning("%s can't be read from Kafka at %s now: %s", what, self._address, self._reported)

    def _wants(self, message: Message) -> bool:
        return self._keys is None or message.key() in self._keys

    def _message(self, message: Message) -> LogMessage:
        return LogMessage(
            self._topics[message.topic() or ""],
            message.partition() or 0,
            message.offset() or 0,
            (message.key() or b"").decode("utf-8", "replace"),
            message.value(),
            message.timestamp()[1],
        )

    def _unavailable(self, name: str, error: KafkaException) -> KafkaUnavailable:
        return KafkaUnavailable(
            f"{name} can't be read from Kafka at {self._address} ({error.args[0].str()}); "
            "start one with `tidegate up`, or set kafka.bootstrap_servers"
        )


def snapshot(kafka: Kafka, topic: Topic) -> Iterator[LogMessage]:
    """All that a topic holds now. Raises KafkaUnavailable."""
    with TopicLog(kafka, [topic]) as log:
        yield from log.snapshot()


def newest(kafka: Kafka, topic: Topic, model: type[RowType]) -> dict[str, RowType]:
    """The newest row of each key; a tombstone removes it, and of an invalid row the last valid one stays.

    Raises KafkaUnavailable.
    """
    rows: dict[str, RowType] = {}
    for message in snapshot(kafka, topic):
        if message.value is None:
            rows.pop(message.key, None)
        elif row := row_of(message, model):
            rows[message.key] = row
    return rows


def row_of(message: LogMessage, model: type[RowType]) -> RowType | None:
    """The row that a message holds; None, and a warning, where it is not a valid one."""
    try:
        return model.model_validate_json(message.value or b"")
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        _LOG.warning(
            "%s-%d-%d (key %r) is not a valid %s, and left out: %s: %s",
            *(message.topic.name, message.partition, message.offset, message.key, model.__name__),
            *(".".join(map(str, wrong["loc"])) or "the whole", wrong["msg"]),
        )
        return None
