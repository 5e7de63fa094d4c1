"""Whether the dashboards are true: fields exist, nothing is averaged, and every query finds data of the right shape."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

from tests.support.dashboards.expressions import evaluated
from tests.support.dashboards.interpolation import Raw, Value, View
from tests.support.dashboards.searches import (
    Frame,
    Json,
    frames_of,
    is_expression,
    search_of,
    search_of_annotation,
    search_of_variable,
    values_of_variable,
)
from tidegate.dashboards.panels import LARGEST
from tidegate.dashboards.queries import ADDITIVE
from tidegate.schemas.elasticsearch import INDEX_CONTRACTS, Features, IndexContract, mappings

Search = Callable[[Json], Json]
"""Sends the body of a search to the indices of the data source, and gives the answer."""

ALLOWED_METRICS = {"max", "min", "sum", "count", "cardinality", "raw_data", "logs"}
PERCENTILE = re.compile(r"latency_p\d+_ms")
LEVELLED = ("service-metrics", "resource-metrics", "call-statistics")
"""Indices that have rows of several levels: a query that names none would mix them."""

_NUMBERS = {"long", "double", "date"}
_BUCKETS = {"keyword", "long", "boolean"}
_OF_GRAFANA = {"_index", "_id"}
_FIELD = re.compile(r"(?<![\w.\\:\]])([A-Za-z_@][\w.@]*):(?=\S)")


def panels_of(dashboard: Json) -> list[Json]:
    """The panels that show something: all but the rows' headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries_of(dashboard: Json) -> Iterator[tuple[str, str]]:
    """Every Lucene query of a dashboard, with where it stands."""
    for panel in panels_of(dashboard):
        for target in panel["targets"]:
            if not is_expression(target):
                yield f"{panel['title']} {target['refId']}", target["query"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", json.loads(variable["query"])["query"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["query"]


def averaging_problems(dashboard: Json) -> list[str]:
    """Where a dashboard averages, adds what can't be added, or mixes levels. Empty when nowhere."""
    found: list[str] = []
    for where, query in queries_of(dashboard):
        if any(name in query for name in LEVELLED) and "level:" not in query:
            found.append(f"{where}: names no level, so rows of several levels mix")
    for panel in panels_of(dashboard):
        found += [f"{panel['title']}: {problem}" for problem in _averages(panel)]
    return found


def field_problems(dashboard: Json) -> list[str]:
    """Fields that aren't in the mappings of the index that is asked, or can't be used so. Empty when all are."""
    found = []
    for where, query in queries_of(dashboard):
        fields = _fields_asked(query)
        found += [f"{where}: {problem}" for name in fields for problem in _missing(query, name, None)]
    for panel in panels_of(dashboard):
        for target in panel["targets"]:
            if is_expression(target):
                continue
            where = f"{panel['title']} {target['refId']}"
            for name, types in _fields_used(target):
                found += [f"{where}: {problem}" for problem in _missing(target["query"], name, types)]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            asked = json.loads(variable["query"])
            problems = _missing(asked["query"], asked["field"], _BUCKETS)
            found += [f"variable {variable['name']}: {problem}" for problem in problems]
    for event in dashboard["annotations"]["list"]:
        for key in ("timeField", "textField", "tagsField"):
            problems = _missing(event["query"], event[key], {"date"} if key == "timeField" else None)
            found += [f"annotation {event['name']}: {problem}" for problem in problems]
    return found


@dataclass
class Report:
    """What a run of all queries found."""

    panels: int = 0
    queries: int = 0
    problems: list[str] = field(default_factory=list)
    frames: dict[tuple[str, int], list[Frame]] = field(default_factory=dict)
    """Of each panel, by dashboard and panel id, what is shown: hidden queries left out."""
    views: dict[str, View] = field(default_factory=dict)
    """Of each dashboard the view with all of its variables set."""

    def __str__(self) -> str:
        if self.problems:
            return f"{self.panels} panels, {self.queries} queries, {len(self.problems)} problems"
        return f"{self.panels} panels, {self.queries} queries, all with data"


def run(
    dashboards: Iterable[Json], search: Search, view: View, chosen: Mapping[str, str], listed: bool
) -> Report:
    """Asks everything that the dashboards ask, as somebody who opens them in this view.

    chosen: what is picked of a variable's values, where it isn't the first. listed: of a variable that may have
    several values, all of them are picked one by one, instead of `All`.
    """
    report = Report()
    for dashboard in dashboards:
        _run_dashboard(dashboard, search, view, chosen, listed, report)
    return report


def _run_dashboard(
    dashboard: Json, search: Search, view: View, chosen: Mapping[str, str], listed: bool, report: Report
) -> None:
    title = dashboard["title"]
    found_before = len(report.problems)
    for variable in dashboard["templating"]["list"]:
        value = _value_of(variable, search, view, chosen, listed)
        if value is None:
            report.problems.append(f"{title}: variable {variable['name']} offers nothing")
        elif variable["name"] not in view.variables:
            view = view.with_value(variable["name"], value)
    report.views[dashboard["uid"]] = view
    if len(report.problems) > found_before:
        # Grafana would ask with the variable's name in place of a value.
        report.panels += len(panels_of(dashboard))
        report.problems += [f"{title}: {panel['title']}: not asked" for panel in panels_of(dashboard)]
        return
    for event in dashboard["annotations"]["list"]:
        report.queries += 1
        hits = search(search_of_annotation(event, view))["hits"]["hits"]
        if not any(hit["_source"].get(event["textField"]) for hit in hits):
            report.problems.append(f"{title}: annotation {event['name']} finds nothing")
    for panel in panels_of(dashboard):
        report.panels += 1
        where = f"{title}: {panel['title']}"
        found: dict[str, list[Frame]] = {}
        for target in panel["targets"]:
            report.queries += 1
            if is_expression(target):
                found[target["refId"]] = [evaluated(target, found, view)]
                problems = _value_problems(found[target["refId"]], counted=False)
            else:
                answer = search(search_of(target, view))
                found[target["refId"]] = frames_of(target, answer, view)
                problems = _target_problems(target, answer, found[target["refId"]])
            report.problems += [f"{where} {target['refId']}: {problem}" for problem in problems]
        shown = [
            frame for target in panel["targets"] if not target.get("hide") for frame in found[target["refId"]]
        ]
        report.frames[dashboard["uid"], panel["id"]] = shown
        report.problems += [f"{where}: {problem}" for problem in _shape_problems(panel, shown)]


def _value_of(
    variable: Json, search: Search, view: View, chosen: Mapping[str, str], listed: bool
) -> Value | None:
    kind = variable["type"]
    if kind == "datasource":
        return "tidegate"
    if kind == "textbox":
        return str(variable["query"])
    if kind == "custom":
        return str(variable["current"]["value"])
    values = values_of_variable(search(search_of_variable(variable["query"], view)))
    if not values:
        return None
    if variable["multi"]:
        return tuple(values) if listed else Raw(variable["allValue"])
    wanted = chosen.get(variable["name"])
    return wanted if wanted in values else values[0]


def _target_problems(target: Json, answer: Json, frames: Sequence[Frame]) -> list[str]:
    if answer.get("_shards", {}).get("failed"):
        return [f"shards failed: {answer['_shards']['failures'][0]['reason']}"]
    total = answer["hits"]["total"]
    if not (total["value"] if isinstance(total, dict) else total):
        return ["finds no document"]
    if target["metrics"][0]["type"] in {"raw_data", "logs"}:
        return []
    if target["bucketAggs"][-1]["type"] != "date_histogram":
        return _column_problems(frames)
    counted = {metric["type"] for metric in target["metrics"]} <= {"sum", "count"}
    return _value_problems(frames, counted)


def _value_problems(frames: Sequence[Frame], counted: bool) -> list[str]:
    if not frames:
        return ["no series"]
    problems = []
    for frame in frames:
        values = [value for value in frame.values if value is not None and not math.isnan(value)]
        if not values:
            problems.append(f"series {frame.name!r} has no value")
        elif counted and not any(values):
            problems.append(f"series {frame.name!r} counts nothing")
    # A series for each value of a field: some may have nothing of the metric, all may not.
    return problems if len(problems) == len(frames) or not _same_query(frames) else []


def _same_query(frames: Sequence[Frame]) -> bool:
    return len({frame.name for frame in frames}) > 1 and len({frame.ref for frame in frames}) == 1


def _column_problems(frames: Sequence[Frame]) -> list[str]:
    if not frames:
        return ["no rows"]
    return [
        f"column {name!r} has no value"
        for frame in frames
        for name, values in frame.columns.items()
        if all(value is None for value in values)
    ]


def _shape_problems(panel: Json, frames: Sequence[Frame]) -> list[str]:
    """Names in a panel's transformations and overrides that its queries don't bring, and columns without a value."""
    names = {name for frame in frames for name in frame.columns}
    filled = {
        name
        for frame in frames
        for name, values in frame.columns.items()
        if any(value is not None for value in values)
    }
    problems: list[str] = []

    def need(name: str, by: str) -> None:
        if name not in names:
            problems.append(f"{by} names {name!r}, which isn't there")

    for step in panel.get("transformations", []):
        options = step["options"]
        for name in _names_in(step["id"], options):
            need(name, step["id"])
        if step["id"] == "calculateField":
            names.add(options["alias"])
            filled.add(options["alias"])
        elif step["id"] == "filterFieldsByName":
            names &= set(options["include"]["names"])
            problems += [f"column {name!r} has no value" for name in sorted(names - filled)]
        elif step["id"] == "organize":
            names = {options["renameByName"].get(name, name) for name in names}
    if panel["type"] != "table":
        names = {frame.name for frame in frames}
    refs = {target["refId"] for target in panel["targets"]}
    for override in panel.get("fieldConfig", {}).get("overrides", []):
        matcher = override["matcher"]
        known = refs if matcher["id"] == "byFrameRefID" else names
        if matcher["options"] not in known:
            problems.append(f"an override is for {matcher['options']!r}, which isn't there")
    return problems


def _names_in(kind: str, options: Json) -> list[str]:
    """The columns that a transformation takes.

    Raises KeyError for one that these dashboards don't use.
    """
    readers: dict[str, Callable[[Json], list[str]]] = {
        "merge": lambda _: [],
        "limit": lambda _: [],
        "calculateField": lambda reported: (
            reported["reduce"]["include"]
            if "reduce" in reported
            else [reported["binary"]["left"], reported["binary"]["right"]]
        ),
        "filterFieldsByName": lambda reported: reported["include"]["names"],
        "organize": lambda reported: list(reported["indexByName"]),
        "sortBy": lambda reported: [one["field"] for one in reported["sort"]],
        "filterByValue": lambda reported: [one["fieldName"] for one in reported["filters"]],
    }
    return readers[kind](options)


def _averages(panel: Json) -> Iterator[str]:
    metrics = [
        metric for target in panel["targets"] if not is_expression(target) for metric in target["metrics"]
    ]
    for metric in metrics:
        name = metric.get("field", "")
        if metric["type"] not in ALLOWED_METRICS:
            yield f"{metric['type']} of {name}: only {', '.join(sorted(ALLOWED_METRICS))} are shown"
        if metric["type"] == "sum" and name not in ADDITIVE:
            yield f"sum of {name}, which can't be added"
        if PERCENTILE.fullmatch(name) and LARGEST not in panel.get("description", ""):
            yield f"doesn't say how it takes {name} of several rows"
    counted = all(metric["type"] in {"sum", "count"} for metric in metrics)
    for calc in _calcs(panel):
        if calc not in {"lastNotNull", "max"} and not (calc == "sum" and counted):
            yield f"reduces its series by {calc}"
    for target in panel["targets"]:
        if is_expression(target) and target.get("reducer", "max") != "max":
            yield f"reduces by {target['reducer']}"
        if is_expression(target) and target.get("downsampler", "max") != "max":
            yield f"resamples by {target['downsampler']}"
    for step in panel.get("transformations", []):
        reduced = step["options"].get("reduce")
        if reduced and (
            reduced["reducer"] != "sum"
            or not all(name.removeprefix("Sum ") in ADDITIVE for name in reduced["include"])
        ):
            yield f"{reduced['reducer']} of {', '.join(reduced['include'])}"


def _calcs(panel: Json) -> list[str]:
    options = panel.get("options", {})
    shown = options.get("legend", {}).get("calcs", []) + options.get("reduceOptions", {}).get("calcs", [])
    return [str(calc) for calc in shown]


def _fields_asked(query: str) -> list[str]:
    query = re.sub(r"\$\{\w+(:\w+)?\}", "*", query)
    exists = re.findall(r"_exists_:([\w.@]+)", query)
    return [name for name in _FIELD.findall(query) if name not in {"_index", "_exists_"}] + exists


def _fields_used(target: Json) -> Iterator[tuple[str, set[str] | None]]:
    """Fields of the buckets and metrics, each with the types that it may have."""
    for bucket in target["bucketAggs"]:
        yield bucket["field"], {"date"} if bucket["type"] == "date_histogram" else _BUCKETS
    for metric in target["metrics"]:
        if metric["type"] in {"max", "min", "sum"}:
            yield metric["field"], _NUMBERS
        elif metric["type"] == "cardinality":
            yield metric["field"], _BUCKETS


def _missing(query: str, name: str, types: set[str] | None) -> list[str]:
    if name in _OF_GRAFANA:
        return []
    contracts = contracts_asked(query)
    if not contracts:
        return [f"no index is asked by {query}"]
    problems = []
    for contract in contracts:
        properties: Mapping[str, Any] = mappings(contract, Features())["properties"]
        mapped = properties.get(name)
        if mapped and mapped["type"] == "alias":
            mapped = properties[mapped["path"]]
        if mapped is None:
            problems.append(f"{contract.topic.name} has no field {name}")
        elif mapped.get("enabled") is False:
            problems.append(f"{name} of {contract.topic.name} is kept and not searchable")
        elif types and mapped["type"] not in types:
            problems.append(f"{name} of {contract.topic.name} is {mapped['type']}")
    return problems


def contracts_asked(query: str) -> list[IndexContract]:
    """The topics whose indices a query is about, whatever span is chosen."""
    match = re.search(r"_index:\$\{prefix:raw\}(\S+)", query)
    if not match:
        return []
    pattern = re.sub(r"\$\{\w+:raw\}", "*", match.group(1))
    return [contract for contract in INDEX_CONTRACTS if fnmatch(contract.alias(""), pattern)]
