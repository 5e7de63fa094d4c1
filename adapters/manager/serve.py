"""Runs the manager: its dependencies from the settings, the catalog's current gateways, and the HTTP server."""

from __future__ import annotations

import logging
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import uvicorn
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition
from pydantic import ValidationError

from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kubernetes.objects import KubernetesObjects
from tidegate.adapters.limiting.controller import CatalogFile
from tidegate.adapters.limiting.targets.kubernetes import KubernetesTarget
from tidegate.adapters.manager.app import Parts, create_app
from tidegate.adapters.manager.audit import KafkaAudit
from tidegate.adapters.manager.tokens import Tokens
from tidegate.jobs.logic.catalog_rows import RowCatalog
from tidegate.schemas import topics
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.rows.limits import TaskRow
from tidegate.schemas.settings import Kafka, Settings

log = logging.getLogger(__name__)

Gateways = Callable[[], Mapping[str, Gateway]]
_DRAIN_SECONDS = 10


def serve(settings: Settings, on_address: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, which are then raised again for the caller's handlers.

    on_address: gets the address, once the server listens on it.

    Raises SettingsError without a valid tokens file, CatalogError without a valid catalog file, KubernetesUnknown
    without access to the API server, KafkaUnavailable without Kafka, OSError for an address that is not available.
    """
    tokens = Tokens(settings.manager.tokens_file)
    objects = KubernetesObjects(settings.kubernetes)
    ensure_topics(settings.kafka, [topics.CHANGES, topics.TASKS])
    audit = KafkaAudit(settings.kafka)
    try:
        with gateways_of(settings) as gateways:
            app = create_app(
                Parts(
                    tokens=tokens,
                    audit=audit,
                    objects=objects,
                    limits=KubernetesTarget(settings.kubernetes, gateways(), objects),
                    gateways=gateways,
                    access_log=settings.access_log,
                    domain=settings.manager.domain,
                    now=lambda: datetime.now(UTC),
                )
            )
            # uvicorn's access log would repeat the audit.
            config = uvicorn.Config(
                app, log_config=None, access_log=False, timeout_graceful_shutdown=_DRAIN_SECONDS
            )
            with socket.create_server((settings.manager.host, settings.manager.port)) as listener:
                host, port = listener.getsockname()[:2]
                on_address(f"http://{host}:{port}")
                uvicorn.Server(config).run(sockets=[listener])
    finally:
        audit.close()
        objects.close()


@contextmanager
def gateways_of(settings: Settings) -> Iterator[Gateways]:
    """The catalog's gateways, from its file, else from its topic."""
    if settings.catalog.file is not None:
        yield _FromFile(CatalogFile(settings.catalog.file))
        return
    followed = _FromTopic(settings.kafka)
    followed.start()
    try:
        yield followed
    finally:
        followed.stop()


class _FromFile:
    def __init__(self, file: CatalogFile) -> None:
        self._file = file
        self._lock = threading.Lock()

    def __call__(self) -> Mapping[str, Gateway]:
        with self._lock:
            self._file.changed()
            return self._file.catalog.gateways


class _FromTopic(threading.Thread):
    """Follows `tidegate.tasks`. A row that can't be used changes nothing."""

    def __init__(self, kafka: Kafka) -> None:
        super().__init__(name="manager-catalog", daemon=True)
        self._topic = kafka.topic(topics.TASKS)
        self._rows = RowCatalog()
        self._gateways: Mapping[str, Gateway] = {}
        self._stop_asked = threading.Event()
        self._consumer = Consumer(
            {
                **kafka.client_config(),
                "group.id": f"tidegate-manager-reading-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "log_level": 4,
            }
        )

    def __call__(self) -> Mapping[str, Gateway]:
        return self._gateways

    def stop(self) -> None:
        """End it."""
        self._stop_asked.set()
        self.join()
        self._consumer.close()

    def run(self) -> None:
        """Read the topic whole, then what comes."""
        while not self._stop_asked.is_set():
            try:
                found = self._consumer.list_topics(self._topic, timeout=5).topics[self._topic].partitions
            except KafkaException as error:
                log.warning("the catalog's topic can't be read: %s", error)
                self._stop_asked.wait(1)
                continue
            if found:
                break
            self._stop_asked.wait(0.2)
        else:
            return
        self._consumer.assign(
            [TopicPartition(self._topic, partition, OFFSET_BEGINNING) for partition in found]
        )
        while not self._stop_asked.is_set():
            for message in self._consumer.consume(500, 0.2):
                if message.error() is None:
                    self._take((message.key() or b"").decode("utf-8", "replace"), message.value())
            self._gateways = self._rows.catalog().gateways

    def _take(self, key: str, value: bytes | None) -> None:
        try:
            row = None if value is None else TaskRow.model_validate_json(value)
        except ValidationError as error:
            log.warning(
                "the catalog's row %s can't be read: %s", key, error.errors(include_url=False)[0]["msg"]
            )
            return
        if reason := self._rows.put(key, row):
            log.warning("the catalog's row is refused: %s", reason)
