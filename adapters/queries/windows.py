"""Reads service-metrics rows back from Kafka: the newest ones, those since a moment, or those that come."""

from __future__ import annotations

import heapq
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from pydantic import ValidationError

from tidegate.adapters.kafka.client import KafkaUnavailable, partition_range
from tidegate.schemas.rows.service_metrics import Level, ServiceMetricsRow, Span
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import to_epoch_ms
from tidegate.schemas.topics import service_metrics

logger = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 10.0
_CRITICAL = 2
_QUIET_SECONDS = 0.5
_STEP_SECONDS = 0.05
"""`consume` waits so long for as many messages as were asked for, however few there are."""
_READ_AT_ONCE = 500
_FIRST_STEP_BACK = 2000


@dataclass(frozen=True)
class RowFilter:
    """Which rows are wanted. None means any."""

    level: Level | None = None
    department: str | None = None
    task: str | None = None
    since: datetime | None = None
    """Rows whose window begins at this moment or later."""

    def wants(self, row: ServiceMetricsRow) -> bool:
        """Whether the row passes."""
        return (
            (self.level is None or row.level == self.level)
            and (self.department is None or row.department == self.department)
            and (self.task is None or row.task == self.task)
            and (self.since is None or row.window_start >= self.since)
        )


class WindowReader:
    """Reads one span's topic beside every consumer group: it commits nothing.

    Raises KafkaUnavailable when no broker answers, and where the topic doesn't exist.
    """

    def __init__(self, kafka: Kafka, span: Span) -> None:
        self._address = kafka.bootstrap_servers
        self._topic = kafka.topic(service_metrics(span))
        self._consumer = Consumer(
            kafka.client_config()
            | {
                "group.id": f"tidegate-windows-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 16_384,
                "log_level": _CRITICAL,  # what goes wrong is told once, by our own errors
            }
        )
        self._unreadable = 0
        self._read_to: dict[int, int] = {}

    def newest(self, wanted: RowFilter, count: int) -> list[ServiceMetricsRow]:
        """The last so many rows by their window's start, oldest first; of a rewritten row the last form.

        Reads backwards from the topic's end in steps that grow, so a filter that few rows pass costs more.
        """
        ends = self._ends()
        starts = {partition: high for partition, (_, high) in ends.items()}
        found: dict[str, ServiceMetricsRow] = {}
        step = max(_FIRST_STEP_BACK, 4 * count)
        while any(starts[partition] > low for partition, (low, _) in ends.items()):
            ranges = {
                partition: (max(low, starts[partition] - step), starts[partition])
                for partition, (low, _) in ends.items()
            }
            earlier = {row.id: row for row in self._range(ranges) if wanted.wants(row)}
            newest = heapq.nlargest(count, (earlier | found).values(), key=_age)
            found = {row.id: row for row in newest}
            starts = {partition: start for partition, (start, _) in ranges.items()}
            if len(found) == count:
                break
            step *= 2
        return sorted(found.values(), key=_age)

    def since(self, wanted: RowFilter, moment: datetime) -> list[ServiceMetricsRow]:
        """The rows that Kafka got at this moment or later, oldest first; of a rewritten row the last form.

        A row reaches Kafka after its window has ended, so none whose window began later is missed.
        """
        ends = self._ends()
        at_ms = to_epoch_ms(moment)
        asked = [TopicPartition(self._topic, number, at_ms) for number in ends]
        try:
            offsets = self._consumer.offsets_for_times(asked, timeout=_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise self._unavailable(error) from error
        ranges = {}
        for found in offsets:
            end = ends[found.partition][1]
            ranges[found.partition] = (found.offset if found.offset >= 0 else end, end)
        rows = {row.id: row for row in self._range(ranges) if wanted.wants(row)}
        return sorted(rows.values(), key=_age)

    def follow(self, wanted: RowFilter) -> Iterator[ServiceMetricsRow | None]:
        """The rows that come after those of `newest` or `since`, else from now on; never ends.

        None when it is quiet for half a second.
        """
        if not self._read_to:
            self._ends()
        starts = self._read_to
        self._consumer.assign([TopicPartition(self._topic, number, at) for number, at in starts.items()])
        while True:
            messages = self._consumer.consume(_READ_AT_ONCE, _QUIET_SECONDS)
            rows = [row for message in messages if (row := self._row(message)) is not None]
            yield from (row for row in rows if wanted.wants(row))
            if not rows:
                yield None

    @property
    def unreadable(self) -> int:
        """Messages that were no service-metrics row, so far."""
        return self._unreadable

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _range(self, ranges: dict[int, tuple[int, int]]) -> Iterator[ServiceMetricsRow]:
        """The rows of these partitions between the two offsets, the second one excluded."""
        left = {number: end for number, (start, end) in ranges.items() if start < end}
        self._consumer.assign([TopicPartition(self._topic, number, ranges[number][0]) for number in left])
        heard_at = time.monotonic()
        while left:
            messages = self._consumer.consume(_READ_AT_ONCE, _STEP_SECONDS)
            if messages:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > _TIMEOUT_SECONDS:
                raise KafkaUnavailable(
                    f"Kafka at {self._address} stopped answering while {self._topic} was read"
                )
            for message in messages:
                number, offset = message.partition(), message.offset()
                if number not in left or offset is None:
                    continue
                row = self._row(message) if offset < left[number] else None
                if row is not None:
                    yield row
                if message.error() is not None or offset >= left[number] - 1:
                    del left[number]
        self._consumer.unassign()

    def _row(self, message: Message) -> ServiceMetricsRow | None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                return None
            raise self._unavailable(KafkaException(error))
        value = message.value()
        if value is None:
            return None
        try:
            return ServiceMetricsRow.model_validate_json(value)
        except ValidationError as wrong:
            self._unreadable += 1
            logger.debug("%s-%s-%s: %s", message.topic(), message.partition(), message.offset(), wrong)
            return None

    def _ends(self) -> dict[int, tuple[int, int]]:
        """Each partition's first offset and the one after its last."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=_TIMEOUT_SECONDS).topics[self._topic]
            if found.error is not None:
                raise KafkaUnavailable(
                    f"topic {self._topic} at {self._address}: {found.error.str()}; the job service-metrics "
                    "makes it when it starts, and kafka.topic_prefix must be the job's"
                )
            ends = {}
            for number in found.partitions:
                ends[number] = partition_range(self._consumer, self._topic, number, _TIMEOUT_SECONDS)
        except KafkaException as error:
            raise self._unavailable(error) from error
        self._read_to = {number: high for number, (_, high) in ends.items()}
        return ends

    def _unavailable(self, error: KafkaException) -> KafkaUnavailable:
        return KafkaUnavailable(
            f"{self._topic} can't be read from Kafka at {self._address} ({error.args[0].str()}); "
            "start one with `tidegate up`, or set kafka.bootstrap_servers"
        )


def _age(row: ServiceMetricsRow) -> tuple[datetime, str]:
    return row.window_start, row.id
