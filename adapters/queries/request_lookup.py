"""Finds everything about one request: the gateway's line, the service's records, and the windows around it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from elasticsearch import Elasticsearch as Client

from tidegate.adapters.queries.log_search import LogLine, LogQuery, search
from tidegate.jobs.logic.identity import replica_of_line
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.settings import Elasticsearch, Lookup
from tidegate.schemas.timestamps import to_text

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_MOST = 500
_AROUND = timedelta(seconds=5)
_LONGEST = timedelta(days=7)
"""An alert that began earlier is not looked for."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


@dataclass(frozen=True)
class Request:
    """A request from its gateway's log, with the seconds of its task and its replica around its end."""

    line: LogLine
    ended_at: datetime
    windows: Sequence[ServiceMetricsRow]
    alerts: Sequence[AlertRow]


@dataclass(frozen=True)
class Story:
    """What was found. trace_ids, request_ids: of all lines, for another search."""

    requests: Sequence[Request]
    records: Sequence[LogLine]
    request_ids: Sequence[str]
    trace_ids: Sequence[str]

    @property
    def empty(self) -> bool:
        """Whether nothing was found."""
        return not self.requests and not self.records


def trace_id_of(text: str) -> str | None:
    """Of a `traceparent`, or a trace id itself."""
    found = _TRACEPARENT.fullmatch(text)
    if found is not None:
        return found[1]
    return text if re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{16}", text) else None


def trace_links(story: Story, lookup: Lookup) -> list[str]:
    """The traces' pages elsewhere, by `lookup.trace_url`."""
    template = lookup.trace_url
    return [] if template is None else [template.replace("{trace_id}", trace) for trace in story.trace_ids]


def look_up(client: Client, elasticsearch: Elasticsearch, identifier: str) -> Story:
    """identifier: a request id, a trace id, or a whole traceparent. Raises ApiError and TransportError.

    A request's trace id leads to the records that have only that one, and the other way round.
    """
    requests, traces = {identifier}, set(filter(None, [trace_id_of(identifier.lower())]))
    lines: list[LogLine] = []
    for _ in range(2):  # what the first finds may have other ids
        lines = _with_ids(client, elasticsearch, requests, traces)
        requests |= {str(one.fields["request_id"]) for one in lines if one.fields.get("request_id")}
        traces |= set(filter(None, map(_trace_of, lines)))
    access_lines = [one for one in lines if one.kind == "access"]
    return Story(
        [_request(client, elasticsearch, one) for one in access_lines],
        [one for one in lines if one.kind == "service"],
        sorted({str(one.fields["request_id"]) for one in lines if one.fields.get("request_id")}),
        sorted(traces if lines else ()),
    )


def _with_ids(
    client: Client, elasticsearch: Elasticsearch, requests: Iterable[str], traces: Iterable[str]
) -> list[LogLine]:
    by_request = {"terms": {"request_id": sorted(requests)}}
    by_parent = [{"prefix": {"traceparent": f"00-{trace}-"}} for trace in sorted(traces)]
    by_trace = [{"terms": {"trace_id": sorted(traces)}}] if traces else []
    found: list[LogLine] = []
    for query in (
        LogQuery(_EVER, kind="access", more=[_any(by_request, *by_parent)]),
        LogQuery(_EVER, kind="service", more=[_any(by_request, *by_trace)]),
    ):
        found += search(client, elasticsearch, query, _MOST).lines
    return sorted(found, key=lambda one: (one.at, one.kind, one.key))


def _any(*queries: Mapping[str, Any]) -> dict[str, Any]:
    return {"bool": {"should": list(queries), "minimum_should_match": 1}}


def _trace_of(line: LogLine) -> str | None:
    if line.kind == "service":
        return line.fields.get("trace_id")
    parent = line.fields.get("traceparent")
    return trace_id_of(parent) if isinstance(parent, str) else None


def _request(client: Client, elasticsearch: Elasticsearch, line: LogLine) -> Request:
    ended_at = line.at + timedelta(milliseconds=_milliseconds(line.fields.get("duration")))
    task = [{"term": {name: line.fields.get(name)}} for name in ("department", "task")]
    around = {"gt": to_text(ended_at - _AROUND), "lte": to_text(ended_at + _AROUND)}
    replica = replica_of_line(line.fields)
    whole_or_replica = _any(
        {"term": {"level": "task"}}, *([] if replica is None else [{"term": {"replica": replica}}])
    )
    windows = _rows(
        client,
        elasticsearch,
        topics.SERVICE_METRICS_1S,
        [*task, {"range": {"window_start": around}}, whole_or_replica],
        [{"window_start": "asc"}, {"level": "desc"}],
    )
    alerts = _rows(
        client,
        elasticsearch,
        topics.ALERTS,
        [*task, {"range": {"started_at": {"gte": to_text(ended_at - _LONGEST), "lte": to_text(ended_at)}}}],
        [{"observed_at": "asc"}],
    )
    return Request(
        line,
        ended_at,
        [ServiceMetricsRow.model_validate(row) for row in windows],
        _firing_at(ended_at, map(AlertRow.model_validate, alerts)),
    )


def _firing_at(moment: datetime, rows: Iterable[AlertRow]) -> list[AlertRow]:
    """Of rows in the order of time: the alerts that fired then, each in its newest state."""
    newest = {(row.alert_key, row.started_at): row for row in rows}
    return [
        row
        for row in newest.values()
        if row.fired_at is not None
        and row.fired_at <= moment
        and (row.resolved_at is None or row.resolved_at >= moment)
    ]


def _rows(
    client: Client,
    elasticsearch: Elasticsearch,
    topic: topics.Topic,
    filters: Sequence[Mapping[str, Any]],
    order: Sequence[Mapping[str, str]],
) -> list[dict[str, Any]]:
    answer = client.search(
        index=contract_of(topic.name).alias(elasticsearch.index_prefix),
        body={
            "query": {"bool": {"filter": list(filters)}},
            "sort": [
                {name: {"order": way, "unmapped_type": "keyword"}}
                for one in order
                for name, way in one.items()
            ],
            "size": _MOST,
        },
        ignore_unavailable=True,
    ).body
    return [hit["_source"] for hit in answer["hits"]["hits"]]


def _milliseconds(value: object) -> float:
    """Of a gateway's line; 0 for a missing field."""
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return 0.0
