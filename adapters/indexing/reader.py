"""The consumer group's member that feeds the indexer: reads, holds, gives partitions back, commits."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tidegate.adapters.indexing.batch import Partition
from tidegate.adapters.kafka.client import KafkaUnavailable, partition_range
from tidegate.schemas.settings import Kafka

logger = logging.getLogger(__name__)

QUEUED_KIB = 16_384
"""Messages that the client fetches ahead: with the two batches all that an indexer holds in memory."""

_TIMEOUT_SECONDS = 10.0
_BOUNDED_CHECK_SECONDS = 0.5
_NO_USE_GOING_ON = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})

GiveBack = Callable[[Collection[Partition]], None]


class TopicReader:
    """Reads topics as one of a consumer group. Offsets are committed by `commit` alone.

    bounded: the reader knows where the topics ended when it was made, and whether the group got there.
    Raises KafkaUnavailable, where it is bounded and no broker answers.
    """

    def __init__(self, kafka: Kafka, group: str, topics: Sequence[str], *, bounded: bool) -> None:
        self._topics = list(topics)
        self._address = kafka.bootstrap_servers
        self._consumer = Consumer(
            kafka.client_config()
            | {
                "group.id": group,
                "client.id": "tidegate-indexer",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                # An instance that was killed keeps its partitions from the others only so long.
                "session.timeout.ms": 10_000,
                # Only partitions that move are taken away, so an instance that holds goes on with the others.
                "partition.assignment.strategy": "cooperative-sticky",
                "enable.partition.eof": bounded,
                "reconnect.backoff.ms": 500,
                "queued.max.messages.kbytes": QUEUED_KIB,
                "fetch.max.bytes": QUEUED_KIB * 1024 // 2,
                # By default a full queue stops fetching for a whole second, in which a bulk could run dry.
                "fetch.queue.backoff.ms": 20,
            }
        )
        self._held = False
        self._uncommitted: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._ends = self._find_ends() if bounded else None
        self._checked_at = 0.0

    def subscribe(self, give_back: GiveBack) -> None:
        """Join the group. `give_back` is called before partitions go to another member, while this reads."""

        def revoked(_: Consumer, partitions: list[TopicPartition]) -> None:
            gone = {(partition.topic, partition.partition) for partition in partitions}
            give_back(gone)
            for partition in gone:
                self._uncommitted.pop(partition, None)
                self._committed.pop(partition, None)

        def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
            # New partitions come unheld; the next `hold` holds them with the others.
            self._held = False
            if partitions:
                names = ", ".join(f"{partition.topic}-{partition.partition}" for partition in partitions)
                logger.info("assigned %s", names)

        self._consumer.subscribe(self._topics, on_assign=assigned, on_revoke=revoked, on_lost=revoked)

    def read(self, messages: int, timeout_seconds: float) -> list[Message]:
        """Up to so many messages, and ends of partitions (a message with error _PARTITION_EOF) where bounded.

        Raises KafkaException for what no waiting mends.
        """
        found = []
        for message in self._consumer.consume(messages, timeout_seconds):
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                found.append(message)
            elif error.fatal() or error.code() in _NO_USE_GOING_ON:
                raise KafkaException(error)
            else:
                logger.warning("Kafka at %s: %s", self._address, error.str())
        return found

    def hold(self) -> None:
        """Fetch nothing, and stay in the group: call `read` meanwhile, which then only serves the group."""
        if not self._held:
            self._consumer.pause(self._consumer.assignment())
            self._held = True

    def resume(self) -> None:
        """Fetch again."""
        self._consumer.resume(self._consumer.assignment())
        self._held = False

    def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        """Commit these, and what an earlier commit could not. A failure is logged; the next repairs it."""
        self._uncommitted.update(next_offsets)
        if not self._uncommitted:
            return
        offsets = [TopicPartition(*partition, offset) for partition, offset in self._uncommitted.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            logger.warning("offsets not committed, next time again: %s", error.args[0].str())
            return
        self._committed.update(self._uncommitted)
        self._uncommitted.clear()

    def at_the_end(self) -> bool:
        """Whether the group has committed everything that the topics held when this bounded reader was made.

        Other members of the group count: no member ends while partitions of another one may come back to it.
        """
        if self._ends is None or time.monotonic() - self._checked_at < _BOUNDED_CHECK_SECONDS:
            return False
        self._checked_at = time.monotonic()
        behind = [
            partition for partition, end in self._ends.items() if self._committed.get(partition, -1) < end
        ]
        if behind:
            asked = [TopicPartition(*partition) for partition in behind]
            try:
                answer = self._consumer.committed(asked, timeout=_TIMEOUT_SECONDS)
            except KafkaException as error:
                logger.warning("the group's offsets are unknown: %s", error.args[0].str())
                return False
            for found in answer:
                self._committed[found.topic, found.partition] = found.offset
        return all(self._committed.get(partition, -1) >= end for partition, end in self._ends.items())

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _find_ends(self) -> dict[Partition, int]:
        ends: dict[Partition, int] = {}
        try:
            for topic in self._topics:
                found = self._consumer.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic]
                if found.error is not None:
                    raise KafkaException(found.error)
                for partition in found.partitions:
                    low, high = partition_range(self._consumer, topic, partition, _TIMEOUT_SECONDS)
                    if high > low:
                        ends[topic, partition] = high
        except KafkaException as error:
            raise KafkaUnavailable(
                f"the ends of {', '.join(self._topics)} can't be read from Kafka at {self._address}: "
                f"{error.args[0].str()}"
            ) from error
        return ends
