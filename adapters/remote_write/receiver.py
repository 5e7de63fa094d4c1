"""The remote-write receiver: Prometheus' samples into `prometheus.metrics`, acknowledged once Kafka has them."""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from prometheus_client import CollectorRegistry
from prometheus_client import Counter as Metric

from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.remote_write.decoding import V1, V2, InvalidRemoteWrite, Series, series_of, size_of
from tidegate.jobs.logic.resources.ha_election import Elections
from tidegate.jobs.logic.resources.prometheus_samples import BadSeries, Wanted, labels_of, message_of, pod_of
from tidegate.schemas.settings import Settings
from tidegate.schemas.settings.signals import RemoteWrite
from tidegate.schemas.topics import PROMETHEUS_METRICS

_LOG = logging.getLogger(__name__)

_METADATA_SECONDS = 10.0
_REPORTED = 5
"""The number of errors that an answer lists."""


@dataclass(frozen=True)
class Answer:
    """The answer to a request: HTTP status, text and headers."""

    status: int
    text: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Receiver:
    """Receives bodies, from any thread. Raises KafkaUnavailable and KafkaException at the start."""

    def __init__(self, settings: Settings) -> None:
        self._settings: RemoteWrite = settings.remote_write
        self._topic = settings.kafka.topic(PROMETHEUS_METRICS)
        self._wanted = Wanted(self._settings.names, self._settings.drop_labels)
        self._elections = Elections(round(1000 * self._settings.ha_failover_seconds))
        self._electing = threading.Lock()
        ensure_topics(settings.kafka, [PROMETHEUS_METRICS])
        self._producer = Producer(
            {
                **settings.kafka.client_config(),
                "client.id": "tidegate-remote-write",
                "linger.ms": 5,
                "compression.type": "lz4",
                # Prometheus repeats the samples that Kafka has not acknowledged by then.
                "message.timeout.ms": round(1000 * self._settings.timeout_seconds),
                "queue.buffering.max.messages": self._settings.max_waiting_samples,
                "log_level": 3,
            }
        )
        self._partitions = self._count_partitions()
        self._closing = threading.Event()
        self._polling = threading.Thread(target=self._poll, daemon=True)
        self._polling.start()
        self.registry = CollectorRegistry()
        self._samples = Metric(
            "tidegate_remote_write_samples",
            "Samples by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self._requests = Metric(
            "tidegate_remote_write_requests", "Requests by status.", ["code"], registry=self.registry
        )

    @property
    def ready(self) -> bool:
        """Whether Kafka answers."""
        try:
            self._producer.list_topics(self._topic, timeout=2)
        except KafkaException:
            return False
        return True

    def receive(self, body: bytes, content_type: str, encoding: str) -> Answer:
        """Handle a request: it succeeds only once Kafka acknowledges all of its selected samples."""
        answer = self._receive(body, content_type, encoding)
        self._requests.labels(str(answer.status)).inc()
        return answer

    def close(self) -> None:
        """Wait for Kafka's acknowledgements, at most as long as a request does."""
        self._producer.flush(self._settings.timeout_seconds)
        self._closing.set()
        self._polling.join(5)

    def _receive(self, body: bytes, content_type: str, encoding: str) -> Answer:
        message = _message_of(content_type)
        if message is None:
            return Answer(
                415,
                f"Content-Type {content_type!r} is not supported; send application/x-protobuf;proto={V1} or {V2}",
            )
        if encoding.lower() not in ("snappy", ""):
            return Answer(415, f"Content-Encoding {encoding!r} is not supported; send snappy")
        try:
            if (size := size_of(body)) > self._settings.max_unpacked_bytes:
                return Answer(
                    413, f"the body has {size} bytes decompressed, more than remote_write.max_unpacked_bytes"
                )
            return self._write(list(series_of(body, message)), message)
        except InvalidRemoteWrite as error:
            return Answer(400, str(error))

    def _write(self, found: list[Series], message: str) -> Answer:
        delivery = _Delivery()
        counts: Counter[str] = Counter()
        wrong: list[str] = []
        now_ms = time.time_ns() // 1_000_000
        full = False
        for series in found:
            counts["histogram_not_written"] += series.histograms
            counts["exemplar_not_written"] += series.exemplars
            try:
                labels = labels_of(series.pairs, self._keeps)
            except BadSeries as error:
                counts["invalid"] += len(series.samples)
                wrong.append(str(error))
                continue
            outcome = self._fate(labels, now_ms)
            if outcome is not None:
                counts[outcome] += len(series.samples)
                continue
            labels = {name: text for name, text in labels.items() if self._wanted.keeps(name)}
            partition = zlib.crc32(pod_of(labels).encode()) % self._partitions
            for value, at_ms in series.samples:
                try:
                    text = message_of(labels, value, at_ms)
                except BadSeries as error:
                    counts["invalid"] += 1
                    wrong.append(f"{labels['__name__']}: {error}")
                    continue
                try:
                    self._producer.produce(
                        self._topic, text, partition=partition, on_delivery=delivery.expect()
                    )
                except BufferError:
                    delivery.withdraw()
                    full = True
                    break
            if full:
                break
        written, lost = delivery.wait(self._settings.timeout_seconds + 1)
        counts["written"] += written
        for outcome, number in counts.items():
            self._samples.labels(outcome).inc(number)
        if full or lost is not None:
            reason = (
                "too many samples are waiting for Kafka"
                if full
                else f"Kafka did not acknowledge all samples: {lost}"
            )
            _LOG.warning("%s; Prometheus is asked to retry", reason)
            return Answer(503, reason, {"Retry-After": str(self._settings.retry_after_seconds)})
        headers = {}
        if message == V2:
            headers = {
                "X-Prometheus-Remote-Write-Samples-Written": str(written),
                "X-Prometheus-Remote-Write-Histograms-Written": "0",
                "X-Prometheus-Remote-Write-Exemplars-Written": "0",
            }
        if wrong:
            more = f"; and {len(wrong) - _REPORTED} more" if len(wrong) > _REPORTED else ""
            return Answer(400, "; ".join(wrong[:_REPORTED]) + more, headers)
        return Answer(204, "", headers)

    def _keeps(self, name: str) -> bool:
        """Whether a label is read: those of the election are, though a drop rule names them."""
        return self._wanted.keeps(name) or name in (
            self._settings.ha_cluster_label,
            self._settings.ha_replica_label,
        )

    def _fate(self, labels: dict[str, str], now_ms: int) -> str | None:
        """The outcome of a series that is not written; None: it is. Removes the replica's label."""
        cluster = labels.get(self._settings.ha_cluster_label, "")
        replica = labels.pop(self._settings.ha_replica_label, None)
        if replica is not None:
            with self._electing:
                if not self._elections.takes(cluster, replica, now_ms):
                    return "other_replica"
        return None if self._wanted.takes(labels["__name__"]) else "not_wanted"

    def _count_partitions(self) -> int:
        found = self._producer.list_topics(self._topic, timeout=_METADATA_SECONDS).topics[self._topic]
        return max(1, len(found.partitions))

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.1)


class _Delivery:
    """The delivery reports of one request's samples."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting = 0
        self._written = 0
        self._error: str | None = None

    def expect(self) -> Callable[[KafkaError | None, Message], None]:
        """Expect one more report. Returns the producer's callback."""
        with self._changed:
            self._waiting += 1
        return self._delivered

    def withdraw(self) -> None:
        """Expect one report less: the sample was not handed over."""
        with self._changed:
            self._waiting -= 1

    def wait(self, seconds: float) -> tuple[int, str | None]:
        """The number of written samples, and the error of one that was not written."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting == 0, seconds):
                self._error = f"{self._waiting} samples were not acknowledged within {seconds:g} s"
            return self._written, self._error

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        with self._changed:
            self._waiting -= 1
            if error is None:
                self._written += 1
            else:
                self._error = error.str()
            if self._waiting == 0:
                self._changed.notify()


def _message_of(content_type: str) -> str | None:
    """The protobuf message of a Content-Type; None if it is not a remote write."""
    kind, *parameters = (part.strip() for part in content_type.split(";"))
    if kind.lower() != "application/x-protobuf":
        return None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "proto":
            value = value.strip().strip('"')
            return value if value in (V1, V2) else None
    return V1
