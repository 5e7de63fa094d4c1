"""Ready replicas from kube-state-metrics, through Prometheus' samples in Kafka (topic `prometheus.metrics`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from tidegate.adapters.catalog.source import CatalogSource
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kafka.dead_letters import DeadLetterWriter
from tidegate.adapters.watching.publisher import PublishedRows, WatchRow
from tidegate.jobs.logic.identity import of_service
from tidegate.jobs.logic.replicas.ready_samples import DEPLOYMENTS, PODS, ReadySamples, Sample, sample_of
from tidegate.jobs.logic.resources.raw_samples import BadSample
from tidegate.schemas.dead_letters import dead_letter
from tidegate.schemas.rows.accounting import DeadLetter
from tidegate.schemas.settings import Settings
from tidegate.schemas.topics import DEAD_LETTERS, PROMETHEUS_METRICS

log = logging.getLogger(__name__)

WRITER = "watcher"

_AT_ONCE = 1000
_NAMES = (DEPLOYMENTS.encode(), PODS.encode())
_NO_USE_GOING_ON = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})


class PrometheusSource:
    """Reads the samples from now on, and emits a row with the sample's time when one changes it.

    Raises KafkaUnavailable, KafkaException if the topic is not available.
    """

    def __init__(self, settings: Settings, catalog: CatalogSource) -> None:
        """catalog: closed with the source."""
        self._kafka = settings.kafka
        self._topic = settings.kafka.topic(PROMETHEUS_METRICS)
        # Halved, since a scrape just before a refresh is due would delay it by a whole scrape interval.
        self._published = PublishedRows(settings.watcher.refresh_seconds / 2)
        self._samples = ReadySamples(
            partial(of_service, settings=settings.access_log),
            stale_ms=int(settings.replica_changes.stale_seconds * 1000),
        )
        self._catalog = catalog
        ensure_topics(settings.kafka, [PROMETHEUS_METRICS, DEAD_LETTERS])
        self._letters = DeadLetterWriter(settings.kafka)
        self._consumer = Consumer(
            {
                **settings.kafka.client_config(),
                "group.id": settings.watcher.consumer_group,
                "client.id": "tidegate-watcher",
                # Older samples are not needed: every series is scraped again within an interval.
                "auto.offset.reset": "latest",
                "enable.auto.commit": True,
                "reconnect.backoff.ms": 200,
                "log_level": 4,
            }
        )
        self._consumer.subscribe([self._topic])

    @property
    def about(self) -> str:
        """The topic, and the gateways."""
        gateways = ", ".join(sorted(self._catalog.catalog.gateways)) or f"none in {self._catalog.place}"
        return f"{self._topic} at {self._kafka.bootstrap_servers}: {DEPLOYMENTS}; gateways: {gateways}"

    def rows(self, wait_seconds: float) -> Iterator[WatchRow]:
        """The rows that the next samples change."""
        self._catalog.changed()
        letters: list[DeadLetter] = []
        for message in self._consumer.consume(_AT_ONCE, wait_seconds):
            sample = self._sample(message, letters)
            workload = self._samples.put(sample) if sample is not None else None
            if workload is None:
                continue
            rows: list[WatchRow] = [self._samples.row(workload)]
            rows += [
                self._samples.gateway_row(name, workload)
                for name, gateway in self._catalog.catalog.gateways.items()
                if (gateway.namespace, name) == workload
            ]
            yield from (row for row in rows if self._published.due(row))
        if letters:
            left, reason = self._letters.write(letters)
            if left:
                log.warning("%d dead letters could not be written: %s", len(left), reason)

    def close(self) -> None:
        """Leave the consumer group."""
        self._consumer.close()
        self._catalog.close()

    def _sample(self, message: Message, letters: list[DeadLetter]) -> Sample | None:
        error = message.error()
        if error is not None:
            if error.fatal() or error.code() in _NO_USE_GOING_ON:
                raise KafkaException(error)
            log.warning("Kafka at %s: %s", self._kafka.bootstrap_servers, error.str())
            return None
        value = message.value() or b""
        if not any(name in value for name in _NAMES):
            return None  # most samples are of other metrics, which other readers consume
        try:
            return sample_of(orjson.loads(value))
        except (orjson.JSONDecodeError, BadSample) as bad:
            letters.append(
                dead_letter(
                    *(self._topic, message.partition(), message.offset(), str(bad), value, WRITER),
                    seen_at=datetime.now(UTC),
                )
            )
            return None
