"""The job call-statistics on Flink and the real Kafka, against plain Python over the same lines, and the minutes."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tidegate.adapters.kafka import messages
from tidegate.jobs import call_statistics, environment
from tidegate.schemas import topics
from tidegate.schemas.settings import Flink, Kafka, Settings, Stack
from tidegate.schemas.signal_rows import CallStatisticsRow
from tidegate.schemas.signal_settings import CallStatistics

from tests.flow.running import put, run_bounded
from tests.lines import cluster, line
from tests.oracle import Position, RawLine

START = datetime(2026, 11, 24, 22, 0, tzinfo=UTC)
"""Two hours before midnight: the lines fill three hours of two days."""
CLIENTS = ("batch", "search", "web", None, "-", "bad name!", "a/b:c@d")
ALLOWED = 4


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
                    "task": dice.choice(["chat", "rank"]),
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


def named(client: str | None) -> str:
    if client in (None, "-"):
        return "__unknown__"
    return "__overflow__" if client == "bad name!" else str(client)


def expected(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows by id: every line into its hour and day, at three levels, by the contract."""
    minutes: dict[tuple[datetime, str], set[str]] = defaultdict(set)
    ended = [(one["start"] + timedelta(milliseconds=one["duration"]), one) for one in found]
    for end, one in ended:
        minute = end.replace(second=0, microsecond=0)
        if named(one["client"]) != "__overflow__":
            minutes[minute, one["task"]].add(named(one["client"]))
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    clients: dict[str, set[str]] = defaultdict(set)
    for end, one in ended:
        minute = end.replace(second=0, microsecond=0)
        kept = sorted(minutes[minute, one["task"]])[:ALLOWED]
        client = named(one["client"])
        client = client if client in kept else "__overflow__"
        for span, start in (
            ("1h", end.replace(minute=0, second=0, microsecond=0)),
            ("1d", end.replace(hour=0, minute=0, second=0, microsecond=0)),
        ):
            start_ms = round(start.timestamp() * 1000)
            for level, task, who in (
                ("department", None, None),
                ("task", one["task"], None),
                ("client", one["task"], client),
            ):
                identifier = CallStatisticsRow.id_of(span, level, "vision", task, who, start_ms)
                groups[identifier].append(one)
                clients[identifier].add(client)
    return {identifier: row_of(some, len(clients[identifier])) for identifier, some in groups.items()}


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


def test_hours_and_days_are_what_the_lines_say_and_an_hour_is_its_minutes(settings: Settings) -> None:
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

    newest: dict[str, CallStatisticsRow] = {}
    for message in messages(settings.kafka, topics.CALL_STATISTICS):
        row = CallStatisticsRow.model_validate_json(message.value() or b"")
        assert row.id not in newest, "each is written once, when it is over"
        newest[row.id] = row
    wanted = expected(found)
    assert newest.keys() == wanted.keys()
    for identifier, row in newest.items():
        want = wanted[identifier]
        for name in want.keys() - {"p99"}:
            assert getattr(row, name) == want[name], (identifier, name)
        if want["p99"] is None:
            assert row.latency_p99_ms is None
        else:
            assert row.latency_p99_ms == pytest.approx(want["p99"], rel=0.011), identifier
    assert any("__overflow__" in identifier for identifier in newest)

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
        if row.span == "1h" and row.level != "client"
    }
    assert own == hours


def test_the_job_writes_the_columns_of_the_contract() -> None:
    assert list(call_statistics.ROW_TYPES) == list(CallStatisticsRow.model_fields)
