"""The Grafana dashboards: what is committed is what is made, fields exist, and nothing is averaged."""

from __future__ import annotations

import json
import math
import re
from copy import deepcopy
from typing import Any

import pytest
import yaml

from tests.support.dashboards import check, data_source
from tests.support.dashboards.interpolation import Raw, View
from tidegate.dashboards import queries, uids
from tidegate.dashboards import registry as pages

DASHBOARDS: dict[str, dict[str, Any]] = {name: json.loads(text) for name, text in pages.made().items()}
EACH = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)


def test_what_is_committed_is_what_is_made() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in pages.FOLDER.glob("*.json")}
    assert committed == pages.made(), "run make dashboards"


def test_there_is_a_dashboard_for_each_uid() -> None:
    known = {value for name, value in vars(uids).items() if name.isupper()}
    assert {dashboard["uid"] for dashboard in DASHBOARDS.values()} == known
    assert all(len(uid) <= 40 for uid in known), "Grafana's uids have at most 40 characters"


@EACH
def test_every_field_is_in_the_mappings_of_the_index_that_is_asked(dashboard: dict[str, Any]) -> None:
    assert check.field_problems(dashboard) == []


@EACH
def test_nothing_is_averaged_and_no_levels_mix(dashboard: dict[str, Any]) -> None:
    assert check.averaging_problems(dashboard) == []


@EACH
def test_every_panel_says_what_it_shows_and_in_which_unit(dashboard: dict[str, Any]) -> None:
    for panel in check.panels_of(dashboard):
        assert panel["title"]
        assert len(panel["description"]) > 10
        if panel["type"] in {"timeseries", "stat"}:
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(refs) == len(set(refs)), panel["title"]


@EACH
def test_panels_have_ids_and_places_of_their_own(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


@EACH
def test_a_bucket_of_time_is_never_shorter_than_a_row(dashboard: dict[str, Any]) -> None:
    for panel in check.panels_of(dashboard):
        asked = json.dumps(panel["targets"])
        if panel["type"] in {"timeseries", "stat"} and "${span:raw}" in asked:
            assert panel["interval"] == "${span}", panel["title"]


@EACH
def test_a_graph_asks_for_fewer_buckets_than_elasticsearch_gives(dashboard: dict[str, Any]) -> None:
    for panel in check.panels_of(dashboard):
        for target in panel["targets"] if panel["type"] == "timeseries" else ():
            terms = [bucket for bucket in target.get("bucketAggs", ()) if bucket["type"] == "terms"]
            series = math.prod(int(bucket["settings"]["size"]) for bucket in terms)
            # Grafana rounds a bucket of 1.49 s to one of 1 s.
            assert series * (panel["maxDataPoints"] * 1.5 + 1) < 65_536, panel["title"]


@EACH
def test_only_variables_that_there_are_stand_in_a_dashboard(dashboard: dict[str, Any]) -> None:
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert {"datasource", "prefix"} <= names
    values = {name: Raw("") for name in names}
    view = View(0, 1, 1, values)
    for where, query in check.queries_of(dashboard):
        assert "$" not in view.lucene(query), where


@EACH
def test_links_lead_to_dashboards_that_there_are(dashboard: dict[str, Any]) -> None:
    known = {one["uid"] for one in DASHBOARDS.values()}
    for panel in check.panels_of(dashboard):
        for override in panel.get("fieldConfig", {}).get("overrides", []):
            for said in override["properties"]:
                for link in said["value"] if said["id"] == "links" else ():
                    assert link["url"].split("/")[2] in known
                    assert "${__url_time_range}" in link["url"]
                    names = {variable["name"] for variable in dashboard["templating"]["list"]}
                    assert set(re.findall(r"\$\{(\w+):queryparam\}", link["url"])) <= names


def changed(change: str) -> dict[str, Any]:
    """The dashboard Task with one thing wrong in its panel of percentiles."""
    dashboard = deepcopy(DASHBOARDS["task.json"])
    panel = next(one for one in check.panels_of(dashboard) if one["title"] == "Latency")
    target = panel["targets"][0]
    if change == "average":
        target["metrics"][0]["type"] = "avg"
    elif change == "sum":
        target["metrics"][0]["type"] = "sum"
    elif change == "mean of the series":
        panel["options"]["legend"]["calcs"] = ["mean"]
    elif change == "no level":
        target["query"] = target["query"].replace("level:task AND ", "")
    elif change == "unsaid":
        panel["description"] = "Percentiles."
    elif change == "unknown field":
        target["metrics"][0]["field"] = "latency_p98_ms"
    elif change == "unknown filter":
        target["query"] += " AND region:eu"
    elif change == "not aggregatable":
        target["bucketAggs"][0] = {"type": "terms", "id": "2", "field": "histogram", "settings": {}}
    return dashboard


@pytest.mark.parametrize("change", ["average", "sum", "mean of the series", "no level", "unsaid"])
def test_a_panel_that_averages_is_found(change: str) -> None:
    assert check.averaging_problems(changed(change)) != []


@pytest.mark.parametrize("change", ["unknown field", "unknown filter", "not aggregatable"])
def test_a_field_that_is_not_there_is_found(change: str) -> None:
    assert check.field_problems(changed(change)) != []


def test_nobody_can_ask_for_a_sum_of_percentiles() -> None:
    with pytest.raises(ValueError, match="latency_p99_ms"):
        queries.total("latency_p99_ms")


def test_a_variable_is_put_into_lucene_as_grafana_does() -> None:
    view = View(1, 2, 60_000, {"one": "a-b c", "some": ("x", "y:z"), "all": Raw("*")})
    assert view.lucene("task:$one") == r"task:a\-b\ c"
    assert view.lucene("task:${some}") == r'task:("x" OR "y\:z")'
    assert view.lucene("task:${all} ${one:raw} ${__to} $other") == "task:* a-b c 2 $other"


def test_the_provisioned_data_source_reads_every_topics_indices_by_the_time_field_of_the_queries() -> None:
    folder = pages.FOLDER.parent / "provisioning"
    (found,) = yaml.safe_load((folder / "datasources" / "tidegate.yaml").read_text())["datasources"]
    prefix = "${TIDEGATE_ELASTICSEARCH__INDEX_PREFIX}"
    assert found["jsonData"]["index"] == data_source.index_pattern(prefix)
    assert found["jsonData"]["timeField"] == data_source.TIME_FIELD
    assert data_source.outside() == []
    assert data_source.outside(("tidegate-*",)) != []


def test_the_provisioned_dashboards_come_from_a_folder_that_is_named_in_the_environment() -> None:
    folder = pages.FOLDER.parent / "provisioning"
    (found,) = yaml.safe_load((folder / "dashboards" / "tidegate.yaml").read_text())["providers"]
    assert found["options"]["path"] == "${TIDEGATE_GRAFANA_DASHBOARDS}"
