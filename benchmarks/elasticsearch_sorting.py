"""Whether sorted indices and the better codec pay: `python -m benchmarks.elasticsearch_sorting`.

Starts Kafka and Elasticsearch for itself, fills the topic as tidegate does, and indexes the same documents, in the
order of their times, into an index of each form in turns: as they come (the floor), with the better codec, sorted.
Of each it prints how fast it takes documents, its size as indexed and as one segment, and how long what the dashboards
and the page ask takes with the segments that indexing leaves.
"""

from __future__ import annotations

import argparse
import statistics
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from elasticsearch import Elasticsearch as Client

from benchmarks.elasticsearch_rows import FILLED, Load, filled_topics, merge, settle, stored_bytes
from tidegate.adapters.indexing.bulk import attempt_bulk
from tidegate.adapters.indexing.client import connect
from tidegate.adapters.indexing.documents import Document, DocumentMaker, Position, Received
from tidegate.adapters.indexing.templates import detect_features
from tidegate.adapters.kafka.log import snapshot
from tidegate.schemas.elasticsearch import IndexContract, contract_of, index_sort, index_template
from tidegate.schemas.settings import Settings

BULK_DOCUMENTS = 2000
ASKED = 15
"""Each search so often in a round."""

_BEST = {"codec": "best_compression"}
_ROW_TIME = "window_start"
_LOG_TIME = "@timestamp"


def _sort(*fields: str) -> dict[str, Any]:
    """Index settings, by the fields of a contract's `sort`."""
    return {"sort": index_sort(fields)}


_BY_LEVEL = ("level", "task", "replica", _ROW_TIME)
_BY_TASK = ("task", "level", "replica", _ROW_TIME)
ROW_FORMS: Mapping[str, dict[str, Any]] = {
    "as they come": {},
    "best_compression": _BEST,
    "level, task, replica, time": _sort(*_BY_LEVEL),
    "level, task, replica, time; best_compression": _sort(*_BY_LEVEL) | _BEST,
    "task, level, replica, time; best_compression": _sort(*_BY_TASK) | _BEST,
}
LOG_FORMS: Mapping[str, dict[str, Any]] = {
    "as they come": {},
    "best_compression": _BEST,
    "newest first; best_compression": _sort(f"-{_LOG_TIME}") | _BEST,
    "task, newest first; best_compression": _sort("task", f"-{_LOG_TIME}") | _BEST,
}


@dataclass
class Measured:
    """Of one form, a figure a round."""

    speeds: list[float] = field(default_factory=list)
    """Documents a second."""
    indexed: list[int] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    """Bytes."""
    searches: dict[str, list[float]] = field(default_factory=dict)
    """By the search's name: ms."""


def documents_of(settings: Settings, contract: IndexContract) -> list[Document]:
    """All of the topic's, in the order of their times."""
    maker = DocumentMaker(contract, "", settings.access_log)
    moment = _LOG_TIME if contract.raw else _ROW_TIME
    found: list[tuple[str, Document]] = []
    name = settings.kafka.topic(contract.topic)
    for message in snapshot(settings.kafka, contract.topic):
        position = Position(name, message.partition, message.offset)
        made = maker.make(Received(position, message.at_ms, message.value))
        assert isinstance(made, Document), made
        found.append((orjson.loads(made.body)[moment], made._replace(value=b"")))
    return [document for _, document in sorted(found, key=lambda one: one[0])]


def searches_of(contract: IndexContract, last: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the dashboards, the page and `tidegate logs` ask. last: the newest document."""
    time_field = _LOG_TIME if contract.raw else _ROW_TIME
    task = {"term": {"task": "model-0012"}}
    newest: dict[str, Any] = {"size": 200, "sort": [{time_field: "desc"}], "track_total_hits": False}
    curve = {"by_time": {"date_histogram": {"field": time_field, "fixed_interval": "5s"}}}
    if contract.raw:
        return {
            "the newest 200": {"query": _all({"exists": {"field": time_field}}), **newest},
            "a task's newest 200": {"query": _all(task), **newest},
            "a task's lines over time": {"query": _all(task), "size": 0, "aggs": curve},
        }
    summed = {"by_time": curve["by_time"] | {"aggs": {"requests": {"sum": {"field": "requests"}}}}}
    by_task = {"tasks": {"terms": {"field": "task", "size": 200}, "aggs": summed}}
    level = {"term": {"level": "task"}}
    ordered = {"sort": [{time_field: "asc"}, {"id": "asc"}], "track_total_hits": False}
    return {
        "the newest second of all tasks": {
            "query": _all(level, {"term": {time_field: last[time_field]}}),
            "size": 1000,
        },
        "a task's rows": {"query": _all(level, task), "size": 1000, **ordered},
        "a task's replicas": {
            "query": _all({"term": {"level": "replica"}}, task),
            "size": 5000,
            **ordered,
        },
        "a task's curve": {"query": _all(level, task), "size": 0, "aggs": summed},
        "all tasks' curves": {"query": _all(level), "size": 0, "aggs": by_task},
    }


def _all(*filters: dict[str, Any]) -> dict[str, Any]:
    return {"bool": {"filter": list(filters)}}


def measure(
    client: Client, settings: Settings, contract: IndexContract, documents: list[Document], rounds: int
) -> dict[str, Measured]:
    """Every form in turns, so many rounds; the first round of all is a warm-up over a quarter of the documents."""
    forms = LOG_FORMS if contract.raw else ROW_FORMS
    found = {name: Measured() for name in forms}
    _one(client, settings, contract, documents[: len(documents) // 4], {}, Measured())
    for _ in range(rounds):
        for name, form in forms.items():
            _one(client, settings, contract, documents, form, found[name])
    return found


def _one(
    client: Client,
    settings: Settings,
    contract: IndexContract,
    documents: list[Document],
    form: dict[str, Any],
    measured: Measured,
) -> None:
    index = f"sorting-{uuid.uuid4().hex[:8]}"
    template = index_template(contract, settings.elasticsearch, detect_features(client))["template"]
    plain = {
        name: value
        for name, value in template["settings"]["index"].items()
        if name not in ("codec", "sort", "lifecycle")
    }
    plain["refresh_interval"] = "1s"  # as where somebody looks: segments are many and small at first
    plain["store.stats_refresh_interval"] = "0s"
    client.indices.create(index=index, settings={"index": plain | form}, mappings=template["mappings"])
    began = time.perf_counter()
    for start in range(0, len(documents), BULK_DOCUMENTS):
        part = documents[start : start + BULK_DOCUMENTS]
        attempt = attempt_bulk(client, [one._replace(index_name=index) for one in part])
        assert attempt.indexed == len(part), attempt.retry_reason or attempt.refused[:1]
    client.indices.refresh(index=index)
    measured.speeds.append(len(documents) / (time.perf_counter() - began))
    settle(client, index)
    measured.indexed.append(stored_bytes(client, index))
    for name, body in searches_of(contract, orjson.loads(documents[-1].body)).items():
        times = measured.searches.setdefault(name, [])
        for number in range(ASKED + 3):
            asked_at = time.perf_counter()
            answer = client.search(index=index, body=body, request_cache=False)
            if number >= 3:
                times.append((time.perf_counter() - asked_at) * 1000)
        assert answer["hits"]["hits"] or body["size"] == 0, name
    merge(client, index)
    measured.merged.append(stored_bytes(client, index))
    client.indices.delete(index=index)


def report(found: Mapping[str, Measured], documents: int) -> None:
    """A table of medians; in brackets the part of the first form's."""
    floor = next(iter(found.values()))
    columns: dict[str, list[float]] = {
        "documents/s": [statistics.median(one.speeds) for one in found.values()],
        "bytes a document, as indexed": [
            statistics.median(one.indexed) / documents for one in found.values()
        ],
        "bytes a document, one segment": [
            statistics.median(one.merged) / documents for one in found.values()
        ],
    }
    for search in floor.searches:
        columns[f"{search}, ms"] = [statistics.median(one.searches[search]) for one in found.values()]
    for number, name in enumerate(found, 1):
        print(f"{number}: {name}")
    print(f"{'':34}" + "".join(f"{number:>18}" for number in range(1, len(found) + 1)))
    for title, values in columns.items():
        cells = (f"{value:,.1f} ({value / values[0]:.2f})" for value in values)
        print(f"{title:34}" + "".join(f"{cell:>18}" for cell in cells))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [topic.name for topic in FILLED]
    parser.add_argument("topic", nargs="*", help=f"of {', '.join(names)}; default: the first three")
    parser.add_argument("--seconds", type=int, default=60, help="of 2,000 requests/s")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    wanted = chosen.topic or names[:3]
    if unknown := set(wanted) - set(names):
        parser.error(f"{min(unknown)!r} is none of {', '.join(names)}")
    with (
        filled_topics(Load(seconds=chosen.seconds)) as settings,
        connect(settings.elasticsearch, 120) as client,
    ):
        for name in wanted:
            contract = contract_of(name)
            documents = documents_of(settings, contract)
            print(f"\n{name}: {len(documents):,} documents", flush=True)
            report(measure(client, settings, contract, documents, chosen.rounds), len(documents))


if __name__ == "__main__":
    main()
