"""Shared by all dashboards: variables, links to each other, annotations, and their rendering as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from tidegate.dashboards.queries import DATA_SOURCE

TAG = "tidegate"
VALUES = 2000
"""The maximum number of values of a variable; there may be more than a thousand tasks."""

Variable = Builder[VariableModel]


@dataclass(frozen=True)
class Event:
    """Rows that are marks on every graph of a dashboard.

    time_field, text_field and tag_field are fields of the row.
    """

    name: str
    query: str
    time_field: str
    text_field: str
    tag_field: str
    colour: str


@dataclass(frozen=True)
class Page:
    """One dashboard. The uid stays, so that links and bookmarks do."""

    uid: str
    title: str
    description: str
    variables: Sequence[Variable]
    panels: Sequence[Builder[Panel] | str]
    since: str = "now-24h"
    refresh: str = "1m"
    events: Sequence[Event] = ()

    def as_json(self) -> str:
        """The dashboard as Grafana reads it; the same text for the same description."""
        made: dict[str, Any] = json.loads(json.dumps(_built(self), cls=JSONEncoder))
        for number, panel in enumerate(made["panels"], 1):
            panel["id"] = number
            if shortest := _shortest_bucket(panel):
                panel["interval"] = shortest
        names = {variable["name"] for variable in made["templating"]["list"]}
        made["panels"] = json.loads(_without_unknown(json.dumps(made["panels"]), names))
        made["annotations"] = {"list": [_annotation(event) for event in self.events]}
        return json.dumps(made, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def base_variables(span: str | None = "1m", resource_span: str | None = None) -> list[Variable]:
    """The data source and the index prefix; and where rows of several spans exist, the span."""
    found: list[Variable] = [
        dashboard.DatasourceVariable("datasource")
        .label("Data source")
        .description(
            "An Elasticsearch data source over tidegate's indices, with @timestamp as its time field."
        )
        .type("elasticsearch"),
        dashboard.TextBoxVariable("prefix")
        .label("Index prefix")
        .description("As the setting elasticsearch.index_prefix; usually nothing.")
        .default_value("")
        .current(VariableOption(selected=True, text="", value="")),
    ]
    if span:
        meaning = "Rows of a second for up to half an hour, rows of a minute for days."
        found.append(_choice("span", "Rows of", ("1m", "1s"), span, meaning))
    if resource_span:
        meaning = "Windows of 10 s for up to an hour, of a minute for days."
        found.append(_choice("resource_span", "Resources of", ("1m", "10s"), resource_span, meaning))
    return found


def values_of(
    name: str, label: str, field: str, query: str, multiple: bool = False, description: str = ""
) -> dashboard.QueryVariable:
    """A variable that offers the values of a field. With `multiple`, several or all of them."""
    asked = json.dumps({"find": "terms", "field": field, "query": query, "size": VALUES})
    made = (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATA_SOURCE)
        .query(asked)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if multiple:
        made.multi(True).include_all(True).all_value("*")
        made.current(VariableOption(selected=True, text="All", value="$__all"))
    return made


def text(name: str, label: str, default: str, description: str) -> dashboard.TextBoxVariable:
    """A variable to type into."""
    made = dashboard.TextBoxVariable(name).label(label).description(description).default_value(default)
    return made.current(VariableOption(selected=True, text=default, value=default))


def choice(name: str, label: str, values: Sequence[str], description: str) -> dashboard.CustomVariable:
    """A variable with fixed values, the first of them chosen."""
    return _choice(name, label, values, values[0], description)


def _choice(
    name: str, label: str, values: Sequence[str], chosen: str, description: str
) -> dashboard.CustomVariable:
    return (
        dashboard.CustomVariable(name)
        .label(label)
        .description(description)
        .values(",".join(values))
        .options([VariableOption(selected=value == chosen, text=value, value=value) for value in values])
        .current(VariableOption(selected=True, text=chosen, value=chosen))
    )


def _built(page: Page) -> object:
    made = (
        dashboard.Dashboard(page.title)
        .uid(page.uid)
        .description(page.description)
        .tags([TAG])
        .timezone("utc")
        .time(page.since, "now")
        .refresh(page.refresh)
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .editable()
        .variables(list(page.variables))
        .link(
            dashboard.DashboardLink("tidegate")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for one in page.panels:
        if isinstance(one, str):
            made.with_row(dashboard.Row(one))
        else:
            made.with_panel(one)
    return made.build()


def _without_unknown(text: str, names: set[str]) -> str:
    """Links hand on the variables that this dashboard has: of another's, Grafana would leave the placeholder."""
    return re.sub(
        r"&\$\{(\w+):queryparam\}", lambda match: match.group() if match.group(1) in names else "", text
    )


def _shortest_bucket(panel: dict[str, Any]) -> str | None:
    """A bucket of time is never shorter than a row: counts by its seconds would be too many, and lines have gaps."""
    asked = json.dumps(panel.get("targets", []))
    for name in ("span", "resource_span"):
        if f"${{{name}:raw}}" in asked:
            return f"${{{name}}}"
    return None


def _annotation(event: Event) -> dict[str, Any]:
    """An annotation as the Elasticsearch data source reads it: older ones look at `query`, newer ones at `target`."""
    return {
        "name": event.name,
        "enable": True,
        "iconColor": event.colour,
        "datasource": {"type": DATA_SOURCE.type_val, "uid": DATA_SOURCE.uid},
        "query": event.query,
        "target": {"refId": event.name, "query": event.query},
        "timeField": event.time_field,
        "textField": event.text_field,
        "tagsField": event.tag_field,
    }
