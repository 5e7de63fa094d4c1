"""An Elasticsearch client for a command: an error of the client becomes the command's failure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tidegate.cli.app_context import CommandFailed
from tidegate.schemas.settings import Settings

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

_TIMEOUT_SECONDS = 30


@contextmanager
def asking(settings: Settings) -> Iterator[Client]:
    """A client within the block. The block also ends when the reader of the output closes its pipe."""
    from elastic_transport import TransportError
    from elasticsearch import ApiError

    from tidegate.adapters.indexing.client import connect, trouble

    where = settings.elasticsearch.url
    try:
        with connect(settings.elasticsearch, _TIMEOUT_SECONDS) as client:
            yield client
    except TransportError as error:
        raise CommandFailed(
            f"{trouble(where, error)}; start one with `tidegate up`, or set elasticsearch.url"
        ) from error
    except ApiError as error:
        raise CommandFailed(trouble(where, error)) from error
    except BrokenPipeError:
        sys.stdout = None
