"""The job call-statistics on Flink and the real Kafka, against plain Python over the same lines, and the minutes."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.oracle import Position, RawLine
from tests.support.flink_jobs import put, run_bounded
from tests.support.kafka_messages import messages
from tests.support.lines import cluster, line
from tidegate.jobs import call_statistics, environment
from tidegate.schemas import topics
from tidegate.schemas.rows.signals import CallStatisticsRow
from tidegate.schemas.settings import Flink, Kafka, Settings, Stack
from tidegate.schemas.settings.signals import CallStatistics

START = datetime(2026, 11, 24, 22, 0, tzinfo=UTC)
"""Two hours before midnight: the lines fill three hours of two days."""
CLIENTS = ("batch", "search", "web", None, "-", " ", 7, "bad name!", 'we"b', "Zürich", "x" * 129, "a/b:c@d")
TASKS = ("chat", "rank")
UNKNOWN = (None, "-", " ", 7)
BAD = ("bad name!", 'we"b', "Zürich", "x" * 129)
ALLOWED = 3
"""Fewer than there are names."""
SPANS = {"1h": (timedelta(hours=1), timedelta(minutes=5)), "1d": (timedelta(days=1), timedelta(hours=1))}
"""A window's length, and how often it is written."""


def lines() -> list[dict[str, Any]]:
    """Three hours, some lines a minute, in order: no line is late."""
    dice, found = random.Random(9), []
    for minute in range(0, 180, 2):
        for _ in range(dice.randint(1, 12)):
            status = dice.choice([200, 200, 200, 404, 503, 0, 429])
            found.append(
                {
                    "start": START + timedelta(minutes=minute, milliseconds=dice.randint(0, 59_000)),
                    "duration": dice.randint(1, 900),
                    "task": dice.choice(TASKS),
                    "client": dice.choice(CLIENTS),
                    "status": status,
                    "bytes": dice.randint(0, 10_000),
                }
            )
    return sorted(found, key=lambda one: one["start"] + timedelta(milliseconds=one["duration"]))


def text_of(one: dict[str, Any]) -> str:
    limited = one["status"] == 429
    return line(
        start_time=one["start"].isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        duration=one["duration"],
        upstream_cluster=cluster(task=one["task"], department="vision"),
        upstream_host=None if limited else "10.0.0.1:80",
        response_code=one["status"],
        response_flags="RL" if limited else "-",
        response_code_details="local_rate_limited" if limited else "via_upstream",
        client=one["client"],
        bytes_received=one["bytes"],
        bytes_sent=1,
    )


def named(client: str | int | None) -> str:
    if client in UNKNOWN:
        return "__unknown__"
    return "__overflow__" if client in BAD else str(client)


def expected(found: list[dict[str, Any]]) -> dict[tuple[str, datetime], dict[str, Any]]:
    """Rows by id and by until when they count: every line into what is written of its hour and day from then on."""
    windows: dict[tuple[str, datetime, datetime], list[dict[str, Any]]] = defaultdict(list)
    for one in found:
        event = one["start"] + timedelta(milliseconds=one["duration"])
        for span, (length, step) in SPANS.items():
            start = event.replace(minute=0, second=0, microsecond=0)
            start = start if span == "1h" else start.replace(hour=0)
            end = start + step * ((event - start) // step + 1)
            while end <= start + length:
                windows[span, start, end].append(one)
                end += step
    rows = {}
    for (span, start, end), some in windows.items():
        for task in (None, "chat", "rank"):
            of_task = [one for one in some if task in (None, one["task"])]
            groups = by_client(of_task) if task and end == start + SPANS[span][0] else {}
            if of_task:
                level = "task" if task else "department"
                clients = set().union(*(by_client([o for o in of_task if o["task"] == t]) for t in TASKS))
                rows[identified(span, level, task, None, start), end] = row_of(of_task, len(clients))
            for client, its in groups.items():
                rows[identified(span, "client", task, client, start), end] = row_of(its, 1)
    return rows


def by_client(of_task: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """One task's lines of one window, the clients past the allowed ones in __overflow__."""
    kept = sorted({named(one["client"]) for one in of_task} - {"__overflow__"})[:ALLOWED]
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in of_task:
        groups[named(one["client"]) if named(one["client"]) in kept else "__overflow__"].append(one)
    return groups


def identified(span: str, level: str, task: str | None, client: str | None, start: datetime) -> str:
    return CallStatisticsRow.id_of(span, level, "vision", task, client, round(start.timestamp() * 1000))


def row_of(some: list[dict[str, Any]], clients: int) -> dict[str, Any]:
    latencies = sorted(one["duration"] for one in some if one["status"] != 429)
    return {
        "requests": len(some),
        "errors_4xx": sum(one["status"] == 404 for one in some),
        "errors_5xx": sum(one["status"] == 503 for one in some),
        "aborted": sum(one["status"] == 0 for one in some),
        "rate_limited": sum(one["status"] == 429 for one in some),
        "bytes_received": sum(one["bytes"] for one in some),
        "latency_count": len(latencies),
        "p99": latencies[math.ceil(0.99 * len(latencies)) - 1] if latencies else None,
        "clients_seen": clients,
    }


@pytest.fixture
def settings(kafka: Kafka, tmp_path: Path) -> Settings:
    return Settings(
        kafka=kafka,
        stack=Stack(state_dir=tmp_path),
        flink=Flink(checkpoint_dir=tmp_path / "checkpoints"),
        call_statistics=CallStatistics(max_clients_per_task=ALLOWED),
    )


def test_hours_and_days_are_what_the_lines_say_whenever_they_are_written_and_an_hour_is_its_minutes(
    settings: Settings,
) -> None:
    found = lines()
    received_ms = round((START + timedelta(hours=4)).timestamp() * 1000)
    put(
        settings.kafka,
        [
            RawLine(text_of(one).encode(), Position("", 0, index), received_ms)
            for index, one in enumerate(found)
        ],
    )
    where = environment.Where(bounded=True)
    tables = environment.create(settings, where, call_statistics.NAME)
    call_statistics.main(tables, settings, bounded=True).execute().wait()

    written = [
        CallStatisticsRow.model_validate_json(message.value() or b"")
        for message in messages(settings.kafka, topics.CALL_STATISTICS)
    ]
    wanted = expected(found)
    assert len(written) == len(wanted), "each is written once for each moment until when it counts"
    newest: dict[str, CallStatisticsRow] = {}
    for row in written:
        want = wanted[row.id, row.window_end]
        for name in want.keys() - {"p99"}:
            assert getattr(row, name) == want[name], (row.id, row.window_end, name)
        if want["p99"] is None:
            assert row.latency_p99_ms is None
        else:
            assert row.latency_p99_ms == pytest.approx(want["p99"], rel=0.011), row.id
        assert row.complete == (row.window_end - row.window_start == SPANS[row.span][0])
        assert row.id not in newest or newest[row.id].window_end < row.window_end, "the last one counts most"
        newest[row.id] = row
    assert all(row.complete for row in newest.values()), "a bounded run closes every window"
    named_rows = Counter(
        (row.span, row.window_start, row.task) for row in newest.values() if row.level == "client"
    )
    assert set(named_rows.values()) == {ALLOWED + 1}, "as many names as are allowed, and the others together"

    an_hour_is_its_minutes(settings, newest)


def an_hour_is_its_minutes(settings: Settings, newest: dict[str, CallStatisticsRow]) -> None:
    """Beside the other job's rows of the same lines: counts and histograms."""
    minutes = [
        row
        for row in run_bounded(settings).rows
        if row["span"] == "1m" and row["level"] in ("task", "department")
    ]
    hours: dict[tuple[Any, ...], tuple[int, dict[str, int]]] = {}
    for row in minutes:
        key = (row["level"], row["task"], row["window_start"][:13])
        requests, buckets = hours.get(key, (0, {}))
        buckets = dict(buckets)
        for index, count in row["histogram"]["buckets"].items():
            buckets[index] = buckets.get(index, 0) + count
        hours[key] = (requests + row["requests"], buckets)
    own = {
        (row.level, row.task, json.loads(row.model_dump_json())["window_start"][:13]): (
            row.requests,
            dict(row.histogram.buckets),
        )
        for row in newest.values()
        if row.span == "1h" and row.level != "client" and row.complete
    }
    assert own == hours


def test_the_lines_are_aggregated_once_and_each_window_once(settings: Settings) -> None:
    """The planner would do it once for each use of a view that it can prune or filter in another way."""
    tables = environment.create(settings, environment.Where(bounded=True), call_statistics.NAME)
    plan = call_statistics.main(tables, settings, bounded=True).explain()
    executed = plan.partition("== Optimized Execution Plan ==")[2]
    assert executed.count("TableSourceScan") == 1
    assert executed.count("GlobalWindowAggregate(groupBy=[upstream_cluster, upstream_host]") == 1
    assert executed.count("window=[TUMBLE(time_col=[cell_time]") == 1
    assert executed.count(
        "GlobalWindowAggregate(groupBy=[department, task, client], window=[CUMULATE("
    ) == len(SPANS)


def test_the_job_writes_the_columns_of_the_contract() -> None:
    assert list(call_statistics.ROW_TYPES) == list(CallStatisticsRow.model_fields)
