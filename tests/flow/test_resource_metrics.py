"""The job resource-metrics on Flink and the real Kafka, against numpy over the same samples, and Prometheus' rate()."""

from __future__ import annotations

import io
import json
import math
import random
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from confluent_kafka import Producer
from prometheus_api_client import PrometheusConnect

from tests.conftest import up
from tests.support.kafka_messages import messages
from tests.support.limit_rows import replicas_row
from tests.support.prometheus_samples import sample
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.jobs import environment, resource_metrics
from tidegate.schemas import topics
from tidegate.schemas.rows.resources import ResourceMetricsRow
from tidegate.schemas.settings import Flink, Kafka, Settings, Stack
from tidegate.schemas.settings.signals import ResourceMetrics
from tidegate.schemas.timestamps import to_epoch_ms
from tidegate.stack import debian_programs
from tidegate.stack.local import LocalStack
from tidegate.stack.prometheus import PROMETHEUS, PrometheusServer, Scraping, url

CPU = "container_cpu_usage_seconds_total"
MEMORY = "container_memory_working_set_bytes"
START_S = int(datetime.now(UTC).timestamp()) // 60 * 60 - 1800
MINUTES = 12
SUFFIXES = {"steady": "stcbd", "busy": "bsbsb", "patchy": "ptchc"}


@dataclass(frozen=True)
class Point:
    """One sample of one pod."""

    name: str
    pod: str
    at_s: int
    value: float


def pods() -> dict[str, list[Point]]:
    """Twelve minutes of three pods: a steady one, a busy one that resets, one that is scraped badly."""
    dice = random.Random(4)
    found: dict[str, list[Point]] = {}
    for pod, period in (("steady", 15), ("busy", 10), ("patchy", 15)):
        name = f"service-chat-7d9f8b6c4-{SUFFIXES[pod]}"
        value, points = 100.0, []
        for at_s in range(START_S, START_S + 60 * MINUTES, period):
            value += period * (0.5 if pod == "steady" else dice.uniform(0, 1.5))
            if pod == "busy" and dice.random() < 0.05:
                value = dice.uniform(0, 3)  # it was restarted
            if pod == "patchy" and dice.random() < 0.4:
                continue  # a scrape failed
            points.append(Point(CPU, name, at_s, round(value, 3)))
            points.append(Point(MEMORY, name, at_s, float(dice.randint(10**8, 10**9))))
        found[name] = points
    return found


def grown(points: list[Point], start_s: float, end_s: float) -> tuple[float, float]:
    """Increase and covered seconds: the counter with its resets straightened, read off at both ends by numpy."""
    at = np.array([point.at_s for point in points], dtype=float)
    steps = np.diff([point.value for point in points])
    after = np.array([point.value for point in points[1:]])
    straight = np.concatenate([[0.0], np.cumsum(np.where(steps < 0, after, steps))])
    low, high = max(start_s, at[0]), min(end_s, at[-1])
    if high <= low:
        return 0.0, 0.0
    return float(np.interp(high, at, straight) - np.interp(low, at, straight)), high - low


def of(points: list[Point], name: str) -> list[Point]:
    return [point for point in points if point.name == name]


def put(kafka: Kafka, values: list[bytes]) -> None:
    ensure_topics(kafka, (*topics.ALL_TOPICS, topics.PROMETHEUS_METRICS))
    producer = Producer(kafka.client_config())
    for value in values:
        producer.produce(kafka.topic(topics.PROMETHEUS_METRICS), value)
    assert producer.flush(30) == 0


def raw(point: Point) -> dict[str, Any]:
    at = datetime.fromtimestamp(point.at_s, UTC)
    labels = {"namespace": "vision", "pod": point.pod, "container": "model"}
    return sample(point.name, at, repr(point.value), **labels)


def run(kafka: Kafka, folder: Path, **settings: Any) -> list[ResourceMetricsRow]:
    """The job over what is in the topic, to its end."""
    chosen = Settings(
        kafka=kafka,
        stack=Stack(state_dir=folder),
        flink=Flink(checkpoint_dir=folder / "checkpoints"),
        resource_metrics=ResourceMetrics(**settings),
    )
    where = environment.Where(bounded=True)
    tables = environment.create(chosen, where, resource_metrics.NAME, resource_metrics.OPTIONS)
    resource_metrics.main(tables, chosen, bounded=True).execute().wait()
    rows = []
    for topic in (topics.RESOURCE_METRICS_10S, topics.RESOURCE_METRICS_1M):
        for message in messages(kafka, topic):
            row = ResourceMetricsRow.model_validate_json(message.value() or b"")
            assert (message.key() or b"").decode() == f"{row.department}/{row.task}"
            assert row.expected_id() == row.id
            assert row.span == topic.name.rpartition(".")[2]
            rows.append(row)
    return rows


@pytest.fixture
def history(tmp_path: Path) -> Iterator[PrometheusConnect]:
    """A real Prometheus with the same samples."""
    lines = []
    for name, points in pods().items():
        for point in of(points, CPU):
            lines.append(
                f'{CPU.removesuffix("_total")}_total{{namespace="vision",pod="{name}"}} {point.value} {point.at_s}'
            )
    text = f"# TYPE {CPU.removesuffix('_total')} counter\n" + "\n".join(lines) + "\n# EOF\n"
    (tmp_path / "samples.txt").write_text(text)
    data = tmp_path / "stack" / PROMETHEUS / "data"
    data.mkdir(parents=True)
    command = (debian_programs.promtool(), "tsdb", "create-blocks-from", "openmetrics")
    subprocess.run((*command, tmp_path / "samples.txt", data), check=True, capture_output=True, timeout=60)
    stack = LocalStack(Settings(stack=Stack(state_dir=tmp_path / "stack")), ())
    stack.add(PrometheusServer(Scraping({}), retention="30d"))
    up(stack, PROMETHEUS)
    yield PrometheusConnect(url(stack, PROMETHEUS))
    stack.down(purge=True)


def test_windows_are_what_numpy_and_prometheus_make_of_the_same_samples(
    kafka: Kafka, tmp_path: Path, history: PrometheusConnect, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(1)
    values = [json.dumps(raw(point)).encode() for points in pods().values() for point in points]
    # As they come: some twice, some in another order, and between them what is no sample of a pod.
    noise = [
        json.dumps(raw(Point("go_goroutines", "x", START_S, 1.0))).encode(),
        json.dumps(raw(Point(CPU, "other-0", START_S, math.inf))).encode(),
    ]
    bad = [
        f'{{"name": "{CPU}", "labels": {{"container": "model"}}}}'.encode(),
        f'"{CPU}" is no JSON'.encode(),
        json.dumps(raw(Point(CPU, "ahead-0", START_S + 86_400, 1.0))).encode(),
    ]
    put(kafka, sorted([*values, *values[::7], *noise, *bad], key=lambda _: dice.random()))
    rows = run(kafka, tmp_path)

    letters = [json.loads(message.value() or b"") for message in messages(kafka, topics.DEAD_LETTERS)]
    assert len(letters) == len(bad)
    replicas = {row.id: row for row in rows if row.level == "replica"}
    seen = 0
    for pod, points in pods().items():
        for span, length in (("10s", 10), ("1m", 60)):
            for start_s in range(START_S, START_S + 60 * MINUTES, length):
                amount, covered = grown(of(points, CPU), start_s, start_s + length)
                identifier = ResourceMetricsRow.id_of(span, "replica", "vision", "chat", pod, start_s * 1000)
                row = replicas.get(identifier)
                cpu = None if row is None else row.cpu_cores
                if covered == 0:
                    assert cpu is None, identifier
                    continue
                assert cpu == pytest.approx(amount / covered, rel=1e-9, abs=1e-9), identifier
                memory = [
                    point.value for point in of(points, MEMORY) if start_s <= point.at_s < start_s + length
                ]
                if memory and span == "10s":  # a minute's has what its first seconds knew from before
                    assert row is not None
                    assert row.memory_working_set_bytes == max(memory)
                seen += 1
    assert seen > 200

    # A task is the sum of its replicas.
    tasks = [row for row in rows if row.level == "task"]
    for task in {row.id: row for row in tasks}.values():
        parts = [
            row
            for row in replicas.values()
            if (row.span, row.task, row.window_start) == (task.span, task.task, task.window_start)
        ]
        assert task.replicas_seen == len(parts)
        known = [row.cpu_cores for row in parts if row.cpu_cores is not None]
        if known:
            assert task.cpu_cores == pytest.approx(sum(known))

    compare_with_prometheus(history, replicas, capsys)


def compare_with_prometheus(
    history: PrometheusConnect, replicas: dict[str, ResourceMetricsRow], capsys: pytest.CaptureFixture[str]
) -> None:
    differences: dict[str, list[float]] = {}
    for pod in pods():
        for minute in range(1, MINUTES - 1):
            end_s = START_S + 60 * (minute + 1)
            answer = history.custom_query(f'rate({CPU}{{pod="{pod}"}}[1m])', params={"time": end_s - 0.001})
            identifier = ResourceMetricsRow.id_of(
                "1m", "replica", "vision", "chat", pod, 1000 * (START_S + 60 * minute)
            )
            row = replicas.get(identifier)
            if not answer or row is None or row.cpu_cores is None:
                continue
            rate = float(answer[0]["value"][1])
            differences.setdefault(pod, []).append(abs(row.cpu_cores - rate) / max(rate, 1e-9))
    with capsys.disabled():
        for pod, found in differences.items():
            found.sort()
            print(  # noqa: T201
                f"\n{pod}: {len(found)} minutes against rate()[1m]: relative difference median "
                f"{statistics.median(found):.2e}, largest {found[-1]:.2e}",
                end="",
            )
        print()  # noqa: T201
    steady = next(found for pod, found in differences.items() if pod.endswith(SUFFIXES["steady"]))
    assert len(steady) >= MINUTES - 3
    assert max(steady) < 1e-6, "a counter that grows evenly has one rate, however it is read off"


def test_avro_is_read_and_the_watcher_says_whose_pod_it_is(kafka: Kafka, tmp_path: Path) -> None:
    schema = fastavro.parse_schema(
        {
            "type": "record",
            "name": "Metric",
            "fields": [
                {"name": "timestamp", "type": "string"},
                {"name": "value", "type": "string"},
                {"name": "name", "type": "string"},
                {"name": "labels", "type": {"type": "map", "values": "string"}},
            ],
        }
    )
    values = []
    for second in range(0, 60, 15):
        record = io.BytesIO()
        fastavro.schemaless_writer(
            record, schema, raw(Point(CPU, "pod-of-no-set", START_S + second, second / 10))
        )
        values.append(record.getvalue())
    put(kafka, [*values, b"\x02"])
    reported = replicas_row(START_S * 1000, 1, task="rank")
    (replica,) = reported.replicas or (None,)
    assert replica is not None
    reported = reported.model_copy(
        update={
            "workload": "vision/some-name",
            "source": "kubernetes",
            "replicas": (replica.model_copy(update={"name": "pod-of-no-set"}),),
        }
    )
    producer = Producer(kafka.client_config())
    producer.produce(kafka.topic(topics.REPLICAS), reported.model_dump_json(), "vision/rank")
    assert producer.flush(30) == 0
    rows = run(kafka, tmp_path, format="avro")
    assert {(row.department, row.task) for row in rows} == {("vision", "rank")}
    minute = next(row for row in rows if row.span == "1m" and row.level == "replica")
    assert minute.cpu_cores == pytest.approx(0.1)
    assert to_epoch_ms(minute.window_start) == 1000 * START_S
    letters = [json.loads(message.value() or b"") for message in messages(kafka, topics.DEAD_LETTERS)]
    assert [letter["reason"].partition(":")[0] for letter in letters] == ["not a sample's Avro record"]
