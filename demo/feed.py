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

from tidegate.adapters.kafka.log import LogMessage, TopicLog
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.rows.accounting import LineCount, LineKind
from tidegate.schemas.rows.limits import RateLimitRow, ReplicaChange, ReplicasRow
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
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
    """All rows of these topics from their beginning.

    As a context manager it closes its connection. Raises KafkaUnavailable when Kafka can't be asked.
    """

    def __init__(self, kafka: Kafka, topics: Sequence[Topic] = _SHOWN) -> None:
        self._log = TopicLog(kafka, topics, strict=True)
        self._log.follow(dict.fromkeys(topics))
        self._line_counts: dict[str, LineCount] = {}

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()

    def messages(self, seconds: float) -> Iterator[LogMessage]:
        """What comes within this time, one by one: a row's age is measured when it is read."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            yield from self._log.poll(left, at_once=1)

    def rows(self, seconds: float) -> Iterator[tuple[ServiceMetricsRow, int]]:
        """As `news`, service metrics only."""
        return ((row, now_ms) for row, now_ms in self.news(seconds) if isinstance(row, ServiceMetricsRow))

    def news(self, seconds: float) -> Iterator[tuple[News, int]]:
        """The rows that come within this time, each with the moment it was read (epoch, in ms).

        Keeps the line counts that come between them for `lines`. Raises pydantic.ValidationError for a row
        that isn't as the contract has it.
        """
        for message in self.messages(seconds):
            value = message.value
            if value is None:
                continue
            model = _ROWS.get(message.topic)
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


def late_lines(kafka: Kafka, seconds: float = 2) -> list[bytes]:
    """The lines in the topic of late ones."""
    with Feed(kafka, (LATE,)) as feed:
        return [value for message in feed.messages(seconds) if (value := message.value) is not None]


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
