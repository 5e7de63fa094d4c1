"""The job alerts on Flink and the real Kafka, against a second reading of the same rows by the rule's own words."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from tests.support.kafka_messages import messages
from tidegate.adapters.alerting import history as alert_history
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.jobs import alerts, environment
from tidegate.schemas import alert_rules, topics
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.settings import Flink, Kafka, Settings, Stack
from tidegate.schemas.timestamps import from_epoch_ms, to_epoch_ms, to_text

START_MS = 1_795_514_400_000
MINUTES = 120
RULES = alert_rules.parse(
    """
    rules:
      - name: errors
        level: interface
        source: service-metrics.1m
        when: {field: error_rate, op: ">", value: 0.5}
        for_seconds: 120
        severity: critical
        message: "{value:.0%} of {department}/{task}"
      - name: refused
        level: pipeline
        source: line-counts
        select: {kinds: [dead]}
        when: {field: lines_per_minute, op: ">", value: 0}
        message: "{value:.0f} a minute"
    """,
    "rules.yaml",
)


def minute_row(task: str, minute: int, error_rate: float) -> dict[str, Any]:
    return {
        "level": "task",
        "department": "vision",
        "task": task,
        "window_end": to_text(from_epoch_ms(START_MS + 60_000 * (minute + 1))),
        "requests": 100,
        "errors_5xx": round(100 * error_rate),
        "aborted": 0,
        "error_rate": error_rate,
    }


def expected(rates: list[float]) -> list[tuple[str, int]]:
    """State and minute of its row's end: true for two minutes more fires, reported each minute again, false ends it."""
    said, began, fired = [], None, False
    for minute, rate in enumerate(rates, start=1):
        if rate > 0.5:
            if began is None:
                began = minute
                said.append(("pending", minute))
            elif minute - began >= 2:
                fired = True
                said.append(("firing", minute))
        elif began is not None:
            said.append(("resolved", minute))
            began, fired = None, False
    assert fired in (True, False)
    return said


def test_alerts_are_what_the_rules_say_and_a_restart_goes_on_with_them(kafka: Kafka, tmp_path: Path) -> None:
    ensure_topics(kafka, topics.ALL_TOPICS)
    producer, dice = Producer({**kafka.client_config(), "enable.idempotence": True}), random.Random(2)
    rates: dict[str, list[float]] = {}
    for task in ("chat", "tags", "rank"):
        rates[task] = [dice.choice((0.1, 0.9, 0.9)) for _ in range(MINUTES - 5)] + [0.9] * 5
        for minute, rate in enumerate(rates[task]):
            row = json.dumps(minute_row(task, minute, rate), separators=(",", ":"))
            producer.produce(kafka.topic(topics.SERVICE_METRICS_1M), row, f"vision/{task}")
    producer.produce(kafka.topic(topics.SERVICE_METRICS_1M), '{"level":"task"}', "vision/chat")
    for second, lines in ((0, 5), (30, 5), (60, 8)):
        count = {
            "kind": "dead",
            "lines": lines,
            "updated_at": to_text(from_epoch_ms(START_MS + 1000 * second)),
        }
        producer.produce(kafka.topic(topics.LINE_COUNTS), json.dumps(count), "dead")
    assert producer.flush(30) == 0

    settings = Settings(
        kafka=kafka, stack=Stack(state_dir=tmp_path), flink=Flink(checkpoint_dir=tmp_path / "checkpoints")
    )
    where = environment.Where(bounded=True)
    tables = environment.create(settings, where, alerts.NAME, alerts.OPTIONS)
    alerts.main(tables, settings, RULES, {}, bounded=True).execute().wait()

    found: dict[str, list[tuple[str, int]]] = {}
    for message in messages(kafka, topics.ALERTS):
        row = AlertRow.model_validate_json(message.value() or b"")
        assert (message.key() or b"").decode() == row.alert_key
        at = (to_epoch_ms(row.observed_at) - START_MS) // 60_000
        found.setdefault(row.alert_key, []).append((row.state, at))
    for task, series in rates.items():
        assert found[f"errors|vision|{task}|"] == expected(series), task
    assert found["refused|||"] == [("firing", 1)]
    letters = [json.loads(message.value() or b"") for message in messages(kafka, topics.DEAD_LETTERS)]
    assert [letter["reason"].partition(":")[0] for letter in letters] == ["not a row"]

    # A start without a checkpoint begins with what hasn't ended.
    history = alert_history.open_alerts(kafka, RULES)
    assert {key: [row.state for row in rows] for key, rows in history.items()} == {
        **{f"vision/{task}": ["firing"] for task in rates},
        "dead": ["firing"],
    }
