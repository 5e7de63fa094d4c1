"""One connection to Kafka: sends messages in batches, and collects their delivery reports."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    ResourceType,
)

from tidegate.schemas.settings import Kafka, Shipper

log = logging.getLogger(__name__)

ANSWER_SECONDS = 2.0
"""How long a broker may take to answer while connecting."""
BY_KEY = -1
"""Instead of a partition: the one that the message's key gives, or a random one without a key."""
_PARTITIONS_SECONDS = 300.0
_FRAME_BYTES = 1024
"""Space for a record batch's header and a record's fields around one line."""
_REFUSALS = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.RECORD_LIST_TOO_LARGE}
)
"""The broker will never accept this message, or this batch: then each message of it is sent alone."""


class Delivery:
    """Messages that were sent together, and how many of them have no delivery report yet.

    refused: the values that Kafka will never accept in this batch, in order. failure: why others did not
    arrive, through no fault of theirs.
    """

    __slots__ = ("_finished", "alone", "failure", "number", "refused", "remaining")

    def __init__(self, number: int, size: int, finished: list[Delivery], alone: bool) -> None:
        self.number = number
        self.remaining = size
        self.alone = alone
        self.refused: list[bytes] = []
        self.failure: KafkaError | None = None
        self._finished = finished

    def report(self, error: KafkaError | None, message: Message) -> None:
        """Take the delivery report of one message. Called for each message, so it does as little as possible."""
        if error is not None:
            self.refuse(error, message.value() or b"")
        self.remaining -= 1
        if not self.remaining:
            self._finished.append(self)

    def refuse(self, error: KafkaError, value: bytes | str) -> None:
        """Record why one message was not accepted."""
        if error.code() in _REFUSALS:
            self.refused.append(value.encode() if isinstance(value, str) else value)
        else:
            self.failure = error

    def settle(self, count: int) -> None:
        """Count messages that get no delivery report."""
        self.remaining -= count
        if count and not self.remaining:
            self._finished.append(self)


class Connection:
    """A connection to Kafka. After a failure it is closed, and a new one is made.

    Raises KafkaException at the start where the topic doesn't exist, or no broker answers.
    """

    def __init__(self, kafka: Kafka, shipper: Shipper, topic: str) -> None:
        self.failure: str | None = None
        self._finished: list[Delivery] = []
        self._topic = topic
        self._config = {**kafka.client_config(), **_config(shipper, _broker_limit(kafka, topic))}
        self._alone: Producer | None = None
        self._producer = self._new_producer({})
        self._turn = 0
        self._partitions = self._count_partitions()
        self._partitions_at = time.monotonic()

    def next_partition(self) -> int:
        """The next partition, round robin."""
        self._turn = (self._turn + 1) % self._partitions
        return self._turn

    def send(self, number: int, messages: list[dict[str, Any]], partition: int) -> None:
        """Send messages to one partition of the topic, or BY_KEY."""
        self._produce(self._producer, self._topic, number, messages, partition, alone=False)

    def send_alone(self, number: int, topic: str, messages: list[dict[str, Any]], partition: int) -> None:
        """Send each message in a batch of its own."""
        if self._alone is None:
            self._alone = self._new_producer({"batch.num.messages": 1, "linger.ms": 0})
        self._produce(self._alone, topic, number, messages, partition, alone=True)

    def poll(self, seconds: float) -> Sequence[Delivery]:
        """Wait up to `seconds` for delivery reports. Returns the deliveries that are complete."""
        self._producer.poll(seconds)
        if self._alone is not None:
            self._alone.poll(0)
        if time.monotonic() - self._partitions_at > _PARTITIONS_SECONDS:
            self._refresh_partitions()
        finished, self._finished[:] = self._finished[:], []
        return finished

    def flush(self, seconds: float) -> None:
        """Send what is buffered without lingering, and wait up to `seconds` for the delivery reports."""
        if self._alone is not None:
            self._alone.flush(seconds)
        self._producer.flush(seconds)

    def close(self) -> None:
        """Drop what isn't acknowledged."""
        for producer in filter(None, (self._producer, self._alone)):
            producer.purge()
            producer.flush(1)

    def _produce(
        self,
        producer: Producer,
        topic: str,
        number: int,
        messages: list[dict[str, Any]],
        partition: int,
        *,
        alone: bool,
    ) -> None:
        delivery = Delivery(number, len(messages), self._finished, alone)
        while messages:
            taken = producer.produce_batch(topic, messages, partition, on_delivery=delivery.report)
            if taken == len(messages):
                return
            left = [message for message in messages if "_error" in message]
            full = [message for message in left if message["_error"].code() == KafkaError._QUEUE_FULL]
            for message in left:
                error = message.pop("_error")
                if error.code() != KafkaError._QUEUE_FULL:
                    delivery.refuse(error, message["value"])
            delivery.settle(len(left) - len(full))
            if full:
                producer.poll(0.05)
            messages = full

    def _new_producer(self, more: dict[str, Any]) -> Producer:
        return Producer({**self._config, **more, "error_cb": self._on_error, "logger": log})

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.failure = error.str()
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            log.warning("no Kafka broker answers (%s); lines are held until one does", error.str())

    def _count_partitions(self) -> int:
        topic = self._producer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic]
        if topic.error is not None:
            raise KafkaException(topic.error)
        return len(topic.partitions)

    def _refresh_partitions(self) -> None:
        self._partitions_at = time.monotonic()
        try:
            self._partitions = self._count_partitions()
        except KafkaException as error:
            log.info(
                "the number of partitions of %s can't be read again: %s", self._topic, error.args[0].str()
            )


def _config(shipper: Shipper, broker_limit: int | None) -> dict[str, str | int | float | bool]:
    """librdkafka's properties. Sending is retried without end: only a broker's refusal gives a line up."""
    batch = min(shipper.batch_bytes, broker_limit or shipper.batch_bytes)
    return {
        "client.id": "tidegate-shipper",
        "enable.idempotence": True,
        "message.timeout.ms": 0,
        "topic.metadata.propagation.max.ms": 10_000,  # a topic that is missing for longer is created again
        "compression.type": shipper.compression,
        "linger.ms": shipper.linger_ms,
        "batch.size": batch,
        "batch.num.messages": 1_000_000,
        "message.max.bytes": max(shipper.max_line_bytes + _FRAME_BYTES, batch),
        # The sender limits bytes itself. These are well above its limit.
        "queue.buffering.max.kbytes": 2 * 1024 * shipper.buffer_mib + 131_072,
        "queue.buffering.max.messages": 10_000_000,
    }


def _broker_limit(kafka: Kafka, topic: str) -> int | None:
    """The largest record batch that the topic accepts, in bytes; None where it can't be read."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    client = AdminClient({**kafka.client_config(), "log_level": 2})  # a failure is logged below
    try:
        answers = client.describe_configs([resource], request_timeout=ANSWER_SECONDS)
        return int(answers[resource].result(ANSWER_SECONDS)["max.message.bytes"].value)
    except (KafkaException, TimeoutError, KeyError) as error:
        log.info("max.message.bytes of topic %s can't be read (%s)", topic, error)
        return None
