"""What a million requests take in Elasticsearch: `python -m benchmarks.elasticsearch_sizes`.

Starts Kafka and Elasticsearch for itself, writes three minutes of 200 tasks with five replicas at 2,000 requests/s into
Kafka, lets the job make its rows of them and the indexer index it all. A service logs one record of a request here, and
one in a hundred has a stack trace. Sizes are of one copy (no replicas), in MB of 1,000,000 bytes: as indexed, and after
each index was merged into one segment, which is what a day becomes once nothing is written to it. Rows are indexed a
second time, with elasticsearch.best_compression.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from elasticsearch import Elasticsearch as Client

from benchmarks.elasticsearch_rows import (
    FILLED,
    REMEMBERED_SECONDS,
    Load,
    filled_topics,
    merge,
    settle,
    stored_bytes,
)
from tidegate.adapters.indexing.client import connect
from tidegate.adapters.indexing.indexer import run_indexer
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.settings import Settings
from tidegate.schemas.topics import Topic

_ROWS_A_DAY = {topics.SERVICE_METRICS_1S: 86_400, topics.SERVICE_METRICS_1M: 1440}
"""Of one series that has a request in every window."""


@dataclass(frozen=True)
class Size:
    """Of one topic's indices, in bytes."""

    name: str
    topic: Topic
    documents: int
    indexed: int
    merged: int


def index(settings: Settings, wanted: Iterable[Topic], note: str = "") -> dict[str, tuple[Topic, str]]:
    """Index these topics; by name, with the note behind it, each one's topic and alias."""
    contracts = [contract_of(topic.name) for topic in wanted]
    print(run_indexer(settings, contracts, bounded=True, stop=threading.Event()), flush=True)
    return {
        f"{contract.topic.name}{note}": (contract.topic, contract.alias(settings.elasticsearch.index_prefix))
        for contract in contracts
    }


def measure(client: Client, indexed: Mapping[str, tuple[Topic, str]]) -> list[Size]:
    """What they take before and after a merge."""
    every = ",".join(alias for _, alias in indexed.values())
    client.indices.refresh(index=every)
    taken: list[dict[str, int]] = []
    for step in (settle, merge):
        step(client, every)
        time.sleep(REMEMBERED_SECONDS + 1)
        taken.append({name: stored_bytes(client, alias) for name, (_, alias) in indexed.items()})
    return [
        Size(name, topic, int(client.count(index=alias)["count"]), taken[0][name], taken[1][name])
        for name, (topic, alias) in indexed.items()
    ]


def report(found: list[Size], requests: int) -> None:
    """A table, a line for each topic."""
    print(
        f"{'':34} {'documents':>10} {'MB a million requests':>24} {'bytes a document':>19} {'a series, MB/day':>18}"
    )
    print(
        f"{'':34} {'':>10} {'indexed':>13} {'merged':>10} {'indexed':>10} {'merged':>8} {'indexed':>9} {'merged':>8}"
    )
    for size in found:
        millions, each = requests / 1e6, size.documents
        rows = _ROWS_A_DAY.get(size.topic)
        series = [
            "-" if rows is None else f"{taken / each * rows / 1e6:.2f}"
            for taken in (size.indexed, size.merged)
        ]
        print(
            f"{size.name:34} {each:10,} {size.indexed / millions / 1e6:13.1f} "
            f"{size.merged / millions / 1e6:10.1f} {size.indexed / each:10,.0f} {size.merged / each:8,.0f} "
            f"{series[0]:>9} {series[1]:>8}"
        )


def main() -> None:
    """The command line."""
    usual = Load()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=usual.seconds)
    parser.add_argument("--rate", type=int, default=usual.requests_per_second, help="requests a second")
    chosen = parser.parse_args()
    load = Load(chosen.rate, chosen.seconds)
    with (
        filled_topics(load) as settings,
        connect(settings.elasticsearch, timeout_seconds=120) as client,
    ):
        indexed = index(settings, FILLED) | index(_compressed(settings), _ROWS_A_DAY, ", best")
        report(measure(client, indexed), load.requests)


def _compressed(settings: Settings) -> Settings:
    """Other indices of the same topics, with the better codec."""
    names = tuple(topic.name for topic in _ROWS_A_DAY)
    better = {"index_prefix": "best-", "best_compression": names}
    return settings.model_copy(
        update={
            "elasticsearch": settings.elasticsearch.model_copy(update=better),
            "indexer": settings.indexer.model_copy(update={"consumer_group": "best"}),
        }
    )


if __name__ == "__main__":
    main()
