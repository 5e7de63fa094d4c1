"""Daily indices that are older than they are to be kept, and how much room each topic takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from elasticsearch import Elasticsearch as Client
from elasticsearch import NotFoundError
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import INDEX_CONTRACTS, IndexContract, contract_of, kept_days
from tidegate.schemas.settings import Elasticsearch

_DAY = re.compile(r"\d{4}\.\d\d\.\d\d")


@dataclass(frozen=True)
class DayIndex:
    """One day's index of a topic, and its size on disk with all replicas."""

    name: str
    topic: str
    day: date
    keep_days: int
    documents: int
    store_bytes: int

    def is_expired(self, today: date) -> bool:
        """Whether its day is over by more than it is kept. today: UTC."""
        return self.day < today - timedelta(days=self.keep_days)


@dataclass(frozen=True)
class Room:
    """What one topic takes in Elasticsearch. per_million_requests: bytes, None where no request is known."""

    topic: str
    indices: int
    documents: int
    store_bytes: int
    per_million_requests: float | None


def day_indices(client: Client, elasticsearch: Elasticsearch) -> list[DayIndex]:
    """All daily indices that tidegate made, oldest first: by their name, and that they have its alias.

    Raises ValueError for a topic in `elasticsearch.keep_days` that isn't indexed by day; ApiError, TransportError.
    """
    days = kept_days(elasticsearch.keep_days)
    found: list[DayIndex] = []
    for contract in INDEX_CONTRACTS:
        if contract.time_field is not None:
            found += _of(client, elasticsearch, contract, days[contract.topic.name])
    return sorted(found, key=lambda one: (one.day, one.name))


def remove(client: Client, index: DayIndex) -> None:
    """Delete it; one that is gone meanwhile is no error. Raises ApiError, TransportError."""
    client.indices.delete(index=index.name, ignore_unavailable=True)


def room(client: Client, elasticsearch: Elasticsearch) -> list[Room]:
    """What every topic's indices take, also beside the requests that the minutes in Elasticsearch count."""
    requests = _requests(client, elasticsearch)
    found: list[Room] = []
    for contract in INDEX_CONTRACTS:
        stats = _stats(client, contract.pattern(elasticsearch.index_prefix))
        store = sum(_bytes(one) for one in stats.values())
        documents = sum(_documents(one) for one in stats.values())
        if stats:
            per_million = store / requests * 1e6 if requests else None
            found.append(Room(contract.topic.name, len(stats), documents, store, per_million))
    return found


def _of(
    client: Client, elasticsearch: Elasticsearch, contract: IndexContract, keep_days: int
) -> Iterator[DayIndex]:
    alias, pattern = contract.alias(elasticsearch.index_prefix), contract.pattern(elasticsearch.index_prefix)
    known = client.indices.get_alias(index=pattern, ignore_unavailable=True).body
    stats = _stats(client, pattern)
    for name, told in known.items():
        day = _day_of(name.removeprefix(f"{alias}-"))
        if day is not None and alias in told["aliases"]:
            one = stats.get(name, {})
            yield DayIndex(name, contract.topic.name, day, keep_days, _documents(one), _bytes(one))


def _day_of(text: str) -> date | None:
    if _DAY.fullmatch(text) is None:
        return None
    try:
        return datetime.strptime(text, "%Y.%m.%d").date()  # noqa: DTZ007 (a day has no zone)
    except ValueError:
        return None


def _stats(client: Client, pattern: str) -> dict[str, Any]:
    try:
        answer = client.indices.stats(index=pattern, metric=["store", "docs"], forbid_closed_indices=False)
    except NotFoundError:  # an index without a day that was not made yet
        return {}
    return dict(answer["indices"])


def _bytes(stats: Mapping[str, Any]) -> int:
    return int(stats.get("total", {}).get("store", {}).get("size_in_bytes", 0))


def _documents(stats: Mapping[str, Any]) -> int:
    return int(stats.get("primaries", {}).get("docs", {}).get("count", 0))


def _requests(client: Client, elasticsearch: Elasticsearch) -> int:
    """Of all departments, by the rows of a minute."""
    answer = client.search(
        index=contract_of(topics.SERVICE_METRICS_1M.name).alias(elasticsearch.index_prefix),
        body={
            "size": 0,
            "query": {"term": {"level": "department"}},
            "aggs": {"requests": {"sum": {"field": "requests"}}},
        },
        ignore_unavailable=True,
    ).body
    return int(answer.get("aggregations", {"requests": {"value": 0}})["requests"]["value"])
