"""Errors of Kafka and the task catalog, turned into the failure of a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tidegate.cli.app_context import CommandFailed
from tidegate.schemas.settings import Settings


@contextmanager
def failures(settings: Settings) -> Iterator[None]:
    """Turns known errors into CommandFailed. The block also ends when the output's reader closes its pipe."""
    from confluent_kafka import KafkaException

    from tidegate.adapters.kafka.client import KafkaUnavailable
    from tidegate.schemas.catalog import CatalogError

    try:
        yield
    except CatalogError as error:
        raise CommandFailed(f"the task catalog can't be used:\n{error}") from error
    except KafkaUnavailable as error:
        raise CommandFailed(str(error)) from error
    except KafkaException as error:
        raise CommandFailed(f"Kafka at {settings.kafka.bootstrap_servers}: {error}") from error
    except BrokenPipeError:
        # The reader of the output has closed its pipe (`| head`), so nothing may be flushed to it.
        sys.stdout = None
