"""What goes wrong with Kafka and the task catalog, as a command tells it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tidegate.cli.app_context import CommandFailed
from tidegate.schemas.settings import Settings


@contextmanager
def failures(settings: Settings) -> Iterator[None]:
    """Within the block known errors become the command's. A reader of our output that has enough ends the block."""
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
        # The reader of our output has enough (`| head`). Nothing is left to be flushed to it.
        sys.stdout = None
