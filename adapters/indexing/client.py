"""The Elasticsearch client with tidegate's configuration: the caller retries, orjson encodes."""

from __future__ import annotations

from elastic_transport import OrjsonSerializer, TransportError
from elastic_transport.client_utils import DEFAULT
from elasticsearch import ApiError
from elasticsearch import Elasticsearch as Client

from tidegate.schemas.settings import Elasticsearch


class _CompatibleOrjson(OrjsonSerializer):
    mimetype = "application/vnd.elasticsearch+json"


def trouble(url: str, error: ApiError | TransportError) -> str:
    """The error message of a failed request: no answer, or the status of the answer."""
    if isinstance(error, ApiError):
        return f"Elasticsearch at {url} answers {error.status_code}: {error.message}"
    return f"Elasticsearch at {url} doesn't answer ({error.message})"


def connect(elasticsearch: Elasticsearch, timeout_seconds: float) -> Client:
    """A client for these settings. It connects with its first request, and sends each request once."""
    return Client(
        elasticsearch.url,
        basic_auth=elasticsearch.basic_auth(),
        ca_certs=str(elasticsearch.ca_file) if elasticsearch.ca_file else DEFAULT,
        request_timeout=timeout_seconds,
        max_retries=0,
        retry_on_timeout=False,
        serializers={
            "application/json": OrjsonSerializer(),
            _CompatibleOrjson.mimetype: _CompatibleOrjson(),
        },
    )
