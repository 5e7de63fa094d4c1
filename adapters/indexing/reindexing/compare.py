"""Compares a topic's index with the rebuilt one: documents that the new one lacks, counted by minute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from elasticsearch import Elasticsearch as Client

from tidegate.adapters.indexing.family import FamilyIndex
from tidegate.schemas.elasticsearch import RAW_TIME, IndexContract


@dataclass(frozen=True)
class Comparison:
    """An index and the rebuilt one beside it. None: it doesn't exist.

    missing: documents that only the old one holds.
    """

    target: str
    old: FamilyIndex | None
    new: FamilyIndex | None
    old_documents: int = 0
    new_documents: int = 0
    missing: int = 0


def compare(
    client: Client, contract: IndexContract, old: Iterable[FamilyIndex], new: Mapping[str, FamilyIndex]
) -> list[Comparison]:
    """Each old index beside the new one of the same target, and the new ones that have none.

    new: by target of the old ones. Raises ApiError, TransportError.
    """
    found: list[Comparison] = []
    left = dict(new)
    for index in old:
        found.append(_pair(client, contract, index, left.pop(index.target, None)))
    for target, index in left.items():
        documents = _count(client, contract, index).total()
        found.append(Comparison(target, None, index, new_documents=documents))
    return sorted(found, key=lambda one: one.target)


def _pair(client: Client, contract: IndexContract, old: FamilyIndex, new: FamilyIndex | None) -> Comparison:
    ours = _count(client, contract, old)
    theirs: Counter[Any] = Counter() if new is None else _count(client, contract, new)
    missing = (ours - theirs).total()
    return Comparison(old.target, old, new, ours.total(), theirs.total(), missing)


def _count(client: Client, contract: IndexContract, index: FamilyIndex) -> Counter[Any]:
    """Documents by minute (epoch, ms). Where a row replaces the one before it, minutes mean nothing: by None."""
    client.indices.refresh(index=index.name)
    if contract.time_field is None:
        return Counter({None: int(client.count(index=index.name)["count"])})
    answer = client.search(
        index=index.name,
        size=0,
        track_total_hits=True,
        aggregations={
            "minutes": {
                "date_histogram": {
                    "field": RAW_TIME if contract.raw else contract.time_field,
                    "fixed_interval": "1m",
                    "min_doc_count": 1,
                }
            }
        },
    ).body
    minutes = answer.get("aggregations", {"minutes": {"buckets": []}})["minutes"]["buckets"]
    return Counter({bucket["key"]: bucket["doc_count"] for bucket in minutes})
