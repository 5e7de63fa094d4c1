"""The indexer while its Elasticsearch is killed and comes back: the server of `own_stack`."""

from __future__ import annotations

import pytest
from elasticsearch import ApiError, TransportError

from tests.conftest import up
from tests.support.indexing import (
    ROWS_TOPIC,
    committed,
    documents,
    of_our_own,
    produce,
    row,
    running,
    settings_of,
)
from tests.support.waiting import until
from tidegate.schemas.settings import Elasticsearch, Kafka
from tidegate.stack.local import LocalStack

SERVER = "elasticsearch"


def indexed(elasticsearch: Elasticsearch) -> int:
    """How many rows can be searched; 0 while the server doesn't answer or brings its shards back."""
    try:
        return len(documents(elasticsearch, ROWS_TOPIC))
    except (ApiError, TransportError):
        return 0


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_killed_elasticsearch_that_comes_back_misses_nothing(kafka: Kafka, own_stack: LocalStack) -> None:
    count = 9000
    _, elasticsearch = of_our_own(kafka, up(own_stack, SERVER).elasticsearch)
    settings = settings_of(kafka, elasticsearch, bulk_documents=20)
    produce(kafka, ROWS_TOPIC, [row(number) for number in range(count)])

    with running(settings, ROWS_TOPIC) as indexer:
        until(lambda: indexed(elasticsearch) > 100, "some rows are indexed")
        own_stack.kill(SERVER)
        before = committed(kafka, settings.indexer.consumer_group, ROWS_TOPIC)
        own_stack.up([SERVER])
        assert before < count, "the server was killed after the last row: this has tested nothing"
        until(lambda: indexed(elasticsearch) == count, "every row is indexed", 240)
        assert indexer.error is None

    found = documents(elasticsearch, ROWS_TOPIC)
    assert {document["requests"] for document in found.values()} == set(range(count))
    assert committed(kafka, settings.indexer.consumer_group, ROWS_TOPIC) == count
