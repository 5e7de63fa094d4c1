"""Rows read from Kafka and kept in bounded memory: for a first look, and without an Elasticsearch."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson

from tidegate.adapters.kafka.log import LogMessage, TopicLog
from tidegate.schemas import topics
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import from_text
from tidegate.schemas.topics import Topic
from tidegate.ui.source import Equal, Json, SourceUnavailable, moment_of

logger = logging.getLogger(__name__)

_WAIT_SECONDS = 0.25
_EVENTS = timedelta(hours=24)
_MINUTES = timedelta(hours=2)
_MIB = 1024 * 1024

_SECONDS_TOPICS = frozenset({topics.SERVICE_METRICS_1S, topics.RESOURCE_METRICS_10S})
_MINUTES_TOPICS = frozenset({topics.SERVICE_METRICS_1M, topics.RESOURCE_METRICS_1M})
_WINDOWS = _SECONDS_TOPICS | _MINUTES_TOPICS
_TOPICS = (
    *(topics.SERVICE_METRICS_1S, topics.SERVICE_METRICS_1M),
    *(topics.RESOURCE_METRICS_10S, topics.RESOURCE_METRICS_1M),
    *(topics.REPLICAS, topics.REPLICA_CHANGES),
    *(topics.RATE_LIMITS, topics.RATE_LIMITS_CURRENT),
    topics.ALERTS,
)


@dataclass(frozen=True)
class _Kept:
    """One row. value: its JSON; parsing it only when it is shown takes a fraction of the memory."""

    department: str | None
    task: str | None
    second: int
    value: bytes


@dataclass
class Table:
    """The rows of one topic, by id: the last form of each, found by department and task, or by second."""

    moment: str
    rows: dict[str, _Kept] = field(default_factory=dict)
    _by_names: dict[tuple[str | None, str | None], set[str]] = field(default_factory=dict)
    _by_second: dict[int, set[str]] = field(default_factory=dict)

    def put(self, value: bytes) -> tuple[str, int]:
        """Take a row; returns its id, and by how many bytes the table grew.

        Raises ValueError, KeyError or TypeError for a value that is not a valid row.
        """
        row = orjson.loads(value)
        key = str(row["id"])
        second = int(from_text(row[self.moment]).timestamp())
        grown = len(value) - self.remove(key)
        self.rows[key] = kept = _Kept(row.get("department"), row.get("task"), second, value)
        self._by_names.setdefault((kept.department, kept.task), set()).add(key)
        self._by_second.setdefault(second, set()).add(key)
        return key, grown

    def remove(self, key: str) -> int:
        """Forget a row; returns how many bytes it had."""
        kept = self.rows.pop(key, None)
        if kept is None:
            return 0
        names = (kept.department, kept.task)
        self._by_names[names].discard(key)
        if not self._by_names[names]:
            del self._by_names[names]
        self._by_second[kept.second].discard(key)
        if not self._by_second[kept.second]:
            del self._by_second[kept.second]
        return len(kept.value)

    def seconds(self) -> list[int]:
        """Those with a row, the newest first."""
        return sorted(self._by_second, reverse=True)

    def candidates(self, equal: Equal, since: datetime | None, until: datetime | None) -> list[_Kept]:
        """The rows that may match, by the most selective lookup."""
        keys: Iterable[str] = self.rows
        department, task = equal.get("department"), equal.get("task")
        if isinstance(department, str) and "task" in equal and (task is None or isinstance(task, str)):
            keys = self._by_names.get((department, task), ())
        elif since is not None and until is not None:
            span = range(int(since.timestamp()), int(until.timestamp()) + 1)
            keys = [key for second in span for key in self._by_second.get(second, ())]
        return [self.rows[key] for key in keys]


class KafkaSource:
    """Follows the topics on a thread of its own from `start` on.

    At the start, seconds reach back `seconds_back`, minutes two hours, events a day. Windows stay as long as all of
    them together have at most `most_bytes` of JSON; then those that came first go first.
    """

    name = "kafka"

    def __init__(self, kafka: Kafka, seconds_back: timedelta, most_bytes: int) -> None:
        self._kafka = kafka
        self._back = seconds_back
        self._most_bytes = most_bytes
        self._tables: dict[Topic, Table] = {topic: Table(moment_of(topic)) for topic in _TOPICS}
        self._order: deque[tuple[Topic, str]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: str | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Its bootstrap servers."""
        return self._kafka.bootstrap_servers

    @property
    def reach(self) -> str:
        """How far back its rows go."""
        minutes = int(self._back.total_seconds() / 60)
        dropped = f"; {self._dropped:,} older rows were dropped" if self._dropped else ""
        return (
            f"since its start, with the last {minutes} minutes of seconds and two hours of minutes before it, "
            f"at most {self._most_bytes // _MIB} MiB{dropped}"
        )

    def start(self) -> None:
        """Read what is there, then what comes. Raises KafkaUnavailable when no broker answers now."""
        log = TopicLog(self._kafka, _TOPICS)
        try:
            now = datetime.now(UTC)
            self._take(log.snapshot({topic: self._since(topic, now) for topic in _TOPICS}))
            log.follow()
        except BaseException:
            log.close()
            raise
        self._thread = threading.Thread(target=self._run, args=(log,), name="ui-kafka", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and leave Kafka."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def find(
        self,
        topic: Topic,
        equal: Equal,
        since: datetime | None = None,
        until: datetime | None = None,
        without: Sequence[str] = (),
    ) -> list[Json]:
        """See `Source`. `without` saves nothing here."""
        if self._failure is not None:
            raise SourceUnavailable(self._failure)
        table = self._tables[topic]
        with self._lock:
            kept = table.candidates(equal, since, until)
        found: list[tuple[datetime, str, Json]] = []
        for one in kept:
            row = orjson.loads(one.value)
            at = from_text(row[table.moment])
            if (since is None or at >= since) and (until is None or at < until) and _matches(row, equal):
                found.append((at, str(row["id"]), row))
        return [row for _, _, row in sorted(found, key=lambda one: one[:2])]

    def newest(self, topic: Topic, equal: Equal) -> Json | None:
        """See `Source`."""
        with self._lock:
            seconds = self._tables[topic].seconds()
        for second in seconds:
            at = datetime.fromtimestamp(second, UTC)
            if rows := self.find(topic, equal, at, at + timedelta(seconds=1)):
                return rows[-1]
        return None

    def _since(self, topic: Topic, now: datetime) -> datetime | None:
        if topic.cleanup == "compact":
            return None
        if topic in _MINUTES_TOPICS:
            return now - _MINUTES
        return now - (self._back if topic in _SECONDS_TOPICS else _EVENTS)

    def _run(self, log: TopicLog) -> None:
        try:
            while not self._stop.is_set():
                self._take(log.poll(_WAIT_SECONDS))
        except Exception as error:
            logger.exception("reading from Kafka ended")
            self._failure = f"reading from Kafka at {self.address} ended ({error}); start tidegate ui again"
        finally:
            log.close()

    def _take(self, messages: Iterable[LogMessage]) -> None:
        with self._lock:
            for message in messages:
                if message.value is None:
                    continue
                try:
                    key, grown = self._tables[message.topic].put(message.value)
                except (ValueError, KeyError, TypeError) as error:
                    logger.debug("%s: %s", message.topic.name, error)
                    continue
                if message.topic in _WINDOWS:
                    self._bytes += grown
                    self._order.append((message.topic, key))
            while self._bytes > self._most_bytes and self._order:
                topic, key = self._order.popleft()
                self._bytes -= self._tables[topic].remove(key)
                self._dropped += 1


def _matches(row: Json, equal: Equal) -> bool:
    for name, value in equal.items():
        if value is None or isinstance(value, str):
            if row.get(name) != value:
                return False
        elif row.get(name) not in value:
            return False
    return True
