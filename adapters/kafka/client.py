"""What all Kafka clients share: topics are created at the start, and errors name the remedy."""

from __future__ import annotations

import time
from collections.abc import Iterable

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import Topic

_LEADER_WAIT_SECONDS = 0.1


class KafkaUnavailable(Exception):
    """Kafka did not answer. The message names the address and the remedy."""


def ensure_topics(kafka: Kafka, topics: Iterable[Topic], timeout_seconds: float = 30) -> None:
    """Create the missing topics, unless `kafka.create_topics` is off.

    Raises KafkaUnavailable if no broker answers in time, KafkaException if a topic can't be created.
    """
    client = AdminClient({**kafka.client_config(), "log_level": 4})
    try:
        existing = client.list_topics(timeout=timeout_seconds).topics
    except KafkaException as error:
        raise KafkaUnavailable(
            f"no Kafka answers at {kafka.bootstrap_servers} ({error.args[0].str()}); start one with "
            "`tidegate up`, or set kafka.bootstrap_servers"
        ) from error
    missing = [topic for topic in topics if kafka.topic(topic) not in existing]
    if not missing or not kafka.create_topics:
        return
    for name, future in client.create_topics([_new_topic(kafka, topic) for topic in missing]).items():
        try:
            future.result(timeout_seconds)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaException(f"topic {name} could not be created: {error.args[0].str()}") from error


_LEADER_MOVES = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


def partition_range(
    consumer: Consumer, topic: str, partition: int, timeout_seconds: float
) -> tuple[int, int]:
    """A partition's low and high watermark. Waits while a new or moving partition has no leader.

    Raises KafkaException for any other error, and on timeout.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            low, high = consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=timeout_seconds
            )
            return low, high
        except KafkaException as error:
            if error.args[0].code() not in _LEADER_MOVES or time.monotonic() > deadline:
                raise
            time.sleep(_LEADER_WAIT_SECONDS)


def _new_topic(kafka: Kafka, topic: Topic) -> NewTopic:
    config: dict[str, str] = {"cleanup.policy": topic.cleanup}
    if topic.retention_hours is not None:
        config["retention.ms"] = str(int(topic.retention_hours * 3_600_000))
    if topic.whole_hours is not None:
        config["min.compaction.lag.ms"] = str(int(topic.whole_hours * 3_600_000))
    if topic.broker_time:
        config["message.timestamp.type"] = "LogAppendTime"
    return NewTopic(
        kafka.topic(topic),
        num_partitions=topic.partitions or kafka.partitions,
        replication_factor=kafka.replication_factor,
        config=config,
    )
