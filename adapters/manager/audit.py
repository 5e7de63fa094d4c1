"""The manager's audit log: `tidegate.changes`, written before anything is changed and after it.

Nothing is changed that isn't in the log already: a row says that it begins, and when Kafka doesn't take that in time,
the change is refused. A second row with the same id says what came of it. Kafka away in between: the caller is told,
and the row waits in this process for Kafka to come back.
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
    """Kafka didn't take a row in time, or refuses it. The message says which, and what to do."""


class Audit(Protocol):
    """Where changes are told."""

    def write(self, rows: Sequence[ChangeRow]) -> None:
        """Returns when all rows are kept. Raises AuditFailed."""

    def enqueue(self, row: ChangeRow) -> None:
        """As `write`, without waiting and without an error."""

    def check(self) -> None:
        """Raises AuditFailed where rows can't be kept now."""


class KafkaAudit:
    """Rows into Kafka. wait_seconds: how long a row may take."""

    def __init__(self, kafka: Kafka, wait_seconds: float = 5) -> None:
        self._topic = kafka.topic(topics.CHANGES)
        self._wait_seconds = wait_seconds
        self._address = kafka.bootstrap_servers
        self._producer = Producer(
            {
                **kafka.client_config(),
                "enable.idempotence": True,
                "linger.ms": 0,
                # A row that is late is still told, as long as this process lives.
                "message.timeout.ms": 0,
                "log_level": 4,
            }
        )

    def write(self, rows: Sequence[ChangeRow]) -> None:
        """Returns when Kafka has all rows. Raises AuditFailed when it hasn't in time."""
        waiting = _Waiting(len(rows))
        deadline = time.monotonic() + self._wait_seconds
        for row in rows:
            self._produce(row, waiting)
        while not waiting.done and time.monotonic() < deadline:
            self._producer.poll(_POLL_SECONDS)
        if waiting.refused is not None:
            raise AuditFailed(f"Kafka refuses the audit row: {waiting.refused}")
        if not waiting.done:
            raise AuditFailed(
                f"Kafka at {self._address} didn't take the audit row within {self._wait_seconds:g} s; "
                "check that it runs, then try again with the same revision"
            )

    def enqueue(self, row: ChangeRow) -> None:
        """Hand a row to Kafka, whenever that takes it."""
        try:
            self._produce(row, _Waiting(1))
            self._producer.poll(0)
        except AuditFailed:
            return

    def check(self) -> None:
        """Raises AuditFailed where no broker answers."""
        try:
            self._producer.list_topics(self._topic, timeout=2)
        except KafkaException as error:
            raise AuditFailed(f"no Kafka answers at {self._address} ({error.args[0].str()})") from error

    def close(self) -> None:
        """Wait a little for what Kafka hasn't taken yet."""
        self._producer.flush(self._wait_seconds)

    def _produce(self, row: ChangeRow, waiting: _Waiting) -> None:
        key = row.gateway or "" if row.task is None else f"{row.department}/{row.task}"
        try:
            self._producer.produce(self._topic, row.model_dump_json(), key, on_delivery=waiting.delivered)
        except BufferError as error:
            raise AuditFailed(
                f"Kafka at {self._address} hasn't taken the audit for so long that no more fits into memory"
            ) from error
        except KafkaException as error:
            raise AuditFailed(f"Kafka refuses the audit row: {error.args[0].str()}") from error


class _Waiting:
    """How many rows of one write are on their way."""

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
