"""`tidegate watch`: publishes a source's ready replicas to Kafka as whole rows, and never loses the newest of a key.

A source emits rows only while it observes the replicas. Otherwise it is silent, and consumers detect the silence: the
publisher never repeats a row to fill a gap.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tidegate.adapters.backoff import Backoff
from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics
from tidegate.schemas.rows.limits import GatewayRow, ReplicasRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import GATEWAYS, REPLICAS

log = logging.getLogger(__name__)

WatchRow = ReplicasRow | GatewayRow

_SOURCE_WAIT_SECONDS = 0.2
_REPORT_WAIT_SECONDS = 0.01
_FLUSH_SECONDS = 10.0
_MESSAGE_TIMEOUT_MS = 10_000
_RETRY = Backoff(0.5, 10)
_WARN_EVERY_SECONDS = 30.0
_NEVER_TAKEN = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD})
_NO_TOPIC = frozenset(
    {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._MSG_TIMED_OUT}
)
"""The errors of a removed topic: the client waits for the topic until the message times out."""


class SourceFailed(Exception):
    """A source that can't be used, and no retry would help. The message names the fault, its place and the remedy."""


class ReplicaSource(Protocol):
    """A source of ready replicas."""

    @property
    def about(self) -> str:
        """A description of what it follows, for the log."""

    def rows(self, wait_seconds: float) -> Iterable[WatchRow]:
        """The rows that are new or due for a refresh; waits up to wait_seconds for the first.

        None while the source is not proven to be available. Raises SourceFailed.
        """

    def close(self) -> None:
        """Close connections and threads."""


class PublishedRows:
    """The last published row by id: a row is due if it has changed, or was published `refresh_seconds` ago."""

    def __init__(self, refresh_seconds: float) -> None:
        self._refresh = timedelta(seconds=refresh_seconds)
        self._rows: dict[str, WatchRow] = {}

    def due(self, row: WatchRow) -> bool:
        """Whether to publish this row; if so, it counts as published. A row older than the last one is never due."""
        last = self._rows.get(row.id)
        if last is not None:
            age = row.observed_at - last.observed_at
            same = row == last.model_copy(update={"observed_at": row.observed_at})
            if age < timedelta(0) or (same and age < self._refresh):
                return False
        self._rows[row.id] = row
        return True

    def last(self, row_id: str) -> WatchRow | None:
        """The last published row of this id."""
        return self._rows.get(row_id)

    def forget(self, row_id: str) -> None:
        """Forget the last row of this id."""
        self._rows.pop(row_id, None)


@dataclass(frozen=True)
class _Key:
    topic: str
    key: str


class RowPublisher:
    """Publishes rows to `kubernetes.replicas` and `kubernetes.gateways`, at least once, in order within a key.

    While Kafka is away it keeps the newest row of each key, and the one in flight: its memory is bounded by the number
    of tasks, and the last row that Kafka gets is the current state. Not thread-safe.
    """

    def __init__(self, kafka: Kafka) -> None:
        """Connects in the background."""
        self._kafka = kafka
        self._producer = self._new_producer()
        self._in_flight: set[_Key] = set()
        self._waiting: dict[_Key, bytes] = {}
        self._failures = 0
        self._not_before = 0.0
        self._warned_at = -_WARN_EVERY_SECONDS
        self._look_for_topics = False
        self.delivered = 0
        """The number of rows that Kafka has acknowledged."""

    @property
    def busy(self) -> bool:
        """Whether rows are not acknowledged yet."""
        return bool(self._in_flight or self._waiting)

    def publish(self, row: ReplicasRow) -> None:
        """Send a task's row, key `department/task`."""
        self._send(_Key(self._kafka.topic(REPLICAS), f"{row.department}/{row.task}"), row)

    def publish_gateway(self, row: GatewayRow) -> None:
        """Send a gateway's row, key `gateway`."""
        self._send(_Key(self._kafka.topic(GATEWAYS), row.gateway), row)

    def serve(self, wait_seconds: float = 0) -> None:
        """Process delivery reports, waiting up to wait_seconds for one, and send the rows that are due."""
        self._producer.poll(wait_seconds)
        if self._fatal is not None:
            self._replace_producer(self._fatal)
        if self._waiting and time.monotonic() >= self._not_before:
            self._look_at_topics()
            for key in [key for key in self._waiting if key not in self._in_flight]:
                if not self._produce(key, self._waiting[key]):
                    break
                del self._waiting[key]

    def flush(self, timeout_seconds: float) -> int:
        """Wait until all rows are acknowledged, up to the timeout. Returns the number of those that are not."""
        deadline = time.monotonic() + timeout_seconds
        while self.busy and time.monotonic() < deadline:
            self.serve(_REPORT_WAIT_SECONDS)
        return len(self._in_flight | set(self._waiting))

    def _send(self, key: _Key, row: WatchRow) -> None:
        value = row.model_dump_json().encode()
        # One at a time for each key: a newer row must not be overtaken by the retry of an older one.
        if key in self._in_flight or time.monotonic() < self._not_before or not self._produce(key, value):
            self._waiting[key] = value
        else:
            self._waiting.pop(key, None)

    def _produce(self, key: _Key, value: bytes) -> bool:
        """Hand a row to the client. Returns False if it must be retried."""
        on_delivery = partial(self._delivered, key, value)
        try:
            self._producer.produce(key.topic, value=value, key=key.key.encode(), on_delivery=on_delivery)
        except BufferError:
            return False
        except KafkaException as error:
            return self._is_final(key, value, error.args[0])
        self._in_flight.add(key)
        return True

    def _delivered(self, key: _Key, value: bytes, error: KafkaError | None, _: Message) -> None:
        self._in_flight.discard(key)
        if error is None:
            self._failures = 0
            self._not_before = 0.0
            self.delivered += 1
        elif not self._is_final(key, value, error):
            self._waiting.setdefault(key, value)  # unless a newer row waits

    def _is_final(self, key: _Key, value: bytes, error: KafkaError) -> bool:
        """Whether Kafka will never accept this row. Otherwise the next attempt is delayed."""
        if error.code() in _NEVER_TAKEN:
            log.error(
                "%s: Kafka rejects the row of %s (%d bytes): %s; raise the topic's max.message.bytes",
                *(key.topic, key.key, len(value), error.str()),
            )
            return True
        self._look_for_topics = self._look_for_topics or error.code() in _NO_TOPIC
        now = time.monotonic()
        if now >= self._not_before:  # rows that fail together are one failure
            self._failures += 1
            self._not_before = now + _RETRY.delay(self._failures, random.random())  # noqa: S311 (jitter)
        if now - self._warned_at >= _WARN_EVERY_SECONDS:
            self._warned_at = now
            log.warning(
                "Kafka at %s does not accept rows (%s: %s); the newest row of each task is kept until it does",
                *(self._kafka.bootstrap_servers, key.topic, error.str()),
            )
        return False

    def _replace_producer(self, reason: str) -> None:
        """Continue with a new producer, after an error from which the old one never recovers."""
        log.warning("the Kafka producer failed fatally (%s); continuing with a new one", reason)
        self._producer.purge()  # so that every row in flight is reported as failed, and waits again
        self._producer.flush(1)
        self._in_flight.clear()
        self._producer = self._new_producer()

    def _look_at_topics(self) -> None:
        """Create removed topics, if the last failure may be due to one."""
        if not self._look_for_topics:
            return
        try:
            ensure_topics(self._kafka, [REPLICAS, GATEWAYS], timeout_seconds=2)
        except (KafkaUnavailable, KafkaException) as error:
            log.debug("the topics can't be created yet: %s", error)
        else:
            self._look_for_topics = False

    def _new_producer(self) -> Producer:
        self._fatal: str | None = None
        return Producer(
            {
                **self._kafka.client_config(),
                "client.id": "tidegate-watcher",
                "enable.idempotence": True,
                "message.timeout.ms": _MESSAGE_TIMEOUT_MS,
                "linger.ms": 0,  # a scale-down must not wait for a batch
                "compression.type": "lz4",
                "reconnect.backoff.ms": 200,
                "reconnect.backoff.max.ms": 2_000,
                "error_cb": self._client_error,
                "log_level": 4,
            }
        )

    def _client_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error.str()


def run_watcher(kafka: Kafka, source: ReplicaSource, stop: threading.Event) -> int:
    """Publish the source's rows to Kafka until `stop` is set. Returns the number that Kafka has acknowledged.

    Closes the source. Raises KafkaUnavailable or KafkaException if the topics can't be created at the start, and
    SourceFailed.
    """
    try:
        ensure_topics(kafka, [REPLICAS, GATEWAYS])
        publisher = RowPublisher(kafka)
        log.info("watching %s", source.about)
        try:
            while not stop.is_set():
                wait = _REPORT_WAIT_SECONDS if publisher.busy else _SOURCE_WAIT_SECONDS
                for row in source.rows(wait):
                    if isinstance(row, ReplicasRow):
                        publisher.publish(row)
                    else:
                        publisher.publish_gateway(row)
                publisher.serve()
        finally:
            left = publisher.flush(_FLUSH_SECONDS)
            if left:
                log.warning("%d rows were not acknowledged by Kafka within %g s", left, _FLUSH_SECONDS)
    finally:
        source.close()
    return publisher.delivered
