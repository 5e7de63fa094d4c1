"""What `tidegate ui` answers its page, from a real Elasticsearch and a real Kafka: both the same, and the truth."""

from __future__ import annotations

import json
import math
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.support.dashboard_rows import HOUR_MS, MINUTE_MS, Hour, service_row
from tests.support.indexing import fill, of_our_own, produce
from tests.support.ui_server import UiServer, ui_serving
from tests.support.waiting import until
from tidegate.schemas import topics
from tidegate.schemas.settings import Elasticsearch, Kafka

NOW_SECONDS = 10
CHAT = {"department": "vision", "task": "chat"}


@dataclass(frozen=True)
class World:
    """An hour of every topic, in Kafka and by the real indexer in Elasticsearch; it ended a minute ago at most."""

    hour: Hour
    kafka: Kafka
    elasticsearch: Elasticsearch


@pytest.fixture(scope="module")
def world(kafka_server: Kafka, elasticsearch_server: Elasticsearch) -> World:
    """Filled once; nothing here writes to it."""
    kafka, elasticsearch = of_our_own(kafka_server, elasticsearch_server)
    now_ms = time.time_ns() // 1_000_000
    hour = Hour(now_ms - now_ms % MINUTE_MS - HOUR_MS)
    fill(kafka, elasticsearch, hour.topics())
    return World(hour, kafka, elasticsearch)


@pytest.fixture(scope="module")
def hour(world: World) -> Hour:
    return world.hour


@pytest.fixture(scope="module", params=["elasticsearch", "kafka"])
def ui(request: pytest.FixtureRequest, world: World) -> Iterator[UiServer]:
    with ui_serving(world.kafka, world.elasticsearch, "--source", request.param) as server:
        assert server.source == request.param
        yield server


def rows_of(hour: Hour, topic: str, **wanted: Any) -> list[dict[str, Any]]:
    """The rows as they were written, picked in plain Python."""
    return [
        row for row in hour.topics()[topic] if all(row.get(name) == value for name, value in wanted.items())
    ]


def started(row: dict[str, Any]) -> int:
    return int(datetime.fromisoformat(row["window_start"]).timestamp())


def percentile(rows: list[dict[str, Any]], percent: int, time: str = "latency") -> float | None:
    """The contract's: nearest rank among the buckets' middles, held within the smallest and the largest."""
    histogram = "histogram" if time == "latency" else f"{time}_histogram"
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update({int(bucket): count for bucket, count in row[histogram]["buckets"].items()})
    values = sorted(counts.elements())
    if not values:
        return None
    bucket = values[math.ceil(percent / 100 * len(values)) - 1]
    base = 2 ** (1 / 32)
    middle = 2 * base**bucket * base ** (bucket + 1) / (base**bucket + base ** (bucket + 1))
    low = min(row[f"{time}_min_ms"] for row in rows)
    high = max(row[f"{time}_max_ms"] for row in rows)
    return min(max(middle, low), high)


def test_now_is_the_ten_whole_seconds_before_the_newest_added_up(ui: UiServer, hour: Hour) -> None:
    newest = hour.end_ms // 1000
    for level in ("department", "task"):
        reported = ui.get(f"now/{level}")
        assert reported["newest"] == newest
        seconds = [
            row
            for row in rows_of(hour, "tidegate.service-metrics.1s", level=level)
            if newest - 1 - NOW_SECONDS <= started(row) < newest - 1
        ]
        wanted = {(row["department"], row["task"]) for row in seconds}
        assert {(row["department"], row["task"]) for row in reported["rows"]} == wanted
        for row in reported["rows"]:
            its = [
                one for one in seconds if (one["department"], one["task"]) == (row["department"], row["task"])
            ]
            assert len(its) == NOW_SECONDS
            requests = sum(one["requests"] for one in its)
            assert row["qps"] == pytest.approx(requests / NOW_SECONDS)
            wrong = sum(one["errors_5xx"] + one["aborted"] for one in its)
            assert row["error_rate"] == pytest.approx(wrong / requests)
            limited = sum(one["rate_limited"] for one in its)
            assert row["rate_limited_ratio"] == pytest.approx(limited / requests)
            assert row["p50_ms"] == pytest.approx(percentile(its, 50))
            assert row["p99_ms"] == pytest.approx(percentile(its, 99))
            assert row["flags"]["RL"] == limited
            assert row["first_byte_p99_ms"] == pytest.approx(percentile(its, 99, "first_byte"))
            tokens = sum(one["output_tokens"] for one in its)
            assert row["output_tokens_per_second"] == pytest.approx(tokens / NOW_SECONDS)
            in_flight = sum(one["concurrency"] for one in its) / NOW_SECONDS
            assert row["concurrency"] == pytest.approx(in_flight)


def test_what_is_usual_is_the_five_minutes_before_the_newest(ui: UiServer, hour: Hour) -> None:
    (row,) = ui.get("now/task", **CHAT)["rows"]
    minutes = rows_of(hour, "tidegate.service-metrics.1m", level="task", **CHAT)
    assert row["trend"] == [pytest.approx(one["qps"]) for one in minutes[-15:]]
    assert row["usual_qps"] == pytest.approx(sum(one["qps"] for one in minutes[-5:]) / 5)
    assert (row["replicas_ready"], row["limit_qps"], row["limit_state"]) == (3, 8.0, "applied")
    assert row["firing"] == 1


@pytest.mark.parametrize(
    ("scope", "level"),
    [
        ({"department": "vision"}, "department"),
        (CHAT, "task"),
        (CHAT | {"version": "v1"}, "version"),
        (CHAT | {"replica": "10.0.0.1:8080"}, "replica"),
    ],
)
@pytest.mark.parametrize(("span", "seconds"), [("1s", 60), ("1m", 1800)])
def test_a_charts_columns_are_the_rows_of_its_own_level(
    ui: UiServer, hour: Hour, scope: dict[str, str], level: str, span: str, seconds: int
) -> None:
    until_ms = hour.end_ms
    reported = ui.get("series", **scope, since=until_ms - seconds * 1000, until=until_ms)
    rows = rows_of(hour, f"tidegate.service-metrics.{span}", level=level, **scope)[-len(reported["times"]) :]
    assert reported["span_seconds"] == (1 if span == "1s" else 60)
    assert len(reported["times"]) == seconds // reported["span_seconds"]
    assert reported["times"] == [started(row) for row in rows]
    columns = reported["columns"]
    assert columns["qps"] == [pytest.approx(row["qps"]) for row in rows]
    assert columns["p99_ms"] == [row["latency_p99_ms"] for row in rows]
    assert columns["first_byte_p99_ms"] == [row["first_byte_p99_ms"] for row in rows]
    assert columns["stream_tokens_per_second"] == [row["output_tokens_per_second"] for row in rows]
    assert columns["output_tokens_per_second"] == [
        pytest.approx(row["output_tokens"] / reported["span_seconds"]) for row in rows
    ]
    assert columns["errors_5xx_qps"] == [
        pytest.approx(row["errors_5xx"] / reported["span_seconds"]) for row in rows
    ]


def test_limit_and_replicas_hold_until_the_next(ui: UiServer, hour: Hour) -> None:
    reported = ui.get("series", **CHAT, since=hour.start_ms, until=hour.end_ms)
    limits = sorted(
        (datetime.fromisoformat(row["applied_at"]).timestamp(), row["limit_qps"])
        for row in rows_of(hour, "tidegate.rate-limits", state="applied", **CHAT)
    )
    settled = sorted(
        (datetime.fromisoformat(row["settled_at"]).timestamp(), row["replicas_after"])
        for row in rows_of(hour, "tidegate.replica-changes", **CHAT)
    )
    for at, limit, replicas in zip(
        reported["times"],
        reported["columns"]["limit_qps"],
        reported["columns"]["replicas_ready"],
        strict=True,
    ):
        assert limit == next((value for when, value in reversed(limits) if int(when) <= at), None)
        assert replicas == next((value for when, value in reversed(settled) if int(when) <= at), 3)


def test_every_event_is_reported_at_its_moment(ui: UiServer, hour: Hour) -> None:
    reported = ui.get("events", **CHAT, since=hour.start_ms, until=hour.end_ms)
    assert [one["at"] for one in reported] == sorted(one["at"] for one in reported)
    assert Counter(one["kind"] for one in reported) == {
        "replicas": 3,
        "limit applied": 3,
        "limit held": 1,
        "limit failed": 1,
        "alert firing": 2,
        "alert resolved": 1,
    }
    others = ui.get("events", department="speech", since=hour.start_ms, until=hour.end_ms)
    assert {one["task"] for one in others if one["kind"] == "replicas"} == {"asr-large"}


def test_a_tasks_versions_and_replicas_are_reported_with_their_states(ui: UiServer, hour: Hour) -> None:
    reported = ui.get("parts", **CHAT)
    newest = hour.end_ms // 1000
    assert [row["version"] for row in reported["versions"]] == ["v1", "v2"]
    for row in reported["replicas"]:
        its = [
            one
            for one in rows_of(
                hour, "tidegate.service-metrics.1s", level="replica", replica=row["replica"], **CHAT
            )
            if newest - 1 - NOW_SECONDS <= started(one) < newest - 1
        ]
        assert row["qps"] == pytest.approx(sum(one["requests"] for one in its) / NOW_SECONDS)
    assert reported["ready"]["replicas_ready"] == 3


def test_what_a_task_uses_is_reported_beside(ui: UiServer, hour: Hour) -> None:
    reported = ui.get("series", **CHAT, since=hour.end_ms - 120_000, until=hour.end_ms)["resources"]
    rows = rows_of(hour, "tidegate.resource-metrics.10s", level="task", **CHAT)
    assert reported["times"] == [started(row) for row in rows]
    assert reported["columns"]["cpu_of_limit_ratio"] == [row["cpu_of_limit_ratio"] for row in rows]


def test_alerts_that_fire_are_reported_once_and_those_that_ended_not(ui: UiServer) -> None:
    firing = ui.get("alerts")
    assert [(row["rule"], row["state"]) for row in firing] == [("errors", "firing")]


def test_of_a_task_that_nobody_knows_nothing_is_made_up(ui: UiServer, hour: Hour) -> None:
    nobody = {"department": "vision", "task": "nobody"}
    assert ui.get("now/task", **nobody)["rows"] == []
    reported = ui.get("series", **nobody, since=hour.end_ms - 60_000, until=hour.end_ms)
    assert set(reported["columns"]["qps"]) == {None}
    assert ui.get("events", **nobody, since=hour.start_ms, until=hour.end_ms) == []
    assert ui.get("parts", **nobody)["replicas"] == []


def test_a_wrong_question_is_answered_with_what_is_wrong(ui: UiServer) -> None:
    assert "since must be before until" in ui.get("series", 422, department="a", since=9, until=9)["detail"]
    assert "longer than 7 days" in ui.get("events", 422, since=1, until=10**12)["detail"]
    assert "'6x' is not a valid status" in ui.get("logs", 422, status="6x")["detail"]
    assert "is not one of TRACE" in ui.get("logs", 422, severity="loud")["detail"]
    assert "is not an address of tidegate ui" in ui.get("what", 404)["detail"]


def test_the_page_loads_nothing_from_elsewhere_and_knows_its_own_name(ui: UiServer) -> None:
    page = httpx.get(f"{ui.url}/d/vision/t/chat")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http" not in page.text.replace("http-equiv", "")
    assert httpx.get(f"{ui.url}/assets/uplot/uPlot.esm.js").status_code == 200
    assert httpx.get(f"{ui.url}/assets/%2e%2e/app.py").status_code == 404
    # A page elsewhere whose name is made to lead here must not read what is here.
    assert httpx.get(f"{ui.url}/api/about", headers={"host": "elsewhere.example"}).status_code == 400


def test_it_ends_when_it_is_reported_to(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    with ui_serving(kafka, elasticsearch, "--source", "kafka") as ui:
        ui.process.send_signal(signal.SIGINT)
        assert ui.process.wait(30) == 130


def test_rows_that_come_are_reported_and_a_topic_that_comes_later_too(
    kafka: Kafka, elasticsearch: Elasticsearch
) -> None:
    second_ms = time.time_ns() // 1_000_000 // 1000 * 1000 - 60_000
    with ui_serving(kafka, elasticsearch, "--source", "kafka") as ui:
        assert ui.get("now/department") == {"newest": None, "seconds": 10, "rows": []}
        for number in range(3):
            row = service_row("1s", second_ms + number * 1000, 1000, 40, number, "vision")
            produce(kafka, topics.SERVICE_METRICS_1S.name, [row])
            newest = second_ms // 1000 + number + 1
            until(lambda newest=newest: ui.get("now/department")["newest"] == newest, "the row is reported")


def test_without_any_source_it_says_so_and_does_not_start(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    nowhere = elasticsearch.model_copy(update={"url": "http://127.0.0.1:9"})
    gone = kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9"})
    with pytest.raises(AssertionError) as reported, ui_serving(gone, nowhere):
        pass
    assert "there is nothing to show" in str(reported.value)
    assert "Elasticsearch at http://127.0.0.1:9 doesn't answer" in " ".join(str(reported.value).split())


def test_it_chooses_kafka_where_elasticsearch_has_no_rows(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    with ui_serving(kafka, elasticsearch) as ui:
        assert ui.source == "kafka"
        assert ui.get("about")["logs"] is True  # logs may be there all the same


def test_an_elasticsearch_that_is_away_is_reported(kafka: Kafka, elasticsearch: Elasticsearch) -> None:
    nowhere = elasticsearch.model_copy(update={"url": "http://127.0.0.1:9"})
    with ui_serving(kafka, nowhere, "--source", "elasticsearch") as ui:
        for path in ("now/department", "alerts", "logs", "trace/abc"):
            assert "Elasticsearch at http://127.0.0.1:9" in ui.get(path, 503)["detail"]
    assert json.dumps(ui.reported).count("Traceback") == 0
