"""`tidegate watch`: what a source knows of ready replicas, into Kafka: whole rows, the newest state of each never lost.

A source tells rows only while it knows. When it doesn't it tells nothing, and the silence is how consumers learn of it:
a row is never repeated here to fill a gap.
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
"""What is said when a topic may be gone: the client waits for one that was removed until its message is too old."""


class SourceFailed(Exception):
    """A source can't be used, and waiting wouldn't mend it. The message says what, where, and what to do."""


class ReplicaSource(Protocol):
    """Who says which replicas are ready."""

    @property
    def about(self) -> str:
        """What it follows, for the log."""

    def rows(self, wait_seconds: float) -> Iterable[WatchRow]:
        """The rows that are news, or that are due once more; waits up to so long for the first.

        Nothing while the source isn't known to be alive. Raises SourceFailed.
        """

    def close(self) -> None:
        """End what it has open."""


class PublishedRows:
    """What was told last of each row's id: a row is due when it is news, or wasn't told for `refresh_seconds`."""

    def __init__(self, refresh_seconds: float) -> None:
        self._refresh = timedelta(seconds=refresh_seconds)
        self._rows: dict[str, WatchRow] = {}

    def due(self, row: WatchRow) -> bool:
        """Whether to tell this row. If so it counts as told. A row from before what was told is never due."""
        last = self._rows.get(row.id)
        if last is not None:
            age = row.observed_at - last.observed_at
            same = row == last.model_copy(update={"observed_at": row.observed_at})
            if age < timedelta(0) or (same and age < self._refresh):
                return False
        self._rows[row.id] = row
        return True

    def last(self, row_id: str) -> WatchRow | None:
        """What was told last under this id."""
        return self._rows.get(row_id)

    def forget(self, row_id: str) -> None:
        """Tell nothing more of this one, unless it comes anew."""
        self._rows.pop(row_id, None)


@dataclass(frozen=True)
class _Key:
    topic: str
    key: str


class RowPublisher:
    """Rows into `kubernetes.replicas` and `kubernetes.gateways`, at least once, each key in order.

    While Kafka is away it keeps the newest row of each key, and one that is under way: its memory is bounded by the
    number of tasks, and what Kafka gets when it is back ends with what is true then. Not for several threads.
    """

    def __init__(self, kafka: Kafka) -> None:
        """Connects in the background."""
        self._kafka = kafka
        self._producer = self._new_producer()
        self._under_way: set[_Key] = set()
        self._waiting: dict[_Key, bytes] = {}
        self._failures = 0
        self._not_before = 0.0
        self._warned_at = -_WARN_EVERY_SECONDS
        self._look_for_topics = False
        self.delivered = 0
        """Rows that Kafka has acknowledged."""

    @property
    def busy(self) -> bool:
        """Whether Kafka hasn't acknowledged everything."""
        return bool(self._under_way or self._waiting)

    def publish(self, row: ReplicasRow) -> None:
        """Send a task's row, key `department/task`."""
        self._send(_Key(self._kafka.topic(REPLICAS), f"{row.department}/{row.task}"), row)

    def publish_gateway(self, row: GatewayRow) -> None:
        """Send a gateway's row, key `gateway`."""
        self._send(_Key(self._kafka.topic(GATEWAYS), row.gateway), row)

    def serve(self, wait_seconds: float = 0) -> None:
        """Take Kafka's answers, waiting up to so long for one, and send what became due by them."""
        self._producer.poll(wait_seconds)
        if self._fatal is not None:
            self._begin_anew(self._fatal)
        if self._waiting and time.monotonic() >= self._not_before:
            self._look_at_topics()
            for key in [key for key in self._waiting if key not in self._under_way]:
                if not self._produce(key, self._waiting[key]):
                    break
                del self._waiting[key]

    def flush(self, timeout_seconds: float) -> int:
        """Wait up to so long until everything is acknowledged; returns how many rows aren't."""
        deadline = time.monotonic() + timeout_seconds
        while self.busy and time.monotonic() < deadline:
            self.serve(_REPORT_WAIT_SECONDS)
        return len(self._under_way | set(self._waiting))

    def _send(self, key: _Key, row: WatchRow) -> None:
        value = row.model_dump_json().encode()
        # One at a time for each key: a newer row must not be overtaken by the retry of an older one.
        if key in self._under_way or time.monotonic() < self._not_before or not self._produce(key, value):
            self._waiting[key] = value
        else:
            self._waiting.pop(key, None)

    def _produce(self, key: _Key, value: bytes) -> bool:
        """Hand over to the client; False where it must be tried again."""
        told = partial(self._reported, key, value)
        try:
            self._producer.produce(key.topic, value=value, key=key.key.encode(), on_delivery=told)
        except BufferError:
            return False
        except KafkaException as error:
            return self._is_final(key, value, error.args[0])
        self._under_way.add(key)
        return True

    def _reported(self, key: _Key, value: bytes, error: KafkaError | None, _: Message) -> None:
        self._under_way.discard(key)
        if error is None:
            self._failures = 0
            self._not_before = 0.0
            self.delivered += 1
        elif not self._is_final(key, value, error):
            self._waiting.setdefault(key, value)  # where a newer one waits, that one is sent

    def _is_final(self, key: _Key, value: bytes, error: KafkaError) -> bool:
        """Whether Kafka will never take this row. Else the next try is put off."""
        if error.code() in _NEVER_TAKEN:
            log.error(
                "%s: Kafka doesn't take the row of %s (%d bytes): %s; raise the topic's max.message.bytes",
                *(key.topic, key.key, len(value), error.str()),
            )
            return True
        self._look_for_topics = self._look_for_topics or error.code() in _NO_TOPIC
        now = time.monotonic()
        if now >= self._not_before:  # what fails together is one failure
            self._failures += 1
            self._not_before = now + _RETRY.delay(self._failures, random.random())  # noqa: S311 (jitter)
        if now - self._warned_at >= _WARN_EVERY_SECONDS:
            self._warned_at = now
            log.warning(
                "Kafka at %s doesn't take rows (%s: %s); the newest of each task is kept until it does",
                *(self._kafka.bootstrap_servers, key.topic, error.str()),
            )
        return False

    def _begin_anew(self, reason: str) -> None:
        """With a new producer, after an error that the old one never recovers from."""
        log.warning("the Kafka client gave up (%s); going on with a new one", reason)
        self._producer.purge()  # so that every row under way is reported, and waits again
        self._producer.flush(1)
        self._under_way.clear()
        self._producer = self._new_producer()

    def _look_at_topics(self) -> None:
        """Make those that were removed, where the last failure could come from that."""
        if not self._look_for_topics:
            return
        try:
            ensure_topics(self._kafka, [REPLICAS, GATEWAYS], timeout_seconds=2)
        except (KafkaUnavailable, KafkaException) as error:
            log.debug("the topics can't be made yet: %s", error)
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
                "linger.ms": 0,  # a cut must not wait for company
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
    """Carry the source's rows to Kafka until `stop` is set; returns how many Kafka has acknowledged.

    Closes the source. Raises KafkaUnavailable or KafkaException where the topics can't be made at the start, and
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
                log.warning("%d rows were not acknowledged by Kafka in %g s", left, _FLUSH_SECONDS)
    finally:
        source.close()
    return publisher.delivered
