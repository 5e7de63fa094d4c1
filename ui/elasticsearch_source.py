"""Rows from Elasticsearch, as the indexer writes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from elastic_transport import TransportError
from elasticsearch import ApiError
from elasticsearch import Elasticsearch as Client

from tidegate.adapters.indexing.client import connect, trouble
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.settings import Elasticsearch
from tidegate.schemas.timestamps import to_text
from tidegate.schemas.topics import Topic
from tidegate.ui.source import MOST_ROWS, Equal, Json, SourceUnavailable, moment_of

_TIMEOUT_SECONDS = 10
_PAGE = 10_000
"""Elasticsearch's own limit of one answer (index.max_result_window)."""


class ElasticsearchSource:
    """Searches the topics' aliases. An index that isn't there yet has no rows."""

    name = "elasticsearch"
    reach = None

    def __init__(self, elasticsearch: Elasticsearch) -> None:
        self._elasticsearch = elasticsearch
        self.client: Client = connect(elasticsearch, _TIMEOUT_SECONDS)

    @property
    def address(self) -> str:
        """Its URL."""
        return self._elasticsearch.url

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def find(
        self,
        topic: Topic,
        equal: Equal,
        since: datetime | None = None,
        until: datetime | None = None,
        without: Sequence[str] = (),
    ) -> list[Json]:
        """See `Source`."""
        found: list[Json] = []
        after: list[Any] | None = None
        while True:
            hits = self._search(topic, equal, since, until, without, _PAGE, "asc", after)
            found += [hit["_source"] for hit in hits]
            if len(hits) < _PAGE:
                return found
            if len(found) >= MOST_ROWS:
                raise SourceUnavailable(
                    f"{topic.name} has more than {MOST_ROWS:,} rows in this time range; choose a shorter one"
                )
            after = hits[-1]["sort"]

    def newest(self, topic: Topic, equal: Equal) -> Json | None:
        """See `Source`."""
        hits = self._search(topic, equal, None, None, (), 1, "desc", None)
        return hits[0]["_source"] if hits else None

    def _search(
        self,
        topic: Topic,
        equal: Equal,
        since: datetime | None,
        until: datetime | None,
        without: Sequence[str],
        size: int,
        order: str,
        after: list[Any] | None,
    ) -> list[dict[str, Any]]:
        moment = moment_of(topic)
        body: dict[str, Any] = {
            "query": {"bool": _filters(moment, equal, since, until)},
            "sort": [
                {moment: {"order": order, "unmapped_type": "date"}},
                {"id": {"order": order, "unmapped_type": "keyword"}},
            ],
            "size": size,
            "track_total_hits": False,
        }
        if without:
            body["_source"] = {"excludes": list(without)}
        if after is not None:
            body["search_after"] = after
        alias = contract_of(topic.name).alias(self._elasticsearch.index_prefix)
        try:
            answer = self.client.search(index=alias, body=body, ignore_unavailable=True).body
        except TransportError as error:
            raise SourceUnavailable(
                f"{trouble(self.address, error)}; check that it is running, and elasticsearch.url"
            ) from error
        except ApiError as error:
            raise SourceUnavailable(trouble(self.address, error)) from error
        return list(answer["hits"]["hits"])


def _filters(
    moment: str, equal: Equal, since: datetime | None, until: datetime | None
) -> dict[str, list[Any]]:
    wanted: list[dict[str, Any]] = []
    absent: list[dict[str, Any]] = []
    for name, value in equal.items():
        if value is None:
            absent.append({"exists": {"field": name}})
        elif isinstance(value, str):
            wanted.append({"term": {name: value}})
        else:
            wanted.append({"terms": {name: list(value)}})
    times = {bound: to_text(at) for bound, at in (("gte", since), ("lt", until)) if at is not None}
    if times:
        wanted.append({"range": {moment: times}})
    return {"filter": wanted, "must_not": absent}
