"""How fast the job service-metrics is, against only reading and decoding: `python -m benchmarks.service_metrics`.

Starts a Kafka for itself, fills one partition with lines of 1.5 KB (200 tasks of 5 replicas, 66,000 lines a second
of event time), and lets Flink's local cluster read them to the end, in turns: the floor decodes the columns that the
job needs with Flink's own JSON format and writes to nowhere; the job is the whole job, with all its sinks. Parallelism
is 1 for both.

Both run over lines without the optional keys (gRPC status, first byte, attempts, tokens) and over lines of the same
size with them, in topics of their own.

Each runs over a third of the lines, then over all of them: the first run has start-up in it (planning, deploying, a
cold JVM), the difference of the two is what a further line costs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Producer

from benchmarks.lines import BLOCK_LINES, Shape, batches
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.jobs import environment, service_metrics
from tidegate.schemas import topics
from tidegate.schemas.settings import Kafka, Settings, Stack
from tidegate.schemas.topics import Topic
from tidegate.stack import local_stack

_BOUNDED = environment.Where(bounded=True)
_FLOOR_COLUMNS = """
    start_time TIMESTAMP_LTZ(3), duration STRING, upstream_cluster STRING, upstream_host STRING,
    upstream_service_time STRING, response_code STRING, response_code_details STRING, response_flags STRING,
    bytes_received STRING, bytes_sent STRING, access_log_type STRING"""


@dataclass(frozen=True)
class Run:
    """One bounded run. cpu_seconds: of Flink's JVM, all threads, and of this process, where Python functions run."""

    lines: int
    seconds: float
    cpu_seconds: float

    @property
    def speed(self) -> float:
        """Lines per second."""
        return self.lines / self.seconds

    def __sub__(self, part: Run) -> Run:
        return Run(self.lines - part.lines, self.seconds - part.seconds, self.cpu_seconds - part.cpu_seconds)

    def __str__(self) -> str:
        cpu_us = self.cpu_seconds / self.lines * 1e6
        return f"{self.lines:12,} lines  {self.speed:9,.0f} lines/s  {cpu_us:5.2f} us of CPU a line"


def fill(kafka: Kafka, topic: Topic, messages: Iterable[tuple[str | None, bytes]]) -> int:
    """These messages, each with its key, into a topic; how many they were."""
    producer = Producer(
        {
            **kafka.client_config(),
            "compression.type": "lz4",
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    name = kafka.topic(topic)
    filled = 0
    for key, message in messages:
        filled += 1
        while True:
            try:
                producer.produce(name, message, key)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(120):
        raise SystemExit(f"not all messages reached {name}")
    return filled


def floor(settings: Settings, lines: int) -> Run:
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
    return measured(lines, lambda: tables.execute_sql("INSERT INTO nothing SELECT * FROM access_lines"))


def job(settings: Settings, lines: int) -> Run:
    """The whole job."""
    tables = environment.create(settings, _BOUNDED, service_metrics.NAME)
    return measured(lines, service_metrics.main(tables, settings, bounded=True).execute)


def measured(lines: int, start: Callable[[], Any]) -> Run:
    """A Flink job from its submission to its end."""
    jvm = next(child for child in psutil.Process().children(recursive=True) if _is_pyflinks(child))
    both = (jvm, psutil.Process())
    before, began = _cpu_seconds(both), time.perf_counter()
    start().wait()
    seconds = time.perf_counter() - began
    return Run(lines, seconds, _cpu_seconds(both) - before)


def _cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (one.cpu_times() for one in processes))


def _is_pyflinks(process: psutil.Process) -> bool:
    """Kafka is a Java child of ours too."""
    return any("PythonGatewayServer" in argument for argument in process.cmdline())


Work = Callable[[Settings, int], Run]
"""A bounded run over all that is in the topic: so many messages."""


@contextmanager
def kafka_for(*wanted: Topic) -> Iterator[Settings]:
    """A Kafka of our own with these topics, of one partition each; removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        given = Settings(kafka=Kafka(partitions=1), stack=Stack(state_dir=Path(folder)))
        with local_stack(given) as stack:
            stack.up(["kafka"])
            ensure_topics(stack.settings.kafka, wanted)
            yield stack.settings


def in_turns(
    settings: Settings,
    topic: Topic,
    parts: Iterable[Iterable[tuple[str | None, bytes]]],
    works: Mapping[str, Work],
) -> dict[str, list[Run]]:
    """Each work over the first part, then over that and the next; printed as they come."""
    runs: dict[str, list[Run]] = {name: [] for name in works}
    in_topic = 0
    for part in parts:
        in_topic += fill(settings.kafka, topic, part)
        for name, work in works.items():
            run = work(settings, in_topic)
            runs[name].append(run)
            print(f"{run}  {name:14}  load {os.getloadavg()[0]:.1f}", flush=True)
    return runs


def further(runs: Mapping[str, list[Run]]) -> dict[str, Run]:
    """What the second part cost, without start-up."""
    return {name: whole - part for name, (part, whole) in runs.items()}


FORMS = {"plain": Shape(optional_keys=False), "all keys": Shape()}
"""The lines without and with the optional keys."""


def main() -> None:
    """Print each run, and the job's speed as a part of the floor's, for both forms of lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=9_000_000, help="of each form")
    arguments = parser.parse_args()
    runs: dict[str, list[Run]] = {}
    with kafka_for(*topics.ALL_TOPICS) as given:
        settings = {form: _of_the_form(given, form) for form in FORMS}
        made = {form: batches(shape, arguments.lines) for form, shape in FORMS.items()}
        in_topic = 0
        for part in (arguments.lines // 3 // BLOCK_LINES, None):
            filled = [
                fill(
                    settings[form].kafka,
                    topics.ACCESS_LOGS,
                    ((None, line) for batch in islice(lines, part) for line in batch),
                )
                for form, lines in made.items()
            ]
            in_topic += filled[0]
            for form in FORMS:
                for name, work in (("floor", floor), ("job", job)):
                    run = work(settings[form], in_topic)
                    runs.setdefault(f"{name}, {form}", []).append(run)
                    print(f"{run}  {name + ', ' + form:16}  load {os.getloadavg()[0]:.1f}", flush=True)
    more = further(runs)
    for name, run in more.items():
        print(f"{run}  {name:16}  without the first {runs[name][0].lines:,}")
    for form in FORMS:
        whole = runs[f"job, {form}"][1].speed / runs[f"floor, {form}"][1].speed
        rest = more[f"job, {form}"].speed / more[f"floor, {form}"].speed
        print(f"{form:8}  job / floor: {whole:.2f} start-up included, {rest:.2f} further lines")
    print("(wanted 0.5, aim 0.75)")


def _of_the_form(settings: Settings, form: str) -> Settings:
    """The settings with topics of their own below a prefix."""
    kafka = settings.kafka.model_copy(update={"topic_prefix": f"{form.replace(' ', '-')}."})
    ensure_topics(kafka, topics.ALL_TOPICS)
    return settings.model_copy(update={"kafka": kafka})


if __name__ == "__main__":
    main()
