"""Sends blocks of lines to one Kafka topic, in bounded memory, and knows which have arrived.

Every message has a delivery report. At 1.5 KB a line the report costs a small part of the sending
(benchmarks/ship.py), and it alone stays right when a broker refuses messages in the middle of a batch. Any
failure that isn't caused by a line itself (no topic, no permission, a fatal producer error) leads to a new
producer, which sends again what hasn't arrived. For an unavailable broker the sender only waits.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics
from tidegate.adapters.shipping.delivery import ANSWER_SECONDS, BY_KEY, Connection, Delivery
from tidegate.adapters.shipping.envelopes import access_lines
from tidegate.adapters.shipping.lines import offset_of
from tidegate.schemas.dead_letters import dead_letter
from tidegate.schemas.settings import Kafka, Shipper
from tidegate.schemas.topics import ACCESS_LOGS, DEAD_LETTERS, Topic

log = logging.getLogger(__name__)

WRITER = "shipper"
_MESSAGE_COST_BYTES = 400
"""The memory that librdkafka and its binding need for a message besides the value."""
_RETRY_SECONDS = 1.0
_MAX_RETRY_SECONDS = 30.0
_FLUSH_STEP_SECONDS = 0.1


def untouched(lines: Sequence[bytes], path: Path) -> list[dict[str, Any]]:
    """Each line unchanged, without a key."""
    return [{"value": line} for line in lines]


@dataclass(frozen=True)
class Destination:
    """The topic of the lines, and the message that a line becomes.

    messages: for lines of one file and its path, a dict with `value` and maybe `key` for each line, in order.
    split: what a block's lines are, out of their envelopes, and how many empty ones were left out.
    keyed: the key decides the partition. partition: the only one that is written to. With neither, whole blocks
    go to the partitions in turn.
    """

    topic: Topic = ACCESS_LOGS
    messages: Callable[[Sequence[bytes], Path], list[dict[str, Any]]] = untouched
    split: Callable[[bytes], tuple[list[bytes], int]] = access_lines
    keyed: bool = False
    partition: int | None = None


@dataclass(frozen=True)
class Origin:
    """A place in a file. identity: the file, by its first bytes; offset in bytes."""

    path: Path
    identity: str
    offset: int


@dataclass
class Counts:
    """What was sent so far. `resent` lines may be in Kafka twice."""

    lines: int = 0
    line_bytes: int = 0
    empty: int = 0
    dead: int = 0
    resent: int = 0


@dataclass(eq=False)
class PendingBlock:
    """A block of lines, or a dead letter, that is being sent. letters: those that its refused lines became."""

    origin: Origin
    block: bytes
    lines: int
    is_letter: bool = False
    arrived: bool = False
    letters: list[PendingBlock] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether all of it is in Kafka, as lines or as dead letters."""
        return self.arrived and all(letter.done for letter in self.letters)

    @property
    def cost(self) -> int:
        """Approximate memory in bytes: the block, librdkafka's copy of it, and each message's overhead."""
        return 2 * len(self.block) + _MESSAGE_COST_BYTES * self.lines


class Sender:
    """Sends blocks of lines, and returns for each a receipt that it has arrived."""

    def __init__(self, kafka: Kafka, shipper: Shipper, destination: Destination) -> None:
        self.counts = Counts()
        self._kafka = kafka
        self._shipper = shipper
        self._destination = destination
        self._topic = kafka.topic(destination.topic)
        self._letters = kafka.topic(DEAD_LETTERS)
        self._buffer_bytes = shipper.buffer_mib * 1_048_576
        self.bytes_held = 0
        self._pending: dict[int, PendingBlock] = {}
        self._numbers = count()
        self._connection: Connection | None = None
        self._connector = ThreadPoolExecutor(1, "shipper-connect")
        self._attempt: Future[Connection] | None = None
        self._retry_at = 0.0
        self._retry_seconds = _RETRY_SECONDS

    @property
    def connected(self) -> bool:
        """Whether the connection to Kafka stands."""
        return self._connection is not None

    @property
    def idle(self) -> bool:
        """Whether everything sent has arrived."""
        return not self._pending

    def has_room(self) -> bool:
        """Whether more may be sent now. At most one block more than the buffer's size is ever held."""
        return self._connection is not None and self.bytes_held < self._buffer_bytes

    def send_lines(self, origin: Origin, block: bytes) -> PendingBlock:
        """Send the lines of a block; empty ones are skipped and counted."""
        lines, empty = self._destination.split(block)
        self.counts.empty += empty
        pending = PendingBlock(origin, block, len(lines), arrived=not lines)
        if lines:
            self._send(pending, lines)
        return pending

    def send_dead_letter(self, origin: Origin, reason: str, value: bytes) -> PendingBlock:
        """Publish a dead letter for an input that can't be sent."""
        letter = dead_letter(
            self._topic,
            None,
            None,
            f"{reason} ({origin.path}, byte {origin.offset})",
            value,
            WRITER,
            datetime.now(UTC),
            source=f"{origin.identity}@{origin.offset}",
        )
        log.warning("dead letter: %s", letter.reason)
        pending = PendingBlock(origin, letter.model_dump_json().encode(), 1, is_letter=True)
        self._send(pending)
        return pending

    def poll(self, seconds: float) -> None:
        """Serve delivery reports, waiting up to `seconds` for the first. Connects, and reconnects after a failure."""
        if self._connection is None:
            self._connect()
        if self._connection is None:
            time.sleep(seconds)
            return
        for delivery in self._connection.poll(seconds):
            if delivery.failure is not None:
                self._connection.failure = delivery.failure.str()
            elif delivery.refused and self._pending[delivery.number].is_letter:
                self._connection.failure = f"topic {self._letters} refuses a dead letter"
            else:
                self._settle(self._connection, delivery)
        if self._connection.failure is not None:
            self._disconnect(self._connection, self._connection.failure)

    def flush(self, seconds: float) -> bool:
        """Wait up to `seconds` until everything has arrived; returns whether it has."""
        deadline = time.monotonic() + seconds
        while not self.idle and time.monotonic() < deadline:
            if self._connection is not None:
                self._connection.flush(_FLUSH_STEP_SECONDS)
            self.poll(0.01)
        return self.idle

    def close(self) -> None:
        """Close the connection, and drop what hasn't arrived."""
        self._connector.shutdown(cancel_futures=True)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, pending: PendingBlock, lines: list[bytes] | None = None) -> None:
        number = next(self._numbers)
        self._pending[number] = pending
        self.bytes_held += pending.cost
        if self._connection is not None:
            self._transmit(self._connection, number, pending, lines)

    def _transmit(
        self, connection: Connection, number: int, pending: PendingBlock, lines: list[bytes] | None = None
    ) -> None:
        if pending.is_letter:
            connection.send_alone(number, self._letters, [{"value": pending.block}], BY_KEY)
        else:
            messages = self._messages(
                pending, lines if lines is not None else self._destination.split(pending.block)[0]
            )
            connection.send(number, messages, self._partition(connection))

    def _partition(self, connection: Connection) -> int:
        if self._destination.keyed:
            return BY_KEY
        return (
            connection.next_partition()
            if self._destination.partition is None
            else self._destination.partition
        )

    def _messages(self, pending: PendingBlock, lines: list[bytes]) -> list[dict[str, Any]]:
        return self._destination.messages(lines, pending.origin.path)

    def _settle(self, connection: Connection, delivery: Delivery) -> None:
        pending = self._pending[delivery.number]
        if delivery.refused and not delivery.alone:
            refused = [message for _, message in self._refused(pending, delivery)]
            log.warning(
                "topic %s: Kafka refuses a batch; sending its %d refused lines one by one",
                self._topic,
                len(refused),
            )
            partition = BY_KEY if self._destination.partition is None else self._destination.partition
            connection.send_alone(delivery.number, self._topic, refused, partition)
            return
        for line, message in self._refused(pending, delivery) if delivery.refused else ():
            pending.letters.append(self._dead_letter_of(pending, line, message["value"]))
        del self._pending[delivery.number]
        self.bytes_held -= pending.cost
        pending.arrived = True
        if pending.is_letter:
            self.counts.dead += 1
        else:
            self.counts.lines += pending.lines - len(pending.letters)
            self.counts.line_bytes += len(pending.block)
        pending.block = b""

    def _refused(self, pending: PendingBlock, delivery: Delivery) -> list[tuple[bytes, dict[str, Any]]]:
        """The refused lines and their messages, each once, in their order."""
        lines = self._destination.split(pending.block)[0]
        waiting = Counter(delivery.refused)
        found = []
        for line, message in zip(lines, self._messages(pending, lines), strict=True):
            if waiting[message["value"]] > 0:
                waiting[message["value"]] -= 1
                found.append((line, message))
        return found

    def _dead_letter_of(self, pending: PendingBlock, line: bytes, value: bytes) -> PendingBlock:
        after = max(
            (letter.origin.offset + 1 - pending.origin.offset for letter in pending.letters), default=0
        )
        place = pending.origin.offset + max(0, offset_of(line, pending.block, after))
        origin = Origin(pending.origin.path, pending.origin.identity, place)
        return self.send_dead_letter(origin, f"line: Kafka refuses a message of {len(value)} bytes", line)

    def _connect(self) -> None:
        """Connect in another thread, because rotations are followed while no broker answers."""
        if self._attempt is None:
            if time.monotonic() >= self._retry_at:
                self._attempt = self._connector.submit(self._new_connection)
            return
        if not self._attempt.done():
            return
        attempt, self._attempt = self._attempt, None
        try:
            connection = attempt.result()
        except (KafkaUnavailable, KafkaException) as error:
            self._retry_later(_reason(error))
            return
        for number, pending in self._pending.items():
            self.counts.resent += pending.lines
            self._transmit(connection, number, pending)
        self._connection = connection
        self._retry_seconds = _RETRY_SECONDS
        log.info("sending to topic %s at %s", self._topic, self._kafka.bootstrap_servers)

    def _new_connection(self) -> Connection:
        topics = [self._destination.topic, DEAD_LETTERS]
        ensure_topics(self._kafka, topics, timeout_seconds=ANSWER_SECONDS)
        return Connection(self._kafka, self._shipper, self._topic)

    def _disconnect(self, connection: Connection, reason: str) -> None:
        connection.close()
        self._connection = None
        self._retry_later(reason)

    def _retry_later(self, reason: str) -> None:
        log.warning("%s; lines are held, next attempt in %.0f s", reason, self._retry_seconds)
        self._retry_at = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, _MAX_RETRY_SECONDS)


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)
