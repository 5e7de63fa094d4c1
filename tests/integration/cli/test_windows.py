"""`tidegate windows` on a real Kafka."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_row_contracts import service_row
from tests.support.commands import run_here
from tests.support.indexing import produce
from tests.support.waiting import until
from tidegate.adapters.kafka.client import KafkaUnavailable
from tidegate.adapters.queries import windows as reading
from tidegate.adapters.queries.windows import RowFilter, WindowReader
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import to_epoch_ms, to_text

TOPIC = "tidegate.service-metrics.1s"
START = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)


def row(second: float, task: str = "chat", level: str = "task", **fields: Any) -> dict[str, Any]:
    start = START + timedelta(seconds=second)
    row_id = ServiceMetricsRow.id_of("1s", level, "vision", task, None, None, to_epoch_ms(start))
    ends = {"window_start": to_text(start), "window_end": to_text(start + timedelta(seconds=1))}
    return service_row(id=row_id, task=task, level=level, **ends, **fields)


def read(kafka: Kafka, wanted: RowFilter, count: int) -> list[ServiceMetricsRow]:
    reader = WindowReader(kafka, "1s")
    try:
        return reader.newest(wanted, count)
    finally:
        reader.close()


def seconds(rows: list[ServiceMetricsRow]) -> list[float]:
    return [(one.window_start - START).total_seconds() for one in rows]


def test_the_newest_rows_come_oldest_first_from_all_partitions(kafka: Kafka) -> None:
    produce(kafka, TOPIC, [row(second) for second in range(50)])
    assert seconds(read(kafka, RowFilter(), 5)) == [45, 46, 47, 48, 49]
    assert len(read(kafka, RowFilter(), 1000)) == 50


def test_a_rewritten_row_is_shown_once_in_its_last_form(kafka: Kafka) -> None:
    produce(kafka, TOPIC, [row(1), row(2), row(1, requests=9)], partition=0)
    assert [one.requests for one in read(kafka, RowFilter(), 10)] == [9, 4]


def test_rare_rows_are_found_however_far_back(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_FIRST_STEP_BACK", 3)
    rows = [row(second, "rare" if second in {2, 7} else "chat") for second in range(400)]
    produce(kafka, TOPIC, rows)
    assert seconds(read(kafka, RowFilter(task="rare"), 2)) == [2, 7]
    assert seconds(read(kafka, RowFilter(task="rare"), 1)) == [7]
    assert seconds(read(kafka, RowFilter(task="none"), 1)) == []


def test_filters_leave_what_is_asked_for(kafka: Kafka) -> None:
    produce(kafka, TOPIC, [row(1), row(1, level="department"), row(2, task="other"), b"no row", b"{}"])
    assert len(read(kafka, RowFilter(level="task"), 10)) == 2
    assert len(read(kafka, RowFilter(level="task", task="chat"), 10)) == 1
    assert len(read(kafka, RowFilter(department="nobody"), 10)) == 0
    assert seconds(read(kafka, RowFilter(since=START + timedelta(seconds=2)), 10)) == [2]


def test_rows_since_a_moment_are_those_of_windows_that_began_then_or_later(kafka: Kafka) -> None:
    now = (datetime.now(UTC) - START).total_seconds() // 1
    produce(kafka, TOPIC, [row(now - back) for back in (900, 100, 10)])
    reader = WindowReader(kafka, "1s")
    try:
        moment = datetime.now(UTC) - timedelta(seconds=300)
        assert seconds(reader.since(RowFilter(since=moment), moment)) == [now - 100, now - 10]
    finally:
        reader.close()


def test_following_goes_on_where_the_newest_ended_and_misses_none(kafka: Kafka) -> None:
    produce(kafka, TOPIC, [row(1)])
    reader = WindowReader(kafka, "1s")
    try:
        assert seconds(reader.newest(RowFilter(), 10)) == [1]
        produce(kafka, TOPIC, [row(2), row(3)])
        found: list[ServiceMetricsRow] = []
        coming = reader.follow(RowFilter())

        def came() -> bool:
            one = next(coming)
            if one is not None:
                found.append(one)
            return len(found) == 2

        until(came, "two more rows")
        assert sorted(seconds(found)) == [2, 3]
    finally:
        reader.close()


def test_a_topic_that_is_missing_is_reported_by_name(kafka: Kafka) -> None:
    with pytest.raises(KafkaUnavailable, match=r"service-metrics\.1s"):
        read(kafka, RowFilter(), 1)


def test_the_command_prints_json_lines_that_are_rows(kafka: Kafka, tmp_path: Path) -> None:
    produce(kafka, TOPIC, [row(second) for second in range(3)])
    output = run(kafka, tmp_path, "--json", "--last", "2")
    rows = [ServiceMetricsRow.model_validate_json(text) for text in output.splitlines()]
    assert seconds(rows) == [1, 2]


def test_the_command_prints_a_table_whose_numbers_are_whole(kafka: Kafka, tmp_path: Path) -> None:
    long = "a-task-with-a-name-that-no-narrow-window-holds-" + "x" * 60
    produce(kafka, TOPIC, [row(1, task=long, requests=123_456_789)])
    output = run(kafka, tmp_path, "--last", "2")
    assert "window" in output
    assert long in output
    assert "123456789" in output


def run(kafka: Kafka, folder: Path, *arguments: str) -> str:
    environment = {
        "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TIDEGATE_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
    }
    return run_here("windows", *arguments, folder=folder, environment=environment).stdout


def test_json_lines_hold_what_kafka_holds(kafka: Kafka, tmp_path: Path) -> None:
    produce(kafka, TOPIC, [row(1)])
    assert json.loads(run(kafka, tmp_path, "--json")) == row(1)
