"""Runs the manager: its dependencies from the settings, the catalog's current gateways, and the HTTP server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import uvicorn

from tidegate.adapters.catalog.source import catalog_source
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kubernetes.envoy_filters import EnvoyFilters
from tidegate.adapters.kubernetes.objects import KubernetesObjects
from tidegate.adapters.manager.app import Parts, create_app
from tidegate.adapters.manager.audit import KafkaAudit
from tidegate.adapters.manager.tokens import Tokens
from tidegate.jobs.logic.limits.envoy_limits import LimitedAnswer
from tidegate.schemas import topics
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.settings import Settings

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
                    limits=EnvoyFilters(objects, LimitedAnswer.of(settings.limits)),
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
    """The catalog's gateways as they are at each call, for any thread."""
    lock = threading.Lock()
    with closing(catalog_source(settings, file_poll_seconds=0)) as source:

        def gateways() -> Mapping[str, Gateway]:
            with lock:
                source.changed()
                return source.catalog.gateways

        yield gateways
