"""`tidegate replay` and `tidegate run`, as a user types them."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.oracle import Position, RawLine
from tests.support.flink_jobs import problems, written
from tests.support.kafka_messages import messages
from tests.support.lines import aborted, at, cluster, line, rate_limited, unrouted
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.schemas import topics
from tidegate.schemas.settings import Kafka, Settings

PATIENCE_SECONDS = 180


def command(kafka: Kafka, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "TIDEGATE_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TIDEGATE_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tidegate.cli.main", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, errors
    return out


def log_lines(count: int) -> list[str]:
    draw = random.Random(7)
    kinds = [line, line, line, line, rate_limited, aborted, unrouted]
    return [
        draw.choice(kinds)(
            start_time=at(number * 150 / count + draw.random()),
            duration=draw.choice([0, 3, 40, 40, 250, 1200]),
            **(
                {"upstream_cluster": cluster(task=draw.choice(["chat", "embed"]), version=version)}
                if routed
                else {}
            ),
        )
        for number in range(count)
        for version, routed in [(draw.choice(["", "v1", "v2"]), draw.random() < 0.7)]
    ]


def test_replayed_files_run_bounded_are_the_oracles_rows(kafka: Kafka, tmp_path: Path) -> None:
    odd = "outbound|80||ch at.vision.svc.cluster.local"
    values = [
        *log_lines(6000),
        line(start_time=at(150), upstream_cluster=odd),
        "not JSON",
        line(start_time="-"),
    ]
    older, newer = tmp_path / "access.log.1.gz", tmp_path / "access.log"
    older.write_bytes(gzip.compress("".join(f"{value}\n" for value in values[:2500]).encode()))
    newer.write_text("".join(f"{value}\n" for value in values[2500:]))

    # To one partition: each keeps its order, and none is late for having been sent behind its time.
    sent = done(
        command(kafka, tmp_path, "replay", older.name, newer.name, "--shift-to-now", "--partition", "0")
    )
    reported = done(command(kafka, tmp_path, "run", "service-metrics", "--bounded"))

    in_topic = [
        RawLine(
            message.value() or b"",
            Position(message.topic() or "", message.partition() or 0, message.offset() or 0),
            message.timestamp()[1],
        )
        for message in messages(kafka, topics.ACCESS_LOGS)
    ]
    assert sent.startswith(f"{len(values)} lines sent")
    assert len(in_topic) == len(values)
    found = written(kafka)
    assert problems(found, in_topic, Settings(kafka=kafka)) == []
    assert found.counts["dead"] == 2
    assert "has read its topics to the end" in reported
    assert f"{found.counts['counted']:,} lines" in reported
    assert f"{odd!r} goes into __overflow__" in reported


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
    ids=lambda number: number.name,
)
def test_an_interrupted_run_ends_at_once_and_leaves_no_process(
    kafka: Kafka, tmp_path: Path, number: signal.Signals
) -> None:
    ensure_topics(kafka, topics.ALL_TOPICS)
    process = command(kafka, tmp_path, "run", "service-metrics")
    assert process.stdout is not None
    assert "runs here" in process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(number)

    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert children
    until(lambda: not any(child.is_running() for child in children), "the JVM ends too")
