"""What the indexer's tests share: producing rows, running it in this process, reading the indices back."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from elasticsearch import Elasticsearch as Client

from tests.support.kafka_messages import messages as everything
from tidegate.adapters.indexing.client import connect
from tidegate.adapters.indexing.delivery import Counters
from tidegate.adapters.indexing.indexer import run_indexer
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.settings import Elasticsearch, Indexer, Kafka, Settings
from tidegate.schemas.topics import Topic

ROWS_TOPIC = "tidegate.service-metrics.1s"
DAY_MS = 1_795_514_400_000
"""2026-11-24T10:00:00Z"""


def settings_of(kafka: Kafka, elasticsearch: Elasticsearch, **indexer: Any) -> Settings:
    """Settings of an indexer with a consumer group of this test's own and short waits."""
    defaults = {"consumer_group": f"{kafka.topic_prefix}indexer", "flush_ms": 50, "max_backoff_seconds": 0.5}
    return Settings(kafka=kafka, elasticsearch=elasticsearch, indexer=Indexer(**(defaults | indexer)))


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A row as far as the index looks at it."""
    return {
        "id": f"1s|task|vision|task-{number}|||{DAY_MS}",
        "window_start": "2026-11-24T10:00:00.000Z",
        "requests": number,
        "response_flags": {"UH": 1},
    } | fields


def produce(
    kafka: Kafka,
    topic: str,
    messages: Iterable[object],
    partition: int | None = None,
    headers: dict[str, str] | None = None,
    key: str | None = None,
) -> None:
    """Write messages (bytes as they are, else as JSON), spread over the partitions unless one is given.

    A compacted topic takes no message without a key: there, a row's key is its `id`.
    """
    failures: list[str] = []
    contract = contract_of(topic)
    ensure_topics(kafka, [contract.topic])
    producer = Producer(kafka.client_config())
    count = contract.topic.partitions or kafka.partitions
    compacted = contract.topic.cleanup == "compact"
    for number, message in enumerate(messages):
        producer.produce(
            kafka.topic(contract.topic),
            message if isinstance(message, bytes) else json.dumps(message).encode(),
            partition=number % count if partition is None else partition,
            headers=list((headers or {}).items()),
            key=key or (str(message["id"]) if compacted and isinstance(message, dict) else None),
            on_delivery=lambda error, _: failures.append(str(error)) if error else None,
        )
    assert producer.flush(30) == 0
    assert failures == []


def index_all(settings: Settings, *topics: str) -> Counters:
    """Index what these topics hold now."""
    contracts = [contract_of(topic) for topic in topics]
    return run_indexer(settings, contracts, bounded=True, stop=threading.Event())


def fill(kafka: Kafka, elasticsearch: Elasticsearch, by_topic: Mapping[str, Sequence[object]]) -> Counters:
    """These messages in Kafka, and by the indexer in Elasticsearch, where a search finds them."""
    for topic, messages in by_topic.items():
        produce(kafka, topic, messages)
    counters = index_all(settings_of(kafka, elasticsearch), *by_topic)
    with client_of(elasticsearch) as client:
        client.indices.refresh(index=f"{elasticsearch.index_prefix}*")
    return counters


def of_our_own(kafka: Kafka, elasticsearch: Elasticsearch) -> tuple[Kafka, Elasticsearch]:
    """Both servers under a prefix that nobody else has, for what several tests look at."""
    mark = f"t{uuid.uuid4().hex[:8]}"
    return (
        kafka.model_copy(update={"topic_prefix": f"{mark}."}),
        elasticsearch.model_copy(update={"index_prefix": f"{mark}-"}),
    )


@dataclass
class Running:
    """An indexer on a thread of this process."""

    stop: threading.Event = field(default_factory=threading.Event)
    counters: Counters | None = None
    error: BaseException | None = None


@contextmanager
def running(settings: Settings, *topics: str) -> Iterator[Running]:
    """An indexer that runs until the block ends; what it raised is raised there."""
    state = Running()

    def work() -> None:
        try:
            contracts = [contract_of(topic) for topic in topics]
            state.counters = run_indexer(settings, contracts, bounded=False, stop=state.stop)
        except BaseException as error:
            state.error = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.stop.set()
        thread.join(90)
    assert not thread.is_alive()
    if state.error is not None:
        raise state.error


def client_of(elasticsearch: Elasticsearch) -> Client:
    """A client for looking at the result."""
    return connect(elasticsearch, 60)


def documents(elasticsearch: Elasticsearch, topic: str) -> dict[str, dict[str, Any]]:
    """Every document under the topic's alias, by `_id`; an id that is in two indices fails."""
    name = contract_of(topic).alias(elasticsearch.index_prefix)
    with client_of(elasticsearch) as client:
        client.indices.refresh(index=f"{name}*")
        hits = client.search(index=name, size=10_000, ignore_unavailable=True)["hits"]["hits"]
    found = {hit["_id"]: hit["_source"] for hit in hits}
    assert len(found) == len(hits)
    return found


def messages(kafka: Kafka, topic: Topic) -> list[dict[str, Any]]:
    """Everything that a topic holds."""
    return [json.loads(value) for value in values(kafka, topic)]


def committed(kafka: Kafka, group: str, topic: str) -> int:
    """The sum of the group's committed offsets over the topic's partitions."""
    contract = contract_of(topic)
    consumer = Consumer(kafka.client_config() | {"group.id": group})
    try:
        asked = [
            TopicPartition(kafka.topic(contract.topic), number)
            for number in range(contract.topic.partitions or kafka.partitions)
        ]
        deadline = time.monotonic() + 30
        while True:
            try:
                return sum(max(found.offset, 0) for found in consumer.committed(asked, timeout=30))
            except KafkaException:  # the group's coordinator is being found, or moves
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
    finally:
        consumer.close()


def values(kafka: Kafka, topic: Topic) -> list[bytes]:
    """Everything that a topic holds, as bytes."""
    return [message.value() or b"" for message in everything(kafka, topic)]
