"""The manager's audit log: `tidegate.changes`, written before and after each change.

A change begins only after its first row is in the log: if Kafka does not acknowledge the row in time, the change is
rejected. A second row with the same id holds the outcome. If Kafka fails in between, the caller gets an error, and the
row waits in this process until Kafka is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidegate.schemas import topics
from tidegate.schemas.rows.limits import ChangeRow
from tidegate.schemas.settings import Kafka

_POLL_SECONDS = 0.05


class AuditFailed(Exception):
    """Kafka did not acknowledge a row in time, or rejects it. The message names the fault and the remedy."""


class Audit(Protocol):
    """A log of changes."""

    def write(self, rows: Sequence[ChangeRow]) -> None:
        """Write rows, and return once all are durable. Raises AuditFailed."""

    def enqueue(self, row: ChangeRow) -> None:
        """Write a row in the background, without an error."""

    def check(self) -> None:
        """Raises AuditFailed if rows can't be written now."""


class KafkaAudit:
    """The audit log in Kafka. wait_seconds: the time in which a row must be acknowledged."""

    def __init__(self, kafka: Kafka, wait_seconds: float = 5) -> None:
        self._topic = kafka.topic(topics.CHANGES)
        self._wait_seconds = wait_seconds
        self._address = kafka.bootstrap_servers
        self._producer = Producer(
            {
                **kafka.client_config(),
                "enable.idempotence": True,
                "linger.ms": 0,
                # No timeout: a late row is still published, as long as this process lives.
                "message.timeout.ms": 0,
                "log_level": 4,
            }
        )

    def write(self, rows: Sequence[ChangeRow]) -> None:
        """Write rows, and return once Kafka acknowledges all. Raises AuditFailed if it does not in time."""
        deliveries = _Deliveries(len(rows))
        deadline = time.monotonic() + self._wait_seconds
        for row in rows:
            self._produce(row, deliveries)
        while not deliveries.done and time.monotonic() < deadline:
            self._producer.poll(_POLL_SECONDS)
        if deliveries.refused is not None:
            raise AuditFailed(f"Kafka rejects the audit row: {deliveries.refused}")
        if not deliveries.done:
            raise AuditFailed(
                f"Kafka at {self._address} did not acknowledge the audit row within {self._wait_seconds:g} s; "
                "check that the brokers run, then repeat the request with the same revision"
            )

    def enqueue(self, row: ChangeRow) -> None:
        """Queue a row, which Kafka gets as soon as it is available."""
        try:
            self._produce(row, _Deliveries(1))
            self._producer.poll(0)
        except AuditFailed:
            return

    def check(self) -> None:
        """Raises AuditFailed if no broker answers."""
        try:
            self._producer.list_topics(self._topic, timeout=2)
        except KafkaException as error:
            raise AuditFailed(
                f"no Kafka answers at {self._address} ({error.args[0].str()}); check that the brokers run"
            ) from error

    def close(self) -> None:
        """Wait up to wait_seconds for rows that Kafka has not acknowledged."""
        self._producer.flush(self._wait_seconds)

    def _produce(self, row: ChangeRow, deliveries: _Deliveries) -> None:
        key = row.gateway or "" if row.task is None else f"{row.department}/{row.task}"
        try:
            self._producer.produce(self._topic, row.model_dump_json(), key, on_delivery=deliveries.delivered)
        except BufferError as error:
            raise AuditFailed(
                f"Kafka at {self._address} has not acknowledged audit rows for so long that the queue is full; "
                "check that the brokers run"
            ) from error
        except KafkaException as error:
            raise AuditFailed(f"Kafka rejects the audit row: {error.args[0].str()}") from error


class _Deliveries:
    """The rows of one write that are not acknowledged yet."""

    def __init__(self, rows: int) -> None:
        self._left = rows
        self._lock = threading.Lock()
        self.refused: str | None = None

    @property
    def done(self) -> bool:
        return self._left == 0 or self.refused is not None

    def delivered(self, error: KafkaError | None, _: Message) -> None:
        with self._lock:
            self._left -= 1
            if error is not None:
                self.refused = error.str()
