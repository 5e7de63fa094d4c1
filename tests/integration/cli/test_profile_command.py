"""`tidegate profile` on the real Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner, Result

from tests.support.signal_rows import profile
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.cli.main import app
from tidegate.schemas.settings import Kafka
from tidegate.schemas.topics import TASK_PROFILE


def run(kafka: Kafka, folder: Path, *arguments: str) -> Result:
    sets = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "stack.state_dir": str(folder),
    }
    options = [part for name, value in sets.items() for part in ("--set", f"{name}={value}")]
    return CliRunner().invoke(app, [*options, "profile", *arguments], standalone_mode=False)


def test_the_newest_of_each_task_is_shown_and_what_is_gone_is_not(
    kafka: Kafka, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nothing = run(kafka, tmp_path)
    assert nothing.return_value == 1
    assert "no matching task has a profile" in nothing.output

    ensure_topics(kafka, [TASK_PROFILE])
    producer = Producer(kafka.client_config())
    rows = (
        profile("chat", qps=1.0),
        profile("chat", qps=12.34, replicas_ready=3, stale_inputs=("resources",)),
        profile("tags", qps=5.0),
    )
    for row in rows:
        producer.produce(kafka.topic(TASK_PROFILE), row.model_dump_json(), row.id)
    producer.produce(kafka.topic(TASK_PROFILE), None, "vision/tags")
    producer.produce(kafka.topic(TASK_PROFILE), "{}", "vision/bad")
    assert producer.flush(30) == 0

    table = run(kafka, tmp_path)
    assert table.return_value == 0, table.output
    (line,) = [line for line in table.output.splitlines() if "vision/chat" in line]
    assert line.split()[1:3] == ["3", "12.3"]
    assert line.rstrip().endswith("resources")
    assert "vision/tags" not in table.output
    assert "(key 'vision/bad') is not a valid TaskProfile, and left out" in caplog.text

    full = run(kafka, tmp_path, "--task", "chat")
    assert "qps                          12.34" in full.output
    one = run(kafka, tmp_path, "--json", "--department", "vision")
    assert json.loads(one.stdout.splitlines()[-1])["qps"] == 12.34
    assert run(kafka, tmp_path, "--task", "none").return_value == 1
