"""The searches that Grafana's Elasticsearch data source makes of a panel's queries, and what it makes of the answers.

Only for what these dashboards use. It follows Grafana's data source in Go (the queries of panels) and in TypeScript
(those of variables and annotations): its bodies, its column names, its series' names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support.dashboards.interpolation import View

Json = dict[str, Any]

TIME_FIELD = "@timestamp"
"""The time field of the data source, as provisioned."""

EXPRESSION_TYPE = "__expr__"

_METRIC_NAMES = {"max": "Max", "min": "Min", "sum": "Sum", "count": "Count", "cardinality": "Unique Count"}
_DOCUMENT_TYPES = {"raw_data", "logs"}
_HIGHLIGHT = {
    "fields": {"*": {}},
    "pre_tags": ["@HIGHLIGHT@"],
    "post_tags": ["@/HIGHLIGHT@"],
    "fragment_size": 2147483647,
}


class Untranslatable(ValueError):
    """A query that uses what this translation doesn't know."""


@dataclass(frozen=True)
class Frame:
    """One of the tables or series that Grafana makes of an answer: names of columns to their values."""

    ref: str
    name: str
    columns: Mapping[str, Sequence[Any]]
    is_number: bool = False

    @property
    def values(self) -> Sequence[Any]:
        """Of a series: its values."""
        return self.columns["Value"]

    @property
    def times(self) -> Sequence[int]:
        """Of a series: its times, epoch ms."""
        return self.columns["Time"]


def is_expression(target: Json) -> bool:
    """Whether Grafana computes this query itself from others."""
    return bool(target["datasource"]["type"] == EXPRESSION_TYPE)


def search_of(target: Json, view: View) -> Json:
    """The body of the search that a panel's query becomes.

    Raises Untranslatable.
    """
    kind = target["metrics"][0]["type"]
    if kind in _DOCUMENT_TYPES:
        return _documents(target, view, kind)
    body = _filtered(target["query"], view) | {"size": 0}
    level = body
    for bucket in target["bucketAggs"]:
        made = _bucket(bucket, target["metrics"], view)
        level.setdefault("aggs", {})[bucket["id"]] = made
        level = made
    for metric in target["metrics"]:
        if metric["type"] == "count":
            continue
        if metric["type"] not in _METRIC_NAMES:
            raise Untranslatable(f"metric {metric['type']}")
        level.setdefault("aggs", {})[metric["id"]] = {metric["type"]: {"field": metric["field"]}}
    return body


def search_of_variable(query: str, view: View) -> Json:
    """The body of the search for the values of a variable.

    Raises Untranslatable for anything but terms.
    """
    asked = json.loads(query)
    if asked["find"] != "terms":
        raise Untranslatable(f"variable that finds {asked['find']}")
    terms = {"field": view.lucene(asked["field"]), "size": asked.get("size", 500), "order": {"_key": "asc"}}
    return _filtered(asked["query"], view) | {"size": 0, "aggs": {"1": {"terms": terms}}}


def values_of_variable(answer: Json) -> list[str]:
    """The values that a variable offers."""
    buckets = answer.get("aggregations", {}).get("1", {}).get("buckets", [])
    return [str(bucket.get("key_as_string") or bucket["key"]) for bucket in buckets]


def search_of_annotation(annotation: Json, view: View) -> Json:
    """The body of the search for a dashboard's events."""
    # Grafana still says `from` and `to`, which Elasticsearch reads as these and deprecates.
    span = {"gte": view.from_ms, "lte": view.to_ms, "format": "epoch_millis"}
    in_range = {"bool": {"should": [{"range": {annotation["timeField"]: span}}], "minimum_should_match": 1}}
    text = {"query_string": {"query": view.lucene(annotation["query"])}}
    return {"query": {"bool": {"filter": [in_range, text]}}, "size": 10000}


def frames_of(target: Json, answer: Json, view: View) -> list[Frame]:
    """What Grafana makes of the answer to a panel's query."""
    kind = target["metrics"][0]["type"]
    if kind in _DOCUMENT_TYPES:
        return [_of_documents(target["refId"], answer["hits"]["hits"])]
    if target["bucketAggs"][-1]["type"] == "date_histogram":
        found = _series(target, answer.get("aggregations", {}), 0, {}, view)
        return [frame for frame in found if frame.values]
    rows: list[dict[str, Any]] = []
    _collect(target, answer.get("aggregations", {}), 0, {}, rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return (
        [Frame(target["refId"], "", {name: [row.get(name) for row in rows] for name in names})]
        if rows
        else []
    )


def _filtered(query: str, view: View) -> Json:
    filters: list[Json] = [
        {"range": {TIME_FIELD: {"gte": view.from_ms, "lte": view.to_ms, "format": "epoch_millis"}}}
    ]
    text = view.lucene(query)
    if text:
        filters.append({"query_string": {"query": text, "analyze_wildcard": True}})
    return {"query": {"bool": {"filter": filters}}}


def _documents(target: Json, view: View, kind: str) -> Json:
    settings = target["metrics"][0]["settings"]
    body = _filtered(target["query"], view) | {
        "size": int(settings["size" if kind == "raw_data" else "limit"]),
        "sort": {TIME_FIELD: {"order": "desc", "unmapped_type": "boolean"}, "_doc": {"order": "desc"}},
        "docvalue_fields": [TIME_FIELD],
        "fields": [{"field": TIME_FIELD, "format": "strict_date_optional_time_nanos"}],
        "script_fields": {},
    }
    if kind == "logs":
        histogram = {"type": "date_histogram", "field": TIME_FIELD, "settings": {"interval": "auto"}}
        body |= {"highlight": _HIGHLIGHT, "aggs": {"1": _bucket(histogram, (), view)}}
    return body


def _bucket(bucket: Json, metrics: Sequence[Json], view: View) -> Json:
    settings = bucket["settings"]
    if bucket["type"] == "date_histogram":
        interval = view.plain(settings["interval"])
        histogram: Json = {
            "field": bucket["field"],
            "fixed_interval": f"{view.interval_ms}ms" if interval == "auto" else interval,
            "min_doc_count": int(settings.get("min_doc_count", 0)),
            "extended_bounds": {"min": view.from_ms, "max": view.to_ms},
            "format": "epoch_millis",
        }
        return {"date_histogram": histogram}
    if bucket["type"] != "terms":
        raise Untranslatable(f"buckets of {bucket['type']}")
    made: Json = {}
    order_by = settings["orderBy"]
    ordering = next((metric for metric in metrics if metric["id"] == order_by), None)
    if ordering:
        made["aggs"] = {ordering["id"]: {ordering["type"]: {"field": ordering["field"]}}}
    made["terms"] = {
        "field": bucket["field"],
        "size": int(settings["size"]),
        "min_doc_count": int(settings["min_doc_count"]),
        "order": {order_by: settings["order"]},
    }
    return made


def _of_documents(ref: str, hits: Sequence[Json]) -> Frame:
    flat = [_flattened(hit["_source"]) | {"_id": hit["_id"], "_index": hit["_index"]} for hit in hits]
    names = dict.fromkeys(name for row in flat for name in row)
    return Frame(ref, "", {name: [row.get(name) for row in flat] for name in names})


def _flattened(document: Json, above: str = "") -> Json:
    found: Json = {}
    for name, value in document.items():
        if isinstance(value, dict) and value:
            found |= _flattened(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found


def _series(target: Json, answer: Json, depth: int, labels: Mapping[str, str], view: View) -> list[Frame]:
    bucket = target["bucketAggs"][depth]
    buckets = answer.get(bucket["id"], {}).get("buckets", [])
    if bucket["type"] == "terms":
        found: list[Frame] = []
        for one in buckets:
            key = str(one.get("key_as_string", one["key"]))
            found += _series(target, one, depth + 1, {**labels, bucket["field"]: key}, view)
        return found
    return [
        Frame(
            target["refId"],
            _series_name(target, metric, labels, view),
            {"Time": [one["key"] for one in buckets], "Value": [_value(one, metric) for one in buckets]},
        )
        for metric in target["metrics"]
    ]


def _series_name(target: Json, metric: Json, labels: Mapping[str, str], view: View) -> str:
    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "field":
            return str(metric.get("field", ""))
        return labels.get(name, match.group())

    return re.sub(r"\{\{\s*([^}]+?)\s*\}\}", one, view.plain(target["alias"]))


def _collect(
    target: Json, answer: Json, depth: int, labels: Mapping[str, Any], rows: list[dict[str, Any]]
) -> None:
    bucket = target["bucketAggs"][depth]
    for one in answer.get(bucket["id"], {}).get("buckets", []):
        own = {**labels, bucket["field"]: one["key"]}
        if depth + 1 < len(target["bucketAggs"]):
            _collect(target, one, depth + 1, own, rows)
            continue
        for metric in target["metrics"]:
            own[_column_name(target["metrics"], metric)] = _value(one, metric)
        rows.append(own)


def _column_name(metrics: Sequence[Json], metric: Json) -> str:
    name = _METRIC_NAMES[metric["type"]]
    others = [one for one in metrics if one["type"] == metric["type"] and one["id"] != metric["id"]]
    return f"{name} {metric['field']}" if others else name


def _value(bucket: Json, metric: Json) -> Any:
    if metric["type"] == "count":
        return bucket["doc_count"]
    return bucket[metric["id"]]["value"]


def as_sent(target: Json, view: View, data_source: str) -> Json:
    """A panel's query as the browser sends it to Grafana's `/api/ds/query`: with values in place of variables."""
    made: Json = json.loads(view.plain(json.dumps({**target, "query": ""})))
    if is_expression(target):
        del made["query"]
    else:
        made |= {
            "query": view.lucene(target["query"]),
            "datasource": {"type": "elasticsearch", "uid": data_source},
        }
    return made | {"intervalMs": view.interval_ms, "maxDataPoints": 1000}
