"""`tidegate limit`: the rate-limit controller. It carries out what `LimitBook` decides, and decides nothing itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from confluent_kafka import KafkaError, KafkaException

from tidegate.adapters.backoff import Backoff
from tidegate.adapters.catalog.source import CatalogSource, catalog_source
from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics
from tidegate.adapters.limiting.feed import LimitFeed, now_ms
from tidegate.adapters.limiting.leader import Leadership
from tidegate.adapters.limiting.sink import KafkaRows, RowSink
from tidegate.adapters.limiting.targets.base import Target
from tidegate.adapters.limiting.workers import (
    GatewayFailed,
    GatewayWorker,
    LimitRejected,
    LimitsRead,
    Result,
    WorkerTiming,
)
from tidegate.jobs.logic.limits.book import LimitBook
from tidegate.jobs.logic.limits.inputs import Timing
from tidegate.jobs.logic.limits.rate_limits import Pace
from tidegate.schemas import topics
from tidegate.schemas.catalog import Catalog
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.settings import Settings
from tidegate.schemas.settings.limits import Limits

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 0.02
_DURABLE_SECONDS = 2.0
_STOP_SECONDS = 5.0
_RECENT_MS = 300_000
_AGAIN_SECONDS = 1.0
_LASTING = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}
"""Errors that last until a person changes something: a retry is of no use."""
LIMIT_TOPICS = (
    topics.REPLICA_CHANGES,
    topics.REPLICAS,
    topics.GATEWAYS,
    topics.RATE_LIMITS,
    topics.RATE_LIMITS_CURRENT,
    topics.LIMIT_CONTROLS,
    topics.TASKS,
)


def pace_of(limits: Limits) -> Pace:
    """The pace at which limits rise, from the settings."""
    return Pace(limits.max_raise, round(limits.raise_every_seconds * 1000), limits.deadband)


def timing_of(limits: Limits) -> Timing:
    """The timing of silence, alarms and simultaneous raises, from the settings."""
    return Timing(
        silent_ms=round(limits.silent_seconds * 1000),
        alarm_ms=round(limits.alarm_every_seconds * 1000),
        raises_together_ms=round(limits.raises_together_seconds * 1000),
    )


class LeaderSession:
    """One term of leadership: begins with the current topics and targets, and ends with `close`."""

    def __init__(
        self,
        settings: Settings,
        target: Target,
        sink: RowSink,
        catalog: CatalogSource,
        *,
        goes_on: Callable[[], bool],
        missing_is_empty: bool = False,
    ) -> None:
        """goes_on: whether it still leads. missing_is_empty: a missing topic counts as an empty one.

        Raises KafkaException or KafkaUnavailable if the topics can't be read.
        """
        limits = settings.limits
        self._limits = limits
        self._target = target
        self._sink = sink
        self._catalog = catalog
        self._goes_on = goes_on
        catalog.refresh()
        self._book = LimitBook(pace_of(limits), timing_of(limits), target.name, now_ms())
        self._feed = LimitFeed(
            settings.kafka,
            self._book,
            max(_RECENT_MS, round(limits.silent_seconds * 1000)),
            missing_is_empty=missing_is_empty,
        )
        self._results: SimpleQueue[Result] = SimpleQueue()
        self._workers: dict[str, GatewayWorker] = {}
        self._due_ms: int | None = 0
        self._unsafe = False
        self._use(catalog.catalog)

    @property
    def book(self) -> LimitBook:
        """The limits and their inputs."""
        return self._book

    def catch_up(self) -> bool:
        """Read the topics up to their current end. Returns False if the leadership ends meanwhile."""
        while not self._feed.caught_up():
            if not self._goes_on():
                return False
            self._feed.poll(0.2)
        return True

    def turn(self) -> None:
        """One turn: observe the inputs, decide, hand the limits to the workers."""
        happened = self._feed.poll(_TICK_SECONDS)
        happened |= self._look_at_catalog()
        happened |= self._take_results()
        now = now_ms()
        if happened or self._unsafe or (self._due_ms is not None and now >= self._due_ms):
            self._decide(now)

    def close(self) -> None:
        """Stop the workers, then the feed."""
        for worker in self._workers.values():
            worker.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for worker in self._workers.values():
            worker.join(max(0.0, deadline - time.monotonic()))
        self._feed.close()

    def _decide(self, now: int) -> None:
        self._publish(self._book.decide(now))
        self._publish(self._book.ended_holds(now))
        # A push is durable in Kafka before it is made: after a crash the next leader continues it.
        was_unsafe, self._unsafe = self._unsafe, not self._sink.durable(_DURABLE_SECONDS)
        if self._unsafe and not was_unsafe:
            _LOG.warning("Kafka does not acknowledge the decisions; the limits stay unchanged until it does")
        if self._unsafe or not self._goes_on():
            return
        gateways, unread = self._book.gateways(), self._book.unread_gateways()
        for gone in self._workers.keys() - gateways:
            self._workers.pop(gone).stop()
        for gateway in gateways:
            worker = self._worker(gateway)
            worker.want(self._book.wanted_limits(gateway))
            if gateway in unread:
                worker.look()
        due = self._book.next_due_ms(now)
        # Silence is noticed within a second, even without any event.
        self._due_ms = now + 1000 if due is None else min(due, now + 1000)

    def _worker(self, gateway: str) -> GatewayWorker:
        if gateway not in self._workers:
            timing = WorkerTiming(
                self._limits.reconcile_seconds, Backoff(0.5, self._limits.max_backoff_seconds)
            )
            worker = GatewayWorker(self._target, gateway, timing, self._results, now_ms)
            worker.start()
            self._workers[gateway] = worker
        return self._workers[gateway]

    def _take_results(self) -> bool:
        happened = False
        while True:
            try:
                result = self._results.get_nowait()
            except Empty:
                return happened
            happened = True
            if isinstance(result, LimitsRead):
                self._publish(self._book.observe_limits(result.gateway, result.limits, result.at_ms))
            elif isinstance(result, LimitRejected):
                self._publish(
                    self._book.observe_rejection(
                        result.key, result.revision, result.reason, result.newer, result.at_ms
                    )
                )
            elif isinstance(result, GatewayFailed):
                _LOG.warning("gateway %s: %s", result.gateway, result.reason)
                self._publish(self._book.observe_failure(result.gateway, result.reason, result.at_ms))

    def _publish(self, rows: list[RateLimitRow]) -> None:
        for row in rows:
            level = logging.WARNING if row.state in ("failed", "held") else logging.INFO
            limit = "-" if row.limit_qps_per_gateway is None else f"{row.limit_qps_per_gateway:g} qps"
            _LOG.log(
                level,
                "%s/%s %s, revision %d: %s per gateway (%s)",
                *(row.department, row.task, row.state, row.revision, limit, row.reason),
            )
        self._sink.put(rows)

    def _look_at_catalog(self) -> bool:
        if not self._catalog.changed():
            return False
        self._use(self._catalog.catalog)
        return True

    def _use(self, catalog: Catalog) -> None:
        self._book.apply_catalog(catalog.tasks.values())
        self._target.use_gateways(catalog.gateways)


def run(settings: Settings, target: Target, stop: threading.Event) -> None:
    """Lead whenever this controller is elected, until `stop` is set.

    Raises CatalogError, KafkaUnavailable and KafkaException at the start.
    """
    ensure_topics(settings.kafka, LIMIT_TOPICS)
    catalog = catalog_source(settings)
    leadership = Leadership(settings.kafka, settings.limits.consumer_group)
    try:
        waiting = False
        while not stop.is_set():
            if leadership.leads(0.5):
                waiting = False
                _LOG.info("leading; target %s", target.name)
                _lead(settings, target, catalog, leadership, stop)
            elif not waiting:
                waiting = True
                _LOG.info("waiting to lead (consumer group %s)", settings.limits.consumer_group)
    finally:
        leadership.close()
        catalog.close()


def _lead(
    settings: Settings,
    target: Target,
    catalog: CatalogSource,
    leadership: Leadership,
    stop: threading.Event,
) -> None:
    """Lead until `stop` is set, another controller is elected, or Kafka can't be read."""

    def goes_on() -> bool:
        return leadership.leads() and not stop.is_set()

    sink = KafkaRows(settings.kafka)
    try:
        session = LeaderSession(settings, target, sink, catalog, goes_on=goes_on)
        try:
            if session.catch_up():
                while goes_on():
                    session.turn()
        finally:
            session.close()
    except KafkaException as error:
        if error.args[0].code() in _LASTING:
            raise
        _LOG.warning("Kafka can't be read, so the limits stay unchanged: %s", error.args[0].str())
        stop.wait(_AGAIN_SECONDS)
    except KafkaUnavailable as error:
        _LOG.warning("the catalog can't be read, so the limits stay unchanged: %s", error)
        stop.wait(_AGAIN_SECONDS)
    finally:
        if not (leadership.leads() and sink.durable(_STOP_SECONDS)):
            sink.forget()
