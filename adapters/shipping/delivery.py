"""One producer's life: messages into a topic in batches, and which of them Kafka has answered."""

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
"""How long a broker may take to answer when we connect."""
BY_KEY = -1
"""Instead of a partition: the one that the message's key, or chance, gives."""
_PARTITIONS_SECONDS = 300.0
_FRAME_BYTES = 1024
"""Room for a record batch's header and a record's fields around one line."""
_LINES_FAULT = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.RECORD_LIST_TOO_LARGE}
)
"""The broker will never take this message, or this batch: then each message of it is tried alone."""


class Shipment:
    """Messages that were sent together, and how many of them Kafka hasn't answered yet.

    refused: the values that it will never take in this batch, in order. failure: why others did not arrive,
    for no fault of theirs.
    """

    __slots__ = ("_finished", "alone", "failure", "number", "refused", "remaining")

    def __init__(self, number: int, size: int, finished: list[Shipment], alone: bool) -> None:
        self.number = number
        self.remaining = size
        self.alone = alone
        self.refused: list[bytes] = []
        self.failure: KafkaError | None = None
        self._finished = finished

    def report(self, error: KafkaError | None, message: Message) -> None:
        """The delivery report of one message. Called for each, so nothing is done here that can wait."""
        if error is not None:
            self.refuse(error, message.value() or b"")
        self.remaining -= 1
        if not self.remaining:
            self._finished.append(self)

    def refuse(self, error: KafkaError, value: bytes | str) -> None:
        """Keep why one message was not taken."""
        if error.code() in _LINES_FAULT:
            self.refused.append(value.encode() if isinstance(value, str) else value)
        else:
            self.failure = error

    def answered(self, count: int) -> None:
        """So many messages were answered without a report."""
        self.remaining -= count
        if count and not self.remaining:
            self._finished.append(self)


class Link:
    """A connection to Kafka. After a failure it is closed, and another one made.

    Raises KafkaException at the start where the topic isn't there, or nobody answers.
    """

    def __init__(self, kafka: Kafka, shipper: Shipper, topic: str) -> None:
        self.failure: str | None = None
        self._finished: list[Shipment] = []
        self._topic = topic
        self._config = {**kafka.client_config(), **_config(shipper, _broker_limit(kafka, topic))}
        self._alone: Producer | None = None
        self._producer = self._new_producer({})
        self._turn = 0
        self._partitions = self._count_partitions()
        self._partitions_at = time.monotonic()

    def next_partition(self) -> int:
        """The partition whose turn it is."""
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

    def poll(self, seconds: float) -> Sequence[Shipment]:
        """Wait up to so long for reports. Returns the shipments that are answered whole."""
        self._producer.poll(seconds)
        if self._alone is not None:
            self._alone.poll(0)
        if time.monotonic() - self._partitions_at > _PARTITIONS_SECONDS:
            self._look_at_partitions()
        finished, self._finished[:] = self._finished[:], []
        return finished

    def flush(self, seconds: float) -> None:
        """Send what is gathered without waiting for more, and wait up to so long for the answers."""
        if self._alone is not None:
            self._alone.flush(seconds)
        self._producer.flush(seconds)

    def close(self) -> None:
        """Give up what isn't answered."""
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
        shipment = Shipment(number, len(messages), self._finished, alone)
        while messages:
            taken = producer.produce_batch(topic, messages, partition, on_delivery=shipment.report)
            if taken == len(messages):
                return
            left = [message for message in messages if "_error" in message]
            full = [message for message in left if message["_error"].code() == KafkaError._QUEUE_FULL]
            for message in left:
                error = message.pop("_error")
                if error.code() != KafkaError._QUEUE_FULL:
                    shipment.refuse(error, message["value"])
            shipment.answered(len(left) - len(full))
            if full:
                producer.poll(0.05)
            messages = full

    def _new_producer(self, more: dict[str, Any]) -> Producer:
        return Producer({**self._config, **more, "error_cb": self._on_error, "logger": log})

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.failure = error.str()
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            log.warning("no Kafka answers (%s); lines wait until it is back", error.str())

    def _count_partitions(self) -> int:
        topic = self._producer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic]
        if topic.error is not None:
            raise KafkaException(topic.error)
        return len(topic.partitions)

    def _look_at_partitions(self) -> None:
        self._partitions_at = time.monotonic()
        try:
            self._partitions = self._count_partitions()
        except KafkaException as error:
            log.info("partitions of %s not known anew: %s", self._topic, error.args[0].str())


def _config(shipper: Shipper, broker_limit: int | None) -> dict[str, str | int | float | bool]:
    """librdkafka's properties. Retried for ever: a line is given up by nobody but its broker."""
    batch = min(shipper.batch_bytes, broker_limit or shipper.batch_bytes)
    return {
        "client.id": "tidegate-shipper",
        "enable.idempotence": True,
        "message.timeout.ms": 0,
        "topic.metadata.propagation.max.ms": 10_000,  # a topic that is gone for longer is made again
        "compression.type": shipper.compression,
        "linger.ms": shipper.linger_ms,
        "batch.size": batch,
        "batch.num.messages": 1_000_000,
        "message.max.bytes": max(shipper.max_line_bytes + _FRAME_BYTES, batch),
        # The sender counts bytes itself. These stand well above what it lets through.
        "queue.buffering.max.kbytes": 2 * 1024 * shipper.buffer_mib + 131_072,
        "queue.buffering.max.messages": 10_000_000,
    }


def _broker_limit(kafka: Kafka, topic: str) -> int | None:
    """The largest record batch that the topic takes, in bytes; None where we may not know it."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    client = AdminClient({**kafka.client_config(), "log_level": 2})  # what fails is told below
    try:
        answers = client.describe_configs([resource], request_timeout=ANSWER_SECONDS)
        return int(answers[resource].result(ANSWER_SECONDS)["max.message.bytes"].value)
    except (KafkaException, TimeoutError, KeyError) as error:
        log.info("max.message.bytes of topic %s isn't known (%s)", topic, error)
        return None
