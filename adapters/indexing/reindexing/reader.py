"""Reads one topic from given offsets to where it ends just now, beside every consumer group."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from confluent_kafka import OFFSET_BEGINNING, Message, TopicPartition

from tidegate.adapters.indexing.batch import Partition
from tidegate.adapters.indexing.reader import GiveBack, TopicReader
from tidegate.schemas.settings import Kafka


class RangeReader(TopicReader):
    """As TopicReader, but alone with all partitions, not beyond their ends, and nothing is committed in Kafka.

    begin: the first offset of each partition; of one that isn't in it, its first message. Raises KafkaUnavailable.
    """

    def __init__(self, kafka: Kafka, topic: str, begin: Mapping[Partition, int]) -> None:
        super().__init__(kafka, f"tidegate-reindex-{uuid.uuid4()}", [topic], bounded=True)
        self._begin = dict(begin)
        self._given: dict[Partition, int] = {}
        """Beyond the last message that was read, by partition."""
        self._over = {partition for partition, end in self.ends.items() if begin.get(partition, 0) >= end}

    @property
    def ends(self) -> Mapping[Partition, int]:
        """Where the partitions ended when this was made; those that held nothing then are left out."""
        return dict(self._ends or {})

    @property
    def messages(self) -> int:
        """How many there are to be read, where none was deleted."""
        return sum(max(0, end - self._begin.get(partition, 0)) for partition, end in self.ends.items())

    def subscribe(self, give_back: GiveBack) -> None:
        """Begin to read. Nobody takes partitions away, so nothing is given back."""
        del give_back
        self._consumer.assign(
            [
                TopicPartition(*partition, self._begin.get(partition, OFFSET_BEGINNING))
                for partition in self.ends.keys() - self._over
            ]
        )

    def read(self, messages: int, timeout_seconds: float) -> list[Message]:
        """Up to so many messages before the ends. Raises KafkaException for what no waiting mends."""
        found, ends = [], self.ends
        for message in super().read(messages, timeout_seconds):
            topic, number, offset = message.topic(), message.partition(), message.offset()
            if topic is None or number is None or offset is None:
                continue
            partition = (topic, number)
            end = ends[partition]
            if message.error() is None and offset < end:
                found.append(message)
                self._given[partition] = offset + 1
            # The end itself need not be a message: a compacted topic has gaps.
            if offset + (message.error() is None) >= end:
                self._over.add(partition)
        return found

    def commit(self, next_offsets: Mapping[Partition, int]) -> None:
        """Remember how far everything is done."""
        self._committed.update(next_offsets)

    def at_the_end(self) -> bool:
        """Whether everything before the ends is done."""
        return self.ends.keys() == self._over and all(
            self._committed.get(partition, 0) >= given for partition, given in self._given.items()
        )
