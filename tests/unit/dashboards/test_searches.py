"""Grafana's queries as Elasticsearch searches, and its expressions, as the data source's own code makes them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tests.support.dashboards.expressions import evaluated
from tests.support.dashboards.interpolation import Raw, View
from tests.support.dashboards.searches import (
    Frame,
    Untranslatable,
    as_sent,
    frames_of,
    search_of,
    search_of_annotation,
    search_of_variable,
    values_of_variable,
)
from tidegate.dashboards import queries

VIEW = View(1000, 61_000, 10_000, {"prefix": "eu-", "span": "1m", "task": "chat-1", "department": Raw("*")})
FILTERS = [
    {"range": {"@timestamp": {"gte": 1000, "lte": 61_000, "format": "epoch_millis"}}},
    {"query_string": {"query": "level:task", "analyze_wildcard": True}},
]


def target_of(builder: Any) -> dict[str, Any]:
    found = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    assert isinstance(found, dict)
    return found


def test_a_series_by_term_is_a_date_histogram_in_terms_that_carry_the_metric_they_are_ordered_by() -> None:
    target = target_of(queries.over_time("level:task", queries.largest("latency_p99_ms"), by="task", top=5))
    p99 = {"1": {"max": {"field": "latency_p99_ms"}}}
    histogram = {
        "field": "@timestamp",
        "fixed_interval": "10000ms",
        "min_doc_count": 0,
        "extended_bounds": {"min": 1000, "max": 61_000},
        "format": "epoch_millis",
    }
    terms = {"field": "task", "size": 5, "min_doc_count": 1, "order": {"1": "desc"}}
    assert search_of(target, VIEW) == {
        "size": 0,
        "query": {"bool": {"filter": FILTERS}},
        "aggs": {"100": {"terms": terms, "aggs": p99 | {"200": {"date_histogram": histogram, "aggs": p99}}}},
    }


def test_a_count_is_no_aggregation_and_orders_by_itself() -> None:
    target = target_of(queries.table_of("level:task", queries.DOCUMENTS, by=("state",)))
    body = search_of(target, VIEW)
    assert body["aggs"]["100"] == {
        "terms": {"field": "state", "size": 500, "min_doc_count": 1, "order": {"_count": "desc"}}
    }
    answer = {"aggregations": {"100": {"buckets": [{"key": "held", "doc_count": 3}]}}}
    (frame,) = frames_of(target, answer, VIEW)
    assert frame.columns == {"state": ["held"], "Count": [3]}


def test_a_columns_name_has_its_field_only_where_another_metric_is_of_the_same_type() -> None:
    metrics = [queries.total("requests"), queries.total("aborted"), queries.largest("qps")]
    target = target_of(queries.table_of("level:task", *metrics, by=("department", "task")))
    inner = {"key": "chat", "1": {"value": 5}, "2": {"value": 1}, "3": {"value": 2.5}}
    answer = {"aggregations": {"100": {"buckets": [{"key": "vision", "101": {"buckets": [inner]}}]}}}
    (frame,) = frames_of(target, answer, VIEW)
    assert frame.columns == {
        "department": ["vision"],
        "task": ["chat"],
        "Sum requests": [5],
        "Sum aborted": [1],
        "Max": [2.5],
    }
    assert list(frame.columns)[2:] == [queries.column(metrics, metric) for metric in metrics]


def test_documents_come_newest_first_and_flat() -> None:
    target = target_of(queries.documents("level:task", size=7))
    body = search_of(target, VIEW)
    assert (body["size"], body["sort"]["@timestamp"]["order"]) == (7, "desc")
    hit = {"_id": "1", "_index": "i", "_source": {"task": "chat", "slo": {"p99_ms": 5}}}
    (frame,) = frames_of(target, {"hits": {"hits": [hit]}}, VIEW)
    assert frame.columns["slo.p99_ms"] == [5]


def test_lines_bring_their_histogram() -> None:
    body = search_of(target_of(queries.log_lines("level:task", limit=9)), VIEW)
    assert body["size"] == 9
    assert body["aggs"]["1"]["date_histogram"]["field"] == "@timestamp"
    assert body["highlight"]["fields"] == {"*": {}}


def test_a_series_is_called_by_its_alias() -> None:
    target = target_of(queries.over_time("level:task", queries.largest("qps"), queries.largest("apdex")))
    answer = {"aggregations": {"200": {"buckets": [{"key": 1000, "1": {"value": 4}, "2": {"value": None}}]}}}
    found = {frame.name: list(frame.values) for frame in frames_of(target, answer, VIEW)}
    assert found == {"qps": [4], "apdex": [None]}


def test_variables_are_put_in_as_lucene() -> None:
    target = target_of(queries.over_time(queries.service("task", queries.IN_TASK), queries.DOCUMENTS))
    text = search_of(target, VIEW)["query"]["bool"]["filter"][1]["query_string"]["query"]
    assert text == ("_index:eu-tidegate-service-metrics-1m AND level:task AND department:* AND task:chat\\-1")


def test_a_variable_offers_the_terms_of_a_field() -> None:
    asked = '{"find": "terms", "field": "task", "query": "level:task", "size": 3}'
    body = search_of_variable(asked, VIEW)
    assert body["aggs"]["1"]["terms"] == {"field": "task", "size": 3, "order": {"_key": "asc"}}
    assert values_of_variable({"aggregations": {"1": {"buckets": [{"key": "chat"}]}}}) == ["chat"]
    assert values_of_variable({}) == []
    with pytest.raises(Untranslatable):
        search_of_variable('{"find": "fields"}', VIEW)


def test_events_are_asked_by_their_own_time() -> None:
    body = search_of_annotation({"timeField": "settled_at", "query": "task:$task"}, VIEW)
    first, second = body["query"]["bool"]["filter"]
    assert list(first["bool"]["should"][0]["range"]) == ["settled_at"]
    assert second["query_string"]["query"] == "task:chat\\-1"


def test_what_this_translation_does_not_know_is_an_error() -> None:
    target = target_of(queries.over_time("level:task", queries.largest("qps")))
    target["metrics"][0]["type"] = "moving_fn"
    with pytest.raises(Untranslatable, match="moving_fn"):
        search_of(target, VIEW)


def frames(**series: dict[int, float | None]) -> dict[str, list[Frame]]:
    return {
        ref: [Frame(ref, ref, {"Time": list(points), "Value": list(points.values())})]
        for ref, points in series.items()
    }


def test_counts_become_rates_by_the_buckets_seconds() -> None:
    target = target_of(queries.per_second("$R - $L", "admitted"))
    found = evaluated(target, frames(R={0: 100, 10: 50, 20: 1}, L={0: 20, 10: None}), VIEW)
    assert (found.times, found.values) == ([0, 10], [8, None])


def test_nothing_by_nothing_is_no_number() -> None:
    target = target_of(queries.calculated("$F / $R", "rate"))
    found = evaluated(target, frames(F={0: 1, 1: 0}, R={0: 4, 1: 0}), VIEW)
    assert found.values[0] == 0.25
    assert found.values[1] != 0


def test_an_age_is_the_end_of_the_time_range_less_the_newest_value() -> None:
    newest, reduced, shown = (target_of(one) for one in queries.age("level:task", "window_end", "rows", "A"))
    known = frames(A={0: 51_000, 1: None, 2: 41_000})
    assert newest["hide"]
    known[reduced["refId"]] = [evaluated(reduced, known, VIEW)]
    assert evaluated(shown, known, VIEW).values == [10_000]


def test_a_value_lasts_until_the_next_one_and_to_the_end() -> None:
    _, held = (target_of(one) for one in queries.lasting("level:task", "limit_qps", "limit", "Q"))
    found = evaluated(held, frames(Q={11_000: 5, 31_000: 9}), VIEW)
    assert found.values == [None, 5, 5, 9, 9, 9, 9]


def test_a_query_is_sent_with_values_in_place_of_variables() -> None:
    target = target_of(queries.over_time("task:$task", queries.DOCUMENTS, interval="${span:raw}"))
    sent = as_sent(target, VIEW, "es")
    assert (sent["query"], sent["datasource"]["uid"], sent["intervalMs"]) == ("task:chat\\-1", "es", 10_000)
    assert sent["bucketAggs"][0]["settings"]["interval"] == "1m"
