"""Reads service-metrics rows back from Kafka: the newest ones, those since a moment, or those that come."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import KafkaError
from pydantic import ValidationError

from tidegate.adapters.kafka.client import KafkaUnavailable
from tidegate.adapters.kafka.log import LogMessage, TopicLog
from tidegate.schemas.rows.service_metrics import Level, ServiceMetricsRow, Span
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import service_metrics

logger = logging.getLogger(__name__)

_QUIET_SECONDS = 0.5
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
    """Reads one span's topic. Raises KafkaUnavailable when no broker answers, and where the topic doesn't exist."""

    def __init__(self, kafka: Kafka, span: Span) -> None:
        self._topic = service_metrics(span)
        self._place = f"topic {kafka.topic(self._topic)} at {kafka.bootstrap_servers}"
        self._log = TopicLog(kafka, [self._topic], strict=True)
        self._unreadable = 0

    def newest(self, wanted: RowFilter, count: int) -> list[ServiceMetricsRow]:
        """The last so many rows by their window's start, oldest first; of a rewritten row the last form.

        Reads backwards from the topic's end in steps that grow, so a filter that few rows pass costs more.
        """
        ends = self._log.ends(self._topic)
        self._check_exists()
        starts = {partition: high for partition, (_, high) in ends.items()}
        found: dict[str, ServiceMetricsRow] = {}
        step = max(_FIRST_STEP_BACK, 4 * count)
        while any(starts[partition] > low for partition, (low, _) in ends.items()):
            ranges = {
                partition: (max(low, starts[partition] - step), starts[partition])
                for partition, (low, _) in ends.items()
            }
            earlier = {row.id: row for row in self._rows(self._log.read(ranges)) if wanted.wants(row)}
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
        messages = self._log.snapshot({self._topic: moment})
        self._check_exists()
        rows = {row.id: row for row in self._rows(messages) if wanted.wants(row)}
        return sorted(rows.values(), key=_age)

    def follow(self, wanted: RowFilter) -> Iterator[ServiceMetricsRow | None]:
        """The rows that come after those of `newest` or `since`, else from now on; never ends.

        None when it is quiet for half a second.
        """
        self._log.follow()
        self._check_exists()
        while True:
            rows = list(self._rows(self._log.poll(_QUIET_SECONDS)))
            yield from (row for row in rows if wanted.wants(row))
            if not rows:
                yield None

    @property
    def unreadable(self) -> int:
        """Messages that were not a valid service-metrics row, so far."""
        return self._unreadable

    def close(self) -> None:
        """Close the connection."""
        self._log.close()

    def _rows(self, messages: Iterable[LogMessage]) -> Iterator[ServiceMetricsRow]:
        for message in messages:
            if message.value is None:
                continue
            try:
                yield ServiceMetricsRow.model_validate_json(message.value)
            except ValidationError as wrong:
                # Counted, and shown once by the command: a wrong topic would else be a warning a row.
                self._unreadable += 1
                logger.debug("%s-%d-%d: %s", message.topic.name, message.partition, message.offset, wrong)

    def _check_exists(self) -> None:
        if self._log.missing:
            raise KafkaUnavailable(
                f"{self._place}: {KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART).str()}; the job service-metrics "
                "makes it when it starts, and kafka.topic_prefix must be the job's"
            )


def _age(row: ServiceMetricsRow) -> tuple[datetime, str]:
    return row.window_start, row.id
