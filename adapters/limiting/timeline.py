"""The rows of one task's timeline from Kafka: its seconds, its replicas, its limits, operators' controls of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from tidegate.adapters.kafka import log
from tidegate.adapters.kafka.log import LogMessage, TopicLog, row_of
from tidegate.jobs.logic.limits.controls import ALL_TASKS
from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.jobs.logic.limits.timeline import TimelineRows
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import LimitControl, RateLimitRow, ReplicaChange
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import Topic

_LOOK_BACK = timedelta(hours=1)
"""So far before the begin limit rows are read: what was in force then, and which limit was a change's first."""
_LATEST = timedelta(seconds=8)
"""A second's row comes a few seconds after it, and none comes of a second without a request."""
_TURN_SECONDS = 0.2
TimelineRow = ServiceMetricsRow | ReplicaChange | RateLimitRow | LimitControl
_MODELS: dict[Topic, type[TimelineRow]] = {
    topics.SERVICE_METRICS_1S: ServiceMetricsRow,
    topics.REPLICA_CHANGES: ReplicaChange,
    topics.RATE_LIMITS: RateLimitRow,
    topics.RATE_LIMITS_CURRENT: RateLimitRow,
    topics.LIMIT_CONTROLS: LimitControl,
}


def newest(kafka: Kafka) -> list[RateLimitRow]:
    """Every task's newest limit, by department and task. A message that is not a valid row is logged and left out.

    Raises KafkaUnavailable.
    """
    rows = log.newest(kafka, topics.RATE_LIMITS_CURRENT, RateLimitRow)
    return sorted(rows.values(), key=lambda row: (row.department, row.task))


class TimelineReader:
    """Reads one task's rows. Raises KafkaUnavailable when no broker answers.

    Topics hold the rows of all tasks; only messages with this task's key are parsed.
    """

    def __init__(self, kafka: Kafka, key: TaskKey) -> None:
        self._log = TopicLog(kafka, _MODELS, (str(key), ALL_TASKS))

    @property
    def missing(self) -> list[str]:
        """The topics that don't exist."""
        return self._log.missing

    def since(self, moment: datetime) -> TimelineRows:
        """What Kafka holds from this moment on, and of the limits and replicas what held then."""
        record = TimelineRows(moment - _LOOK_BACK)
        self._add(
            record,
            self._log.snapshot(
                {
                    topics.SERVICE_METRICS_1S: moment,
                    topics.REPLICA_CHANGES: None,
                    topics.RATE_LIMITS: moment - _LOOK_BACK,
                    topics.RATE_LIMITS_CURRENT: None,
                    topics.LIMIT_CONTROLS: None,
                }
            ),
        )
        return record

    def follow(self, record: TimelineRows) -> Iterator[datetime]:
        """Adds what comes to what `since` gave. Gives, again and again, up to when all is known; never ends."""
        self._log.follow()
        while True:
            self._add(record, self._log.poll(_TURN_SECONDS))
            known = max((row.window_end for row in record.windows.values()), default=None)
            latest = datetime.now(UTC) - _LATEST
            yield latest if known is None else max(known, latest)

    def close(self) -> None:
        """Leave Kafka."""
        self._log.close()

    def _add(self, record: TimelineRows, messages: Iterable[LogMessage]) -> None:
        for message in messages:
            row = None if message.value is None else row_of(message, _MODELS[message.topic])
            if row is None or (isinstance(row, ServiceMetricsRow) and row.level != "task"):
                continue
            record.add(row)
