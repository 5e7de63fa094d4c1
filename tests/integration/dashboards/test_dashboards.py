"""Every query of every dashboard, on a real Elasticsearch that the real indexer has filled: it finds the right data.

Where TIDEGATE_GRAFANA_URL is set (with TIDEGATE_GRAFANA_TOKEN, or user and password in the URL), the dashboards are
loaded there too, and its own data source runs the queries. That Grafana must reach the tests' Elasticsearch.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from elasticsearch import Elasticsearch as Client

from tests.conftest import GRAFANA_TOKEN_VARIABLE, GRAFANA_VARIABLE
from tests.grafana.client import grafana_at
from tests.support.dashboard_rows import HOUR_MS, LEVEL_MS, MINUTE_MS, REPLICAS, SECONDS_OF_ROWS, Hour
from tests.support.dashboards import check
from tests.support.dashboards.data_source import index_pattern
from tests.support.dashboards.interpolation import View
from tests.support.dashboards.searches import Frame
from tests.support.indexing import client_of, fill
from tidegate.dashboards import registry as pages
from tidegate.schemas.settings import Elasticsearch, Kafka

DASHBOARDS: list[dict[str, Any]] = [json.loads(text) for text in pages.made().values()]
CHOSEN = {"department": "vision", "task": "chat", "replica": "10.0.0.1:8080", "pod": "chat-1"}


@dataclass(frozen=True)
class Filled:
    """An Elasticsearch with an hour of everything in it."""

    client: Client
    settings: Elasticsearch
    hour: Hour

    @property
    def view(self) -> View:
        """Somebody looks at the whole hour."""
        return View(
            self.hour.start_ms,
            self.hour.end_ms,
            MINUTE_MS,
            {"prefix": self.settings.index_prefix},
        )

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """As the data source sends it."""
        indices = index_pattern(self.settings.index_prefix)
        found = self.client.perform_request(
            "POST",
            f"/{indices}/_search",
            params={"ignore_unavailable": "true", "search_type": "query_then_fetch"},
            headers={"content-type": "application/json", "accept": "application/json"},
            body=body,
        )
        assert isinstance(found.body, dict)
        return found.body


@pytest.fixture
def filled(kafka: Kafka, elasticsearch: Elasticsearch) -> Iterator[Filled]:
    """Every topic written to Kafka and carried to Elasticsearch by the indexer, under its own templates."""
    now_ms = time.time_ns() // 1_000_000
    hour = Hour(now_ms - now_ms % HOUR_MS - 2 * HOUR_MS)
    topics = hour.topics()
    counters = fill(kafka, elasticsearch, topics)
    assert (counters.read, counters.refused) == (sum(len(messages) for messages in topics.values()), 0)
    with client_of(elasticsearch) as client:
        yield Filled(client, elasticsearch, hour)


def shown(report: check.Report, uid: str, title: str) -> list[Frame]:
    """What a panel shows."""
    dashboard = next(one for one in DASHBOARDS if one["uid"] == uid)
    panel = next(one for one in check.panels_of(dashboard) if one["title"] == title)
    return report.frames[uid, panel["id"]]


def values(frames: list[Frame], name: str) -> list[Any]:
    """The values of one series."""
    return list(next(frame for frame in frames if frame.name == name).values)


def tell(capsys: pytest.CaptureFixture[str], figures: str) -> None:
    """Says a figure where everybody sees it."""
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")


def test_every_query_of_every_dashboard_finds_data_and_the_right_rows(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    report = check.run(DASHBOARDS, filled.search, filled.view, CHOSEN, listed=False)
    tell(capsys, f"dashboards, all values: {report}")
    assert report.problems == []

    p99 = values(shown(report, "tidegate-task", "Latency"), "latency_p99_ms")
    assert p99 == [LEVEL_MS["task"] + 40 + number for number in range(60)] + [None]
    p99 = values(shown(report, "tidegate-department", "Latency"), "latency_p99_ms")
    assert p99[:60] == [LEVEL_MS["department"] + 40 + number for number in range(60)]
    p99 = values(shown(report, "tidegate-replica", "Latency"), "latency_p99_ms")
    assert p99[:60] == [LEVEL_MS["replica"] + 40 + number for number in range(60)]

    requests = [(40 + number % 7) * REPLICAS for number in range(60)]
    results = shown(report, "tidegate-task", "Requests by result")
    stacked = [sum(at) for at in zip(*(frame.values for frame in results), strict=True)]
    assert stacked == pytest.approx([count / 60 for count in requests] + [0])
    admitted = values(shown(report, "tidegate-task", "Limit, offered and admitted"), "admitted")
    assert admitted[:60] == pytest.approx([(count - count // 5) / 60 for count in requests])
    limits = values(shown(report, "tidegate-task", "Limit, offered and admitted"), "limit")
    assert limits == [None] * 10 + [4.0] * 20 + [6.0] * 29 + [8.0] * 2

    (rates,) = shown(report, "tidegate-overview", "Requests")[:1]
    assert [value for value in rates.values if value][-1] == pytest.approx(3 * requests[-1] / 60)
    (limit,) = shown(report, "tidegate-task", "Limit")
    assert limit.values[-1] == 8.0
    (lags,) = shown(report, "tidegate-rate-limiting", "From decided to applied")
    applied, decided = lags.columns["Max applied_at"], lags.columns["Max decided_at"]
    assert {first - second for first, second in zip(applied, decided, strict=True)} == {800}
    ages = {frame.name: frame.values[0] for frame in shown(report, "tidegate-pipeline-health", "Lag")}
    assert ages["profiles"] == 5000
    assert ages["replicas"] == 9000
    assert ages["minutes"] == 0


@pytest.mark.slow
def test_values_that_are_picked_one_by_one_find_the_same_and_seconds_are_found_as_minutes(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = check.run(DASHBOARDS, filled.search, filled.view, CHOSEN, listed=True)
    seconds_view = View(
        filled.hour.end_ms - SECONDS_OF_ROWS * 1000,
        filled.hour.end_ms,
        1000,
        {"prefix": filled.settings.index_prefix, "span": "1s", "resource_span": "10s"},
    )
    levels = [one for one in DASHBOARDS if one["uid"] in {"tidegate-department", "tidegate-replica"}]
    seconds = check.run(levels, filled.search, seconds_view, CHOSEN, listed=False)
    tell(capsys, f"dashboards, picked values: {listed}; rows of a second: {seconds}")
    assert listed.problems == []
    assert seconds.problems == []
    p99 = values(shown(seconds, "tidegate-replica", "Latency"), "latency_p99_ms")
    assert p99[:SECONDS_OF_ROWS] == [LEVEL_MS["replica"] + 40 + n for n in range(SECONDS_OF_ROWS)]


def test_a_panel_without_data_is_found(elasticsearch: Elasticsearch) -> None:
    with client_of(elasticsearch) as client:
        empty = Filled(client, elasticsearch, Hour(0))
        report = check.run(DASHBOARDS, empty.search, empty.view, CHOSEN, listed=False)
    assert len(report.problems) >= report.panels


def test_a_real_grafana_loads_the_dashboards_and_finds_the_same(
    filled: Filled, capsys: pytest.CaptureFixture[str]
) -> None:
    url = os.environ.get(GRAFANA_VARIABLE)
    if not url:
        pytest.skip(f"{GRAFANA_VARIABLE} isn't set: no Grafana to ask")
    report = check.run(DASHBOARDS, filled.search, filled.view, CHOSEN, listed=False)
    problems: list[str] = []
    panels = 0
    with grafana_at(url, os.environ.get(GRAFANA_TOKEN_VARIABLE), filled.settings) as grafana:
        for dashboard in DASHBOARDS:
            grafana.load(dashboard)
            for panel in check.panels_of(dashboard):
                panels += 1
                found = grafana.problems(panel, report.views[dashboard["uid"]])
                problems += [f"{dashboard['title']}: {panel['title']} {problem}" for problem in found]
    tell(capsys, f"dashboards in Grafana: {panels} panels, {len(problems)} problems")
    assert problems == []
