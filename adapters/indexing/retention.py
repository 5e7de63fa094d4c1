"""Daily indices beyond their retention, and the disk space of each topic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from elasticsearch import Elasticsearch as Client
from elasticsearch import NotFoundError

from tidegate.adapters.indexing.family import family
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import INDEX_CONTRACTS, IndexContract, contract_of, kept_days
from tidegate.schemas.settings import Elasticsearch
from tidegate.schemas.timestamps import from_epoch_ms

_MINUTES_OF_A_DAY = 1440


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
        """Whether it is older than its retention. today: UTC."""
        return self.day < today - timedelta(days=self.keep_days)


@dataclass(frozen=True)
class Room:
    """The disk space of one topic in Elasticsearch, with all replicas.

    per_million_requests: bytes, of the days whose requests are known; None where there is none. keep_days: None for a
    topic whose index has no day: it holds what is true now.
    """

    topic: str
    indices: int
    documents: int
    store_bytes: int
    per_million_requests: float | None
    keep_days: int | None

    def kept_bytes(self, requests_per_day: float) -> float | None:
        """What it comes to take, where every day has so many requests: the days that are kept, and today.

        A topic without days stays as large as it is. None where nothing is known of a million requests.
        """
        if self.keep_days is None:
            return float(self.store_bytes)
        if self.per_million_requests is None:
            return None
        return self.per_million_requests * requests_per_day / 1e6 * (self.keep_days + 1)


@dataclass(frozen=True)
class Requests:
    """By the rows of a minute that are in Elasticsearch, of all departments: how many, and in how many minutes."""

    by_day: Mapping[date, int]
    minutes: int

    @property
    def per_day(self) -> float | None:
        """In a whole day, as in the minutes that are known. None: nothing is known."""
        return sum(self.by_day.values()) / self.minutes * _MINUTES_OF_A_DAY if self.minutes else None


def day_indices(client: Client, elasticsearch: Elasticsearch) -> list[DayIndex]:
    """All daily indices that tidegate made, oldest first: by their name, and that they have its alias.

    Raises ApiError, TransportError.
    """
    days = kept_days(elasticsearch.keep_days)
    found: list[DayIndex] = []
    for contract in INDEX_CONTRACTS:
        if contract.time_field is not None:
            stats = _stats(client, contract.pattern(elasticsearch.index_prefix))
            found += _of(client, elasticsearch, contract, days[contract.topic.name], stats)
    return sorted(found, key=lambda one: (one.day, one.name))


def remove(client: Client, index: DayIndex) -> None:
    """Delete the index, if it still exists. Raises ApiError, TransportError."""
    client.indices.delete(index=index.name, ignore_unavailable=True)


def room(client: Client, elasticsearch: Elasticsearch, requests: Requests) -> list[Room]:
    """The disk space of every topic's indices, also in relation to the requests of the same days.

    Raises ApiError, TransportError.
    """
    days = kept_days(elasticsearch.keep_days)
    found: list[Room] = []
    for contract in INDEX_CONTRACTS:
        stats = _stats(client, contract.pattern(elasticsearch.index_prefix))
        if not stats:
            continue
        keep_days = days.get(contract.topic.name)
        known = [
            (index.store_bytes, requests.by_day[index.day])
            for index in _of(client, elasticsearch, contract, keep_days or 0, stats)
            if requests.by_day.get(index.day)
        ]
        per_million = sum(each for each, _ in known) / sum(each for _, each in known) * 1e6 if known else None
        store = sum(_bytes(one) for one in stats.values())
        documents = sum(_documents(one) for one in stats.values())
        found.append(Room(contract.topic.name, len(stats), documents, store, per_million, keep_days))
    return found


def requests(client: Client, elasticsearch: Elasticsearch) -> Requests:
    """What is known of the requests. Raises ApiError, TransportError."""
    answer = client.search(
        index=contract_of(topics.SERVICE_METRICS_1M.name).alias(elasticsearch.index_prefix),
        body={
            "size": 0,
            "query": {"term": {"level": "department"}},
            "aggs": {
                "days": {
                    "date_histogram": {"field": "window_start", "fixed_interval": "1d", "min_doc_count": 1},
                    "aggs": {
                        "requests": {"sum": {"field": "requests"}},
                        "minutes": {"cardinality": {"field": "window_start"}},
                    },
                }
            },
        },
        ignore_unavailable=True,
    ).body
    days = answer.get("aggregations", {"days": {"buckets": []}})["days"]["buckets"]
    return Requests(
        {from_epoch_ms(day["key"]).date(): int(day["requests"]["value"]) for day in days},
        sum(day["minutes"]["value"] for day in days),
    )


def _of(
    client: Client,
    elasticsearch: Elasticsearch,
    contract: IndexContract,
    keep_days: int,
    stats: Mapping[str, Any],
) -> Iterator[DayIndex]:
    for index in family(client, contract, elasticsearch.index_prefix):
        if index.day is not None:
            one = stats.get(index.name, {})
            yield DayIndex(
                index.name, contract.topic.name, index.day, keep_days, _documents(one), _bytes(one)
            )


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
