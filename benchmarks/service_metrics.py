"""How fast the job service-metrics is, against only reading and decoding: `python -m benchmarks.service_metrics`.

Starts a Kafka for itself, fills one partition with lines of 1.5 KB (200 tasks of 5 replicas, 66,000 lines a second
of event time), and lets Flink's local cluster read them to the end, in turns: the floor decodes the columns that the
job needs with Flink's own JSON format and writes to nowhere; the job is the whole job, with all its sinks. Parallelism
is 1 for both. Start-up (planning, deploying) is part of both, so more lines give a truer ratio.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer
from tidegate.adapters.kafka import ensure_topics
from tidegate.jobs import environment, service_metrics
from tidegate.schemas import topics
from tidegate.schemas.settings import Kafka, Settings, Stack
from tidegate.stack import local_stack

from benchmarks.lines import Shape, batches

_BOUNDED = environment.Where(bounded=True)
_FLOOR_COLUMNS = """
    start_time TIMESTAMP_LTZ(3), duration STRING, upstream_cluster STRING, upstream_host STRING,
    upstream_service_time STRING, response_code STRING, response_code_details STRING, response_flags STRING,
    bytes_received STRING, bytes_sent STRING, access_log_type STRING"""


@dataclass(frozen=True)
class Run:
    """One bounded run. cpu_seconds: of Flink's JVM, all threads."""

    seconds: float
    cpu_seconds: float


def fill(kafka: Kafka, lines: int) -> None:
    """So many lines into the access-log topic."""
    ensure_topics(kafka, topics.ALL_TOPICS)
    producer = Producer(
        {
            **kafka.client_config(),
            "compression.type": "lz4",
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    topic = kafka.topic(topics.ACCESS_LOGS)
    for batch in batches(Shape(), lines):
        for line in batch:
            while True:
                try:
                    producer.produce(topic, line)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        raise SystemExit("not all lines reached Kafka")


def floor(settings: Settings) -> Run:
    """Read, decode by Flink's JSON format, forget."""
    tables = environment.create(settings, _BOUNDED, "floor")
    access_lines = service_metrics.access_lines_table(
        "access_lines", settings.kafka, settings.service_metrics, bounded=True
    )
    options = access_lines[access_lines.index(") WITH (") :].replace(
        "'format' = 'tidegate-access-log'", "'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601'"
    )
    tables.execute_sql(f"CREATE TEMPORARY TABLE access_lines ({_FLOOR_COLUMNS} {options}")
    tables.execute_sql(f"CREATE TEMPORARY TABLE nothing ({_FLOOR_COLUMNS}) WITH ('connector' = 'blackhole')")
    return measured(lambda: tables.execute_sql("INSERT INTO nothing SELECT * FROM access_lines"))


def job(settings: Settings) -> Run:
    """The whole job."""
    tables = environment.create(settings, _BOUNDED, service_metrics.NAME)
    return measured(service_metrics.main(tables, settings, bounded=True).execute)


def measured(start: Callable[[], Any]) -> Run:
    """A Flink job from its submission to its end."""
    jvm = next(child for child in psutil.Process().children(recursive=True) if "java" in child.name())
    before, began = jvm.cpu_times(), time.perf_counter()
    start().wait()
    seconds, after = time.perf_counter() - began, jvm.cpu_times()
    return Run(seconds, after.user + after.system - before.user - before.system)


def main() -> None:
    """Print each run and the ratio of the best ones."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=6_000_000)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        given = Settings(kafka=Kafka(partitions=1), stack=Stack(state_dir=Path(folder)))
        with local_stack(given) as stack:
            stack.up(["kafka"])
            settings = stack.settings
            fill(settings.kafka, arguments.lines)
            best: dict[str, float] = {}
            for turn in range(arguments.rounds):
                for name, work in (("floor", floor), ("job", job)):
                    run = work(settings)
                    speed = arguments.lines / run.seconds
                    best[name] = max(speed, best.get(name, 0))
                    print(
                        f"round {turn + 1} {name:5} {speed:10,.0f} lines/s  "
                        f"{run.cpu_seconds / arguments.lines * 1e6:6.2f} us of CPU a line  "
                        f"load {os.getloadavg()[0]:.1f}",
                        flush=True,
                    )
            print(f"job / floor: {best['job'] / best['floor']:.2f} (wanted 0.5, aim 0.75)")


if __name__ == "__main__":
    main()
