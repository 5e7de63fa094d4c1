"""Reads several topics back from Kafka, from a moment or whole, then what comes. Beside every consumer group."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidegate.adapters.kafka.client import KafkaUnavailable, partition_range
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import to_epoch_ms
from tidegate.schemas.topics import Topic

_TIMEOUT_SECONDS = 10.0
_CRITICAL = 2
_READ_AT_ONCE = 500
_STEP_SECONDS = 0.05


@dataclass(frozen=True)
class Told:
    """One message of a topic. value None: its key was removed. at_ms: when Kafka got it."""

    topic: Topic
    key: str
    value: bytes | None
    at_ms: int


class TopicsReader:
    """Reads what these topics hold, then what comes. A topic that doesn't exist holds nothing.

    keys: only messages of these, None: all. Raises KafkaUnavailable when no broker answers.
    """

    def __init__(self, kafka: Kafka, topics: Iterable[Topic], keys: Iterable[str] | None = None) -> None:
        self._address = kafka.bootstrap_servers
        self._keys = None if keys is None else {key.encode() for key in keys}
        self._topics = {kafka.topic(topic): topic for topic in topics}
        self._consumer = Consumer(
            kafka.client_config()
            | {
                "group.id": f"tidegate-limits-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "queued.max.messages.kbytes": 16_384,
                "log_level": _CRITICAL,  # what goes wrong is told once, by our own errors
            }
        )
        self._read_to: dict[tuple[str, int], int] = {}
        self.missing: list[str] = []
        """The topics that didn't exist when they were read."""

    def read(self, since: Mapping[Topic, datetime | None]) -> list[Told]:
        """All messages that Kafka got at a topic's moment or later, None: all, up to now. A partition's in order."""
        left: dict[tuple[str, int], int] = {}
        places = []
        for name, topic in self._topics.items():
            if topic not in since:
                continue
            for partition, (low, high) in self._ends(name).items():
                self._read_to[name, partition] = high
                begin = self._begin(name, partition, since[topic], low, high)
                if begin < high:
                    left[name, partition] = high
                    places.append(TopicPartition(name, partition, begin))
        self._consumer.assign(places)
        found = list(self._until(left))
        self._consumer.unassign()
        return found

    def follow(self) -> None:
        """From now on `coming` gives what comes after what was read."""
        self._consumer.assign([TopicPartition(*place, at) for place, at in self._read_to.items()])

    def coming(self, wait_seconds: float) -> list[Told]:
        """What has come since the last time; waits no longer than this. Kafka away is waited out."""
        messages = self._consumer.consume(_READ_AT_ONCE, wait_seconds)
        return [self._message(one) for one in messages if one.error() is None and self._wants(one)]

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _until(self, left: dict[tuple[str, int], int]) -> Iterable[Told]:
        heard_at = time.monotonic()
        while left:
            messages = self._consumer.consume(_READ_AT_ONCE, _STEP_SECONDS)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > _TIMEOUT_SECONDS:
                names = ", ".join(sorted({name for name, _ in left}))
                raise KafkaUnavailable(f"Kafka at {self._address} stopped answering while {names} was read")
            for message in messages:
                place = message.topic() or "", message.partition() or 0
                error, offset = message.error(), message.offset() or 0
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise self._unavailable(place[0], KafkaException(error))
                if place not in left:
                    continue
                if error is None and offset < left[place] and self._wants(message):
                    yield self._message(message)
                if error is not None or offset >= left[place] - 1:
                    del left[place]

    def _ends(self, name: str) -> dict[int, tuple[int, int]]:
        try:
            found = self._consumer.list_topics(name, timeout=_TIMEOUT_SECONDS).topics[name]
            if found.error is not None:
                if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    self.missing.append(name)
                    return {}
                raise KafkaException(found.error)
            return {
                number: partition_range(self._consumer, name, number, _TIMEOUT_SECONDS)
                for number in found.partitions
            }
        except KafkaException as error:
            raise self._unavailable(name, error) from error

    def _begin(self, name: str, partition: int, since: datetime | None, low: int, high: int) -> int:
        if since is None or low >= high:
            return low
        asked = TopicPartition(name, partition, to_epoch_ms(since))
        try:
            (found,) = self._consumer.offsets_for_times([asked], timeout=_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise self._unavailable(name, error) from error
        return found.offset if found.offset >= 0 else high

    def _wants(self, message: Message) -> bool:
        return self._keys is None or message.key() in self._keys

    def _message(self, message: Message) -> Told:
        return Told(
            self._topics[message.topic() or ""],
            (message.key() or b"").decode("utf-8", "replace"),
            message.value(),
            message.timestamp()[1],
        )

    def _unavailable(self, name: str, error: KafkaException) -> KafkaUnavailable:
        return KafkaUnavailable(
            f"{name} can't be read from Kafka at {self._address} ({error.args[0].str()}); "
            "start one with `tidegate up`, or set kafka.bootstrap_servers"
        )
