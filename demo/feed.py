"""Reads the demo's data: rows and line counts from Kafka, the number of documents from Elasticsearch."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.rows.limits import RateLimitRow, ReplicaChange, ReplicasRow
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.rows.service_metrics import LineCount, LineKind, ServiceMetricsRow
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.settings import Elasticsearch, Kafka
from tidegate.schemas.topics import (
    ALERTS,
    LATE,
    LINE_COUNTS,
    RATE_LIMITS,
    REPLICA_CHANGES,
    REPLICAS,
    SERVICE_METRICS_1M,
    SERVICE_METRICS_1S,
    TASK_PROFILE,
    Topic,
)

LimitNews = ReplicasRow | ReplicaChange | RateLimitRow
ProfileNews = TaskProfile | AlertRow
News = ServiceMetricsRow | LimitNews | ProfileNews
_ROWS: dict[Topic, type[News]] = {
    SERVICE_METRICS_1S: ServiceMetricsRow,
    SERVICE_METRICS_1M: ServiceMetricsRow,
    REPLICAS: ReplicasRow,
    REPLICA_CHANGES: ReplicaChange,
    RATE_LIMITS: RateLimitRow,
    TASK_PROFILE: TaskProfile,
    ALERTS: AlertRow,
}
_SHOWN: Sequence[Topic] = (*_ROWS, LINE_COUNTS)


class Feed:
    """All rows of these topics from their beginning. Commits nothing, joins no group.

    As a context manager it closes its connection. Raises KafkaException when Kafka can't be asked.
    """

    def __init__(self, kafka: Kafka, topics: Sequence[Topic] = _SHOWN) -> None:
        self._kafka = kafka
        self._consumer = Consumer(
            {
                **kafka.client_config(),
                "group.id": "tidegate-demo",
                "enable.auto.commit": False,
                # A row's age is measured when it is read, so the broker must not collect rows first.
                "fetch.wait.max.ms": 50,
            }
        )
        names = [kafka.topic(topic) for topic in topics]
        self._consumer.assign(
            [
                TopicPartition(name, number, OFFSET_BEGINNING)
                for name in names
                for number in self._numbers(name)
            ]
        )
        self._line_counts: dict[str, LineCount] = {}

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def messages(self, seconds: float) -> Iterator[Message]:
        """What comes within this time. Raises KafkaException on an error that isn't passing."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self._consumer.poll(left)
            if message is None:
                return
            if error := message.error():
                if not error.retriable():
                    raise KafkaException(error)
                continue
            yield message

    def rows(self, seconds: float) -> Iterator[tuple[ServiceMetricsRow, int]]:
        """As `news`, service metrics only."""
        return ((row, now_ms) for row, now_ms in self.news(seconds) if isinstance(row, ServiceMetricsRow))

    def news(self, seconds: float) -> Iterator[tuple[News, int]]:
        """The rows that come within this time, each with the moment it was read (epoch, in ms).

        Keeps the line counts that come between them for `lines`. Raises pydantic.ValidationError for a row
        that isn't as the contract has it.
        """
        models = {self._kafka.topic(topic): model for topic, model in _ROWS.items()}
        for message in self.messages(seconds):
            value = message.value()
            if value is None:
                continue
            model = models.get(message.topic() or "")
            if model is None:
                line_count = LineCount.model_validate_json(value)
                self._line_counts[line_count.id] = line_count
            else:
                yield model.model_validate_json(value), time.time_ns() // 1_000_000

    def lines(self) -> Counter[LineKind]:
        """How many lines the job reports as counted, late, dead or skipped."""
        kinds: Counter[LineKind] = Counter()
        for count in self._line_counts.values():
            kinds[count.kind] += count.lines
        return kinds

    def _numbers(self, topic: str) -> list[int]:
        found = self._consumer.list_topics(topic, timeout=10).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return list(found.partitions)


def late_lines(kafka: Kafka, seconds: float = 2) -> list[bytes]:
    """The lines in the topic of late ones."""
    with Feed(kafka, (LATE,)) as feed:
        return [value for message in feed.messages(seconds) if (value := message.value()) is not None]


def documents(
    elasticsearch: Elasticsearch, topics: Sequence[Topic], timeout_seconds: float = 1
) -> int | None:
    """How many documents of these topics there are; None when Elasticsearch doesn't answer in time."""
    names = ",".join(contract_of(topic.name).alias(elasticsearch.index_prefix) for topic in topics)
    url = f"{elasticsearch.url.rstrip('/')}/{names}/_count?ignore_unavailable=true"
    request = urllib.request.Request(url)  # noqa: S310 (the settings allow http and https only)
    if (login := elasticsearch.basic_auth()) is not None:
        token = base64.b64encode(":".join(login).encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:  # noqa: S310
            return int(json.load(answer)["count"])
    except (urllib.error.URLError, TimeoutError, KeyError, ValueError):
        return None
