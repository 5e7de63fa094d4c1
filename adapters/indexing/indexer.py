"""The indexer: Kafka topics to Elasticsearch, each message exactly one document, however often it is read.

Offsets are committed only after every document of the batch was answered, and every dead letter acknowledged.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Collection, Sequence

from confluent_kafka import Message
from elastic_transport import TransportError
from elasticsearch import ApiError
from elasticsearch import Elasticsearch as Client

from tidegate.adapters.backoff import Backoff
from tidegate.adapters.indexing.batch import Batch, BatchLimits, Partition
from tidegate.adapters.indexing.client import connect
from tidegate.adapters.indexing.delivery import Counters, Delivery
from tidegate.adapters.indexing.documents import DocumentMaker, Position, Received
from tidegate.adapters.indexing.reader import TopicReader
from tidegate.adapters.indexing.templates import install_templates
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kafka.dead_letters import DeadLetterWriter
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import IndexContract
from tidegate.schemas.settings import Indexer as IndexerSettings
from tidegate.schemas.settings import Settings

logger = logging.getLogger(__name__)

_INITIAL_BACKOFF_SECONDS = 0.5
_PATIENCE_SECONDS = 1.0
"""How long a full batch waits for the one before it until fetching is paused."""
_WAIT_SECONDS = 0.1
_READ_AT_ONCE = 500
_FIRST_READ = 20
"""As many messages as that, before it is known how large they are."""
_REPORT_SECONDS = 30.0
_COMES_RIGHT = (408, 429)


class TemplatesRefused(Exception):
    """Elasticsearch rejects the index templates. The message gives the reason and the remedy."""


class Indexer:
    """Moves messages from a reader through their document makers to the delivery."""

    def __init__(
        self,
        reader: TopicReader,
        makers: dict[str, DocumentMaker],
        delivery: Delivery,
        limits: BatchLimits,
        counters: Counters,
    ) -> None:
        self._reader = reader
        self._makers = makers
        self._delivery = delivery
        self._limits = limits
        self._counters = counters
        self._batch = Batch()
        self._message_bytes = max(1.0, limits.bytes / _FIRST_READ)

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set, or the reader is bounded and at its end.

        What was read is then sent and committed, unless Elasticsearch refuses it just then: that stays
        uncommitted, and is read again at the next start.
        """
        self._reader.subscribe(self._give_back)
        reporter = _Reporter(self._counters)
        try:
            while not stop.is_set() and not self._at_the_end():
                if self._batch.full(self._limits):
                    self._wait_for_delivery(stop)
                else:
                    self._take(self._reader.read(self._room(), min(self._limits.seconds / 5, _WAIT_SECONDS)))
                    self._advance()
                reporter.report(time.monotonic())
            self._finish()
        finally:
            self._delivery.close()
            self._reader.close()

    def _at_the_end(self) -> bool:
        idle = not self._delivery.busy and not self._batch.next_offsets
        return idle and self._reader.at_the_end()

    def _room(self) -> int:
        """How many messages to ask for, so that a batch of large ones stays near its limit of bytes."""
        batch, limits = self._batch, self._limits
        if batch.bytes:
            self._message_bytes = batch.bytes / batch.messages
        by_bytes = int((limits.bytes - batch.bytes) / self._message_bytes) + 1
        return max(1, min(_READ_AT_ONCE, limits.messages - batch.messages, by_bytes))

    def _take(self, messages: Sequence[Message]) -> None:
        now = time.monotonic()
        for message in messages:
            topic, partition, offset = message.topic(), message.partition(), message.offset()
            if topic is None or partition is None or offset is None:
                continue  # not a message of a topic: librdkafka reports none such without an error
            if message.error() is not None:  # the end of a partition; the reader lets no other error pass
                self._batch.reach((topic, partition), offset)
                continue
            received = Received(
                Position(topic, partition, offset),
                message.timestamp()[1],
                message.value(),
                _header_id(message),
            )
            made = self._makers[topic].make(received)
            self._counters.read += 1
            self._counters.tombstones += made is None
            self._counters.replaced += self._batch.add(received.position, made, now)

    def _advance(self, timeout_seconds: float = 0) -> None:
        """Wait so long for the batch under way; where it is settled, send the next and commit this one."""
        done = self._delivery.settled(timeout_seconds)
        if not self._delivery.busy and self._batch.due(self._limits, time.monotonic()):
            self._delivery.begin(self._batch)
            self._batch = Batch()
        if done is not None:
            self._reader.commit(done.next_offsets)

    def _wait_for_delivery(self, stop: threading.Event) -> None:
        """The batch is full: wait until it is on its way. When that lasts, hold and stay in the group."""
        started = time.monotonic()
        held = False
        while self._batch.full(self._limits) and not stop.is_set():
            self._advance(_WAIT_SECONDS)
            if self._batch.full(self._limits) and time.monotonic() - started >= _PATIENCE_SECONDS:
                held = True
                self._reader.hold()
                self._take(self._reader.read(_READ_AT_ONCE, _WAIT_SECONDS))
        if held:
            self._reader.resume()

    def _give_back(self, partitions: Collection[Partition]) -> None:
        """Before partitions go: commit what is settled of them, forget the rest."""
        done = self._delivery.settled(0)
        if done is None:
            self._delivery.give_up(partitions)
            done = self._delivery.settled(0)
        if done is not None:
            self._reader.commit(done.next_offsets)
        self._counters.given_back += self._batch.drop(partitions)

    def _finish(self) -> None:
        """One last attempt for what was read."""
        self._delivery.halt()
        if self._delivery.busy and not self._commit_last():
            return
        if self._batch.next_offsets:
            self._delivery.begin(self._batch)
            self._commit_last()

    def _commit_last(self) -> bool:
        done = self._delivery.settled(None)
        if done is None:
            logger.warning("the last batch is not committed: the next start reads it again")
            return False
        self._reader.commit(done.next_offsets)
        return True


class _Reporter:
    """Logs the counters now and then, where they changed."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._logged = ""
        self._logged_at = 0.0

    def report(self, now: float) -> None:
        if now - self._logged_at < _REPORT_SECONDS:
            return
        self._logged_at = now
        text = str(self._counters)
        if text != self._logged:
            logger.info("%s", text)
            self._logged = text


def run_indexer(
    settings: Settings, contracts: Sequence[IndexContract], *, bounded: bool, stop: threading.Event
) -> Counters:
    """Index these topics until `stop` is set; bounded: until what they hold now is indexed.

    Waits for Elasticsearch where it isn't there yet. Returns what became of the messages.
    Raises KafkaUnavailable, KafkaException where a topic can't be made or read, and TemplatesRefused.
    """
    ensure_topics(settings.kafka, [*(contract.topic for contract in contracts), topics.DEAD_LETTERS])
    counters = Counters()
    client = connect(settings.elasticsearch, settings.indexer.request_timeout_seconds)
    if not await_templates(client, settings, contracts, stop):
        return counters
    backoff = backoff_of(settings.indexer)
    makers = {
        settings.kafka.topic(contract.topic): DocumentMaker(
            contract, settings.elasticsearch.index_prefix, settings.access_log
        )
        for contract in contracts
    }
    reader = TopicReader(settings.kafka, settings.indexer.consumer_group, list(makers), bounded=bounded)
    delivery = Delivery(client, DeadLetterWriter(settings.kafka), backoff, counters)
    Indexer(reader, makers, delivery, limits_of(settings.indexer), counters).run(stop)
    return counters


def backoff_of(settings: IndexerSettings) -> Backoff:
    """The backoff before retries, from the settings."""
    longest = settings.max_backoff_seconds
    return Backoff(min(_INITIAL_BACKOFF_SECONDS, longest), longest)


def limits_of(settings: IndexerSettings) -> BatchLimits:
    """The limits of a bulk, from the settings."""
    return BatchLimits(settings.bulk_documents, settings.bulk_bytes, settings.flush_ms / 1000)


def await_templates(
    client: Client, settings: Settings, contracts: Sequence[IndexContract], stop: threading.Event
) -> bool:
    """Install the templates, waiting for Elasticsearch; False when stopped meanwhile. Raises TemplatesRefused."""
    backoff = backoff_of(settings.indexer)
    url = settings.elasticsearch.url
    failures = 0
    while not stop.is_set():
        try:
            install_templates(client, settings.elasticsearch, contracts)
        except TransportError as error:
            reason = f"no Elasticsearch answers at {url} ({error.message})"
        except ApiError as error:
            reason = f"Elasticsearch at {url} answers {error.status_code} ({error.message})"
            if error.status_code not in _COMES_RIGHT and error.status_code < 500:
                raise TemplatesRefused(
                    f"{reason} to the index templates: {error.body}. Check elasticsearch.url, and that "
                    "elasticsearch.username may manage index templates"
                ) from error
        else:
            return True
        failures += 1
        seconds = backoff.delay(failures, random.random())  # noqa: S311 (jitter, no secret)
        logger.warning(
            "%s; retry in %.1f s. Start Elasticsearch with `tidegate up`, or set elasticsearch.url",
            reason,
            seconds,
        )
        stop.wait(seconds)
    return False


def _header_id(message: Message) -> str | None:
    """The header `id`: what a line was called before it came to this topic (late lines have one)."""
    for name, value in dict(message.headers() or ()).items():
        if name == "id" and value:
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return None
