"""`tidegate report` on the real Kafka, against sums in plain Python."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from tidegate.adapters.kafka.client import ensure_topics
from tidegate.cli.main import app
from tidegate.schemas.rows.signals import CallStatisticsRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import to_epoch_ms
from tidegate.schemas.topics import CALL_STATISTICS

DAY = datetime(2026, 11, 24, tzinfo=UTC)


def hour(
    task: str, client: str | None, start: datetime, latencies: list[float], errors: int
) -> CallStatisticsRow:
    buckets: dict[str, int] = {}
    for latency in latencies:
        index = str(math.ceil(32 * math.log2(latency)) - 1)
        buckets[index] = buckets.get(index, 0) + 1
    values: dict[str, Any] = {
        **dict.fromkeys(CallStatisticsRow.model_fields, 0),
        "id": CallStatisticsRow.id_of(
            "1h", "client" if client else "task", "vision", task, client, to_epoch_ms(start)
        ),
        "span": "1h",
        "level": "client" if client else "task",
        "window_start": start,
        "window_end": start + timedelta(hours=1),
        "department": "vision",
        "task": task,
        "client": client,
        "requests": len(latencies),
        "errors_5xx": errors,
        "error_rate": errors / len(latencies),
        "latency_count": len(latencies),
        "latency_avg_ms": None,
        "latency_max_ms": max(latencies),
        "latency_p50_ms": None,
        "latency_p99_ms": None,
        "histogram": {"scale": 5, "zero": 0, "buckets": buckets},
    }
    return CallStatisticsRow.model_validate(values)


def run(kafka: Kafka, folder: Path, *arguments: str) -> Result:
    sets = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "stack.state_dir": str(folder),
    }
    options = [part for name, value in sets.items() for part in ("--set", f"{name}={value}")]
    return CliRunner().invoke(app, [*options, "report", *arguments], standalone_mode=False)


def test_a_day_is_the_sum_of_its_hours_and_its_p99_of_all_its_calls(kafka: Kafka, tmp_path: Path) -> None:
    dice = random.Random(3)
    ensure_topics(kafka, [CALL_STATISTICS])
    producer = Producer(kafka.client_config())
    calls: dict[str, list[float]] = {"chat": [], "rank": []}
    errors = dict.fromkeys(calls, 0)
    for index in range(-1, 6):
        for task in calls:
            latencies = [math.exp(dice.gauss(4, 1)) for _ in range(dice.randint(20, 200))]
            rows = [hour(task, None, DAY + timedelta(hours=index), latencies, 3)]
            rows.append(hour(task, "web", DAY + timedelta(hours=index), latencies, 3))
            for row in rows * 2:  # what comes twice counts once
                producer.produce(kafka.topic(CALL_STATISTICS), row.model_dump_json(), f"vision/{task}")
            if index >= 0:
                calls[task] += latencies
                errors[task] += 3
    producer.produce(kafka.topic(CALL_STATISTICS), "{}", "vision/bad")
    assert producer.flush(30) == 0

    file = tmp_path / "day.parquet"
    written = run(kafka, tmp_path, "--day", "2026-11-24", "--format", "parquet", "--out", str(file))
    assert written.return_value == 0, written.output
    assert "the topic holds calls of 6 hours of 2026-11-24, up to 2026-11-24 06:00 UTC" in written.output
    table = pd.read_parquet(file).set_index("task")
    for task, latencies in calls.items():
        values = sorted(latencies)
        assert table.loc[task, "requests"] == len(values)
        assert table.loc[task, "error_rate"] == pytest.approx(errors[task] / len(values))
        exact = values[math.ceil(0.99 * len(values)) - 1]
        assert table.loc[task, "latency_p99_ms"] == pytest.approx(exact, rel=0.011)

    csv = run(kafka, tmp_path, "--day", "2026-11-24", "--by", "client", "--format", "csv")
    assert csv.stdout.splitlines()[0].startswith("department,task,client,requests")
    assert f"vision,chat,web,{len(calls['chat'])}," in csv.stdout
    shown = run(kafka, tmp_path, "--day", "2026-11-24")
    assert f"{sum(map(len, calls.values())):,}" in shown.stdout

    nothing = run(kafka, tmp_path, "--day", "2026-11-20")
    assert nothing.return_value == 1
    assert "holds no call of 2026-11-20" in nothing.output
