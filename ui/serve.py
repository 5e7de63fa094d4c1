"""Runs the page: chooses the source of its rows, and the server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta

import uvicorn
from elastic_transport import TransportError
from elasticsearch import ApiError
from elasticsearch import Elasticsearch as Client

from tidegate.adapters.kafka.client import KafkaUnavailable
from tidegate.schemas import topics
from tidegate.schemas.settings import Settings
from tidegate.ui.app import Parts, create_app
from tidegate.ui.assets import Assets
from tidegate.ui.elasticsearch_source import ElasticsearchSource
from tidegate.ui.kafka_source import KafkaSource
from tidegate.ui.source import Source, SourceUnavailable

_DRAIN_SECONDS = 3
_MIB = 1024 * 1024


def serve(settings: Settings, on_start: Callable[[str, Source], None]) -> None:
    """Serve until SIGTERM or SIGINT, which is then raised again for the caller's handler.

    on_start: called with the address and the source once the server listens.

    Raises ArtifactUnavailable without uPlot, SourceUnavailable and KafkaUnavailable without a source, OSError for an
    address that it can't listen on.
    """
    assets = Assets()
    with source_of(settings) as (source, client):
        app = create_app(Parts(source, client, settings, assets, lambda: datetime.now(UTC)))
        config = uvicorn.Config(
            app, log_config=None, access_log=False, timeout_graceful_shutdown=_DRAIN_SECONDS
        )
        with socket.create_server((settings.ui.host, settings.ui.port)) as listener:
            host, port = listener.getsockname()[:2]
            on_start(f"http://{host}:{port}/", source)
            uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def source_of(settings: Settings) -> Iterator[tuple[Source, Client | None]]:
    """The source of the rows, and a client of the Elasticsearch with the logs, if it answers."""
    with ExitStack() as cleanup:
        searched = ElasticsearchSource(settings.elasticsearch)
        cleanup.callback(searched.close)
        why = _why_not(searched)
        chosen = settings.ui.source
        if chosen == "elasticsearch" or (chosen == "auto" and why is None):
            # The page reports an unavailable Elasticsearch and retries: it may come back.
            yield searched, searched.client
            return
        kafka = KafkaSource(
            settings.kafka,
            timedelta(minutes=settings.ui.kafka_minutes),
            settings.ui.kafka_mib * _MIB,
        )
        try:
            kafka.start()
        except KafkaUnavailable as error:
            raise SourceUnavailable(
                str(error) if chosen == "kafka" else f"there is nothing to show. {why}. {error}"
            ) from error
        cleanup.callback(kafka.close)
        yield kafka, searched.client if _answers(searched.client) else None


def _why_not(source: ElasticsearchSource) -> str | None:
    """Why this Elasticsearch can't be the source; None if it can."""
    try:
        row = source.newest(topics.SERVICE_METRICS_1S, {"level": "department"})
    except SourceUnavailable as error:
        return str(error)
    return None if row is not None else f"Elasticsearch at {source.address} has no service-metrics rows"


def _answers(client: Client) -> bool:
    try:
        client.cluster.health()
    except (TransportError, ApiError):
        return False
    return True
