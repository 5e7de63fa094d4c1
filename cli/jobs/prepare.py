"""`tidegate prepare`: creates the topics and the index templates as soon as the servers answer."""

from __future__ import annotations

import threading
import time
from typing import Annotated

import typer

from tidegate.cli.app_context import CommandFailed, Options
from tidegate.cli.failures import failures
from tidegate.cli.stopping import stopping
from tidegate.jobs.specs import needed_topics
from tidegate.schemas.settings import Settings

_TRY_SECONDS = 2.0


def prepare(
    context: typer.Context,
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="how long to wait for each server")
    ] = 120,
) -> int:
    """Wait for Kafka and Elasticsearch, then create the missing topics and index templates.

    What exists already stays as it is, so the command can be repeated at any time.
    """
    from tidegate.adapters.indexing.indexer import TemplatesRefused

    options: Options = context.obj
    settings = options.load()
    try:
        with failures(settings), stopping() as received:
            if _topics(settings, wait, received.stop) and _templates(settings, wait, received.stop):
                typer.echo("all topics and index templates exist")
    except TemplatesRefused as error:
        raise CommandFailed(str(error)) from error
    return received.exit_code


def _topics(settings: Settings, wait: float, stop: threading.Event) -> bool:
    """False when stopped meanwhile."""
    from tidegate.adapters.kafka.client import KafkaUnavailable, ensure_topics

    deadline = time.monotonic() + wait
    while not stop.is_set():
        try:
            ensure_topics(settings.kafka, needed_topics(), timeout_seconds=_TRY_SECONDS)
        except KafkaUnavailable:
            if time.monotonic() > deadline:
                raise
        else:
            return True
    return False


def _templates(settings: Settings, wait: float, stop: threading.Event) -> bool:
    """False when stopped meanwhile."""
    from tidegate.adapters.indexing.client import connect
    from tidegate.adapters.indexing.indexer import await_templates
    from tidegate.schemas.elasticsearch import INDEX_CONTRACTS

    over = threading.Event()

    def give_up() -> None:
        over.set()
        stop.set()

    patience = threading.Timer(wait, give_up)
    patience.start()
    try:
        with connect(settings.elasticsearch, settings.indexer.request_timeout_seconds) as client:
            done = await_templates(client, settings, INDEX_CONTRACTS, stop)
    finally:
        patience.cancel()
    if not done and over.is_set():
        raise CommandFailed(
            f"Elasticsearch at {settings.elasticsearch.url} was not ready within {wait:g} s; see its log, or set "
            "elasticsearch.url"
        )
    return done
