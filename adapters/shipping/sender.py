"""Blocks of lines into one Kafka topic: in bounded memory, and sure of what has arrived.

Every message has a delivery report. At 1.5 KB a line that costs a small part of what sending it costs
(benchmarks/ship.py), and it is the one way to know that stays right when a broker refuses messages in the
middle. Whatever goes wrong that isn't a line's own fault (no topic, no permission, a fatal producer error)
leads to a new producer, which sends again what hasn't arrived. A broker that is away is only waited for.
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

from tidegate.adapters.kafka.client import KafkaUnavailable, dead_letter, ensure_topics
from tidegate.adapters.shipping.delivery import ANSWER_SECONDS, BY_KEY, Link, Shipment
from tidegate.adapters.shipping.lines import lines_of, offset_of
from tidegate.schemas.settings import Kafka, Shipper
from tidegate.schemas.topics import ACCESS_LOGS, DEAD_LETTERS, Topic

log = logging.getLogger(__name__)

WRITER = "shipper"
_MESSAGE_COST_BYTES = 400
"""What librdkafka and its binding need for a message besides the value."""
_RETRY_SECONDS = 1.0
_MAX_RETRY_SECONDS = 30.0
_FLUSH_STEP_SECONDS = 0.1


def untouched(lines: Sequence[bytes], path: Path) -> list[dict[str, Any]]:
    """Each line as it is, without a key."""
    return [{"value": line} for line in lines]


@dataclass(frozen=True)
class Destination:
    """Where lines go, and what message a line becomes.

    messages: for lines of one file and its path, a dict with `value` and maybe `key` for each line, in order.
    split: what a block's lines are, and how many empty ones were left out; each is found again in the block.
    keyed: the key decides the partition. partition: the one that gets everything. With neither, whole blocks
    go to the partitions in turn.
    """

    topic: Topic = ACCESS_LOGS
    messages: Callable[[Sequence[bytes], Path], list[dict[str, Any]]] = untouched
    split: Callable[[bytes], tuple[list[bytes], int]] = lines_of
    keyed: bool = False
    partition: int | None = None


@dataclass(frozen=True)
class Origin:
    """Where in which file something stands. identity: the file, by its first bytes; offset in bytes."""

    path: Path
    identity: str
    offset: int


@dataclass
class Counts:
    """What the sender did so far. `resent` lines may be in Kafka twice."""

    lines: int = 0
    line_bytes: int = 0
    empty: int = 0
    dead: int = 0
    resent: int = 0


@dataclass(eq=False)
class Parcel:
    """A block of lines, or a dead letter, on its way. `letters` are those that its refused lines became."""

    origin: Origin
    block: bytes
    lines: int
    is_letter: bool = False
    arrived: bool = False
    letters: list[Parcel] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Everything of it is in Kafka, as a line or as a dead letter."""
        return self.arrived and all(letter.done for letter in self.letters)

    @property
    def cost(self) -> int:
        """Bytes of memory, about: the block, librdkafka's copy of it, and what each message needs."""
        return 2 * len(self.block) + _MESSAGE_COST_BYTES * self.lines


class Sender:
    """Sends blocks of lines. What it returns for each says whether that has arrived."""

    def __init__(self, kafka: Kafka, shipper: Shipper, destination: Destination) -> None:
        self.counts = Counts()
        self._kafka = kafka
        self._shipper = shipper
        self._destination = destination
        self._topic = kafka.topic(destination.topic)
        self._letters = kafka.topic(DEAD_LETTERS)
        self._buffer_bytes = shipper.buffer_mib * 1_048_576
        self.bytes_held = 0
        self._parcels: dict[int, Parcel] = {}
        self._numbers = count()
        self._link: Link | None = None
        self._helper = ThreadPoolExecutor(1, "shipper-connect")
        self._attempt: Future[Link] | None = None
        self._retry_at = 0.0
        self._retry_seconds = _RETRY_SECONDS

    @property
    def connected(self) -> bool:
        """Whether Kafka has answered, and nothing has failed since."""
        return self._link is not None

    @property
    def idle(self) -> bool:
        """Whether everything sent has arrived."""
        return not self._parcels

    def has_room(self) -> bool:
        """Whether more may be sent now. At most one block more than the buffer's size is ever held."""
        return self._link is not None and self.bytes_held < self._buffer_bytes

    def send_lines(self, origin: Origin, block: bytes) -> Parcel:
        """Send the lines of a block; its empty ones are left out, and counted."""
        lines, empty = self._destination.split(block)
        self.counts.empty += empty
        parcel = Parcel(origin, block, len(lines), arrived=not lines)
        if lines:
            self._send(parcel, lines)
        return parcel

    def send_letter(self, origin: Origin, reason: str, value: bytes) -> Parcel:
        """Tell in the dead letters of an input that can't be sent."""
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
        parcel = Parcel(origin, letter.model_dump_json().encode(), 1, is_letter=True)
        self._send(parcel)
        return parcel

    def poll(self, seconds: float) -> None:
        """Serve delivery reports, waiting up to so long for the first. Connects, also after a failure."""
        if self._link is None:
            self._connect()
        if self._link is None:
            time.sleep(seconds)
            return
        for shipment in self._link.poll(seconds):
            if shipment.failure is not None:
                self._link.failure = shipment.failure.str()
            elif shipment.refused and self._parcels[shipment.number].is_letter:
                self._link.failure = f"topic {self._letters} refuses a dead letter"
            else:
                self._answered(self._link, shipment)
        if self._link.failure is not None:
            self._disconnect(self._link, self._link.failure)

    def flush(self, seconds: float) -> bool:
        """Wait up to so long until everything has arrived; returns whether it has."""
        deadline = time.monotonic() + seconds
        while not self.idle and time.monotonic() < deadline:
            if self._link is not None:
                self._link.flush(_FLUSH_STEP_SECONDS)
            self.poll(0.01)
        return self.idle

    def close(self) -> None:
        """Drop the connection, and what hasn't arrived."""
        self._helper.shutdown(cancel_futures=True)
        if self._link is not None:
            self._link.close()
            self._link = None

    def _send(self, parcel: Parcel, lines: list[bytes] | None = None) -> None:
        number = next(self._numbers)
        self._parcels[number] = parcel
        self.bytes_held += parcel.cost
        if self._link is not None:
            self._transmit(self._link, number, parcel, lines)

    def _transmit(self, link: Link, number: int, parcel: Parcel, lines: list[bytes] | None = None) -> None:
        if parcel.is_letter:
            link.send_alone(number, self._letters, [{"value": parcel.block}], BY_KEY)
        else:
            messages = self._messages(
                parcel, lines if lines is not None else self._destination.split(parcel.block)[0]
            )
            link.send(number, messages, self._partition(link))

    def _partition(self, link: Link) -> int:
        if self._destination.keyed:
            return BY_KEY
        return link.next_partition() if self._destination.partition is None else self._destination.partition

    def _messages(self, parcel: Parcel, lines: list[bytes]) -> list[dict[str, Any]]:
        return self._destination.messages(lines, parcel.origin.path)

    def _answered(self, link: Link, shipment: Shipment) -> None:
        parcel = self._parcels[shipment.number]
        if shipment.refused and not shipment.alone:
            refused = [message for _, message in self._refused(parcel, shipment)]
            log.warning("%s: Kafka refuses a batch; sending %d lines one by one", self._topic, len(refused))
            partition = BY_KEY if self._destination.partition is None else self._destination.partition
            link.send_alone(shipment.number, self._topic, refused, partition)
            return
        for line, message in self._refused(parcel, shipment) if shipment.refused else ():
            parcel.letters.append(self._letter_of(parcel, line, message["value"]))
        del self._parcels[shipment.number]
        self.bytes_held -= parcel.cost
        parcel.arrived = True
        if parcel.is_letter:
            self.counts.dead += 1
        else:
            self.counts.lines += parcel.lines - len(parcel.letters)
            self.counts.line_bytes += len(parcel.block)
        parcel.block = b""

    def _refused(self, parcel: Parcel, shipment: Shipment) -> list[tuple[bytes, dict[str, Any]]]:
        """The lines that were refused, and the messages that they are; each once, in their order."""
        lines = self._destination.split(parcel.block)[0]
        waiting = Counter(shipment.refused)
        found = []
        for line, message in zip(lines, self._messages(parcel, lines), strict=True):
            if waiting[message["value"]] > 0:
                waiting[message["value"]] -= 1
                found.append((line, message))
        return found

    def _letter_of(self, parcel: Parcel, line: bytes, value: bytes) -> Parcel:
        after = max((letter.origin.offset + 1 - parcel.origin.offset for letter in parcel.letters), default=0)
        place = parcel.origin.offset + max(0, offset_of(line, parcel.block, after))
        origin = Origin(parcel.origin.path, parcel.origin.identity, place)
        return self.send_letter(origin, f"line: Kafka refuses a message of {len(value)} bytes", line)

    def _connect(self) -> None:
        """In another thread, because files have to be looked at while a broker doesn't answer."""
        if self._attempt is None:
            if time.monotonic() >= self._retry_at:
                self._attempt = self._helper.submit(self._new_link)
            return
        if not self._attempt.done():
            return
        attempt, self._attempt = self._attempt, None
        try:
            link = attempt.result()
        except (KafkaUnavailable, KafkaException) as error:
            self._put_off(_reason(error))
            return
        for number, parcel in self._parcels.items():
            self.counts.resent += parcel.lines
            self._transmit(link, number, parcel)
        self._link = link
        self._retry_seconds = _RETRY_SECONDS
        log.info("sending to topic %s at %s", self._topic, self._kafka.bootstrap_servers)

    def _new_link(self) -> Link:
        topics = [self._destination.topic, DEAD_LETTERS]
        ensure_topics(self._kafka, topics, timeout_seconds=ANSWER_SECONDS)
        return Link(self._kafka, self._shipper, self._topic)

    def _disconnect(self, link: Link, reason: str) -> None:
        link.close()
        self._link = None
        self._put_off(reason)

    def _put_off(self, reason: str) -> None:
        log.warning("%s; lines wait, next try in %.0f s", reason, self._retry_seconds)
        self._retry_at = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, _MAX_RETRY_SECONDS)


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(cause)
