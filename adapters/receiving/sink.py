"""Lines into `gateway.access-logs`: delivered once Kafka has acknowledged them, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from prometheus_client import CollectorRegistry, Counter

from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kafka.dead_letters import DeadLetterWriter
from tidegate.schemas.dead_letters import dead_letter
from tidegate.schemas.settings import Settings
from tidegate.schemas.topics import ACCESS_LOGS, DEAD_LETTERS

WRITER = "receiver"
_REFUSALS = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})
_FRAME_BYTES = 1024


class LineSink:
    """Delivers lines, from any thread. Raises KafkaUnavailable and KafkaException at the start."""

    def __init__(self, settings: Settings) -> None:
        own = settings.receive
        self._timeout_seconds = own.timeout_seconds
        self._max_line_bytes = own.max_line_bytes
        self._topic = settings.kafka.topic(ACCESS_LOGS)
        ensure_topics(settings.kafka, [ACCESS_LOGS, DEAD_LETTERS])
        self._letters = DeadLetterWriter(settings.kafka)
        self._writing_letters = threading.Lock()
        self._producer = Producer(
            {
                **settings.kafka.client_config(),
                "client.id": "tidegate-receive",
                "enable.idempotence": True,
                "linger.ms": 20,
                "compression.type": "lz4",
                "message.max.bytes": own.max_line_bytes + _FRAME_BYTES,
                "message.timeout.ms": round(1000 * own.timeout_seconds),
                "queue.buffering.max.kbytes": own.buffer_mib * 1024,
                "log_level": 3,
            }
        )
        self._closing = threading.Event()
        self._polling = threading.Thread(target=self._poll, daemon=True)
        self._polling.start()
        self.registry = CollectorRegistry()
        self._lines = Counter(
            "tidegate_receive_lines",
            "Lines by protocol and outcome.",
            ["protocol", "outcome"],
            registry=self.registry,
        )

    @property
    def ready(self) -> bool:
        """Whether Kafka answers."""
        try:
            self._producer.list_topics(self._topic, timeout=2)
        except KafkaException:
            return False
        return True

    def deliver(self, lines: Sequence[bytes], protocol: str, give_up: Callable[[], bool]) -> list[bytes]:
        """Wait until Kafka has acknowledged the lines; returns those that it has not, to be delivered again.

        Also waits for room in memory, until `give_up()`. A line that Kafka will never accept is a dead letter.
        """
        batch = _Batch()
        left: list[bytes] = []
        refused: list[bytes] = []
        for number, line in enumerate(lines):
            if len(line) > self._max_line_bytes:
                refused.append(line)
            elif not self._produce(line, batch, give_up):
                left += lines[number:]
                break
        failed, too_large = batch.wait()
        left += failed
        refused += too_large
        unreported = self._refuse(refused) if refused else []
        left += unreported
        self._lines.labels(protocol, "delivered").inc(len(lines) - len(left) - len(refused) + len(unreported))
        self._lines.labels(protocol, "dead_letter").inc(len(refused) - len(unreported))
        self._lines.labels(protocol, "not_acknowledged").inc(len(left))
        return left

    def close(self) -> None:
        """Wait for Kafka's acknowledgements, at most as long as one line may take."""
        self._producer.flush(self._timeout_seconds)
        self._closing.set()
        self._polling.join(5)

    def _produce(self, line: bytes, batch: _Batch, give_up: Callable[[], bool]) -> bool:
        while True:
            batch.expect()
            try:
                self._producer.produce(self._topic, line, on_delivery=partial(batch.delivered, line))
            except BufferError:
                batch.withdraw()
                if give_up() or self._closing.wait(0.05):
                    return False
            else:
                return True

    def _refuse(self, lines: Sequence[bytes]) -> list[bytes]:
        """Publish dead letters; returns the lines whose letters Kafka has not acknowledged."""
        now = datetime.now(UTC)
        reason = f"line: longer than receive.max_line_bytes ({self._max_line_bytes}), or refused by Kafka"
        letters = [
            dead_letter(self._topic, None, None, reason, line, WRITER, now, source=sha256(line).hexdigest())
            for line in lines
        ]
        with self._writing_letters:
            left, _ = self._letters.write(letters)
        missing = {letter.id for letter in left}
        return [line for line, letter in zip(lines, letters, strict=True) if letter.id in missing]

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.1)


class _Batch:
    """The delivery reports of lines that were produced together."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = 0
        self._failed: list[bytes] = []
        self._refused: list[bytes] = []

    def expect(self) -> None:
        """Expect one more report."""
        with self._changed:
            self._waiting += 1

    def withdraw(self) -> None:
        """Expect one report less: the line was not produced."""
        with self._changed:
            self._waiting -= 1

    def delivered(self, line: bytes, error: KafkaError | None, _: Message) -> None:
        """Take one report."""
        with self._changed:
            self._waiting -= 1
            if error is not None:
                (self._refused if error.code() in _REFUSALS else self._failed).append(line)
            if self._waiting == 0:
                self._changed.notify_all()

    def wait(self) -> tuple[list[bytes], list[bytes]]:
        """The lines that did not arrive in time, and those that Kafka refuses. The producer's timeout bounds it."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting == 0)
            return self._failed, self._refused
