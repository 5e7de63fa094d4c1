"""Shared by the benchmarks of the running system: the servers with the job on them, and a gateway's paced load."""

from __future__ import annotations

import json
import multiprocessing
import queue
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from benchmarks.lines import Shape, batches
from tidegate.demo import flink_job
from tidegate.demo.failure import DemoFailed
from tidegate.jobs import cluster, service_metrics
from tidegate.schemas.settings import CONFIG_FILE, Kafka, Settings, Stack
from tidegate.schemas.topics import ACCESS_LOGS
from tidegate.stack import local_stack
from tidegate.stack.local import LocalStack

TAIL_SECONDS = 10
"""How long the load continues after the measured seconds, so that their windows close."""
LEAD_SECONDS = 15
"""How long the load takes to generate its first lines."""

_TICK_SECONDS = 0.02
_REST_SECONDS = 5
_FLUSH_SECONDS = 60
_TASK = re.compile(rb'"upstream_cluster":"outbound\|\d+\|[^|]*\|service-([^."]+)\.')
_HOST = re.compile(rb'"upstream_host":"([^"]+)"')

Change = Callable[[bytes, int], bytes]
"""Makes another line of a line that ends at a moment (epoch, in ms). The end must stay; it must be picklable."""


@dataclass(frozen=True)
class Running:
    """Servers with the job service-metrics running on them. command: `tidegate` with their settings."""

    stack: LocalStack
    settings: Settings
    command: tuple[str, ...]

    def flink(self, path: str) -> Any:
        """Flink's answer by REST. Raises OSError and ValueError."""
        url = f"http://{self.settings.flink.rest_address}/{path}"
        with urllib.request.urlopen(url, timeout=_REST_SECONDS) as answer:
            return json.load(answer)

    def check(self) -> None:
        """Raises SystemExit when the job has ended."""
        if problem := cluster.problem(self.settings.flink.rest_address):
            raise SystemExit(problem)


@contextmanager
def servers(*names: str) -> Iterator[LocalStack]:
    """These servers in a temporary folder with settings of their own; all of it is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
    folder.chmod(0o755)  # Elasticsearch may have to run as another user
    (folder / CONFIG_FILE).write_text(f"[stack]\nstate_dir = {json.dumps(str(folder))}\n")
    stack = local_stack(Settings(stack=Stack(state_dir=folder, start_timeout_seconds=240)))
    try:
        stack.up(names)
        yield stack
    finally:
        stack.down(purge=True)
        shutil.rmtree(folder)


@contextmanager
def running_job(*more_servers: str, jobs: Sequence[str] = (service_metrics.NAME,)) -> Iterator[Running]:
    """Kafka, Flink and these servers, with these jobs on them."""
    with servers("kafka", *more_servers, "flink-jobmanager", "flink-taskmanager") as stack:
        config = stack.state_dir / CONFIG_FILE
        command = (sys.executable, "-m", "tidegate.cli.main", "--config", str(config))
        running = Running(stack, stack.settings, command)
        _submit(running, jobs)
        yield running


def _submit(running: Running, jobs: Sequence[str]) -> None:
    """As a user does: by `tidegate submit`."""
    try:
        flink_job.submit(
            running.command,
            jobs,
            running.settings.flink.rest_address,
            running.stack.state_dir / "logs",
        )
    except DemoFailed as error:
        raise SystemExit(str(error)) from error


@dataclass
class SentSecond:
    """The requests that ended in one second.

    start_ms: epoch. ends_ms: by task, when each request ended (epoch). hosts: the replicas that they reached.
    behind_ms: how long after a request's end its line was given to Kafka's client, at most.
    """

    start_ms: int
    ends_ms: dict[str, list[int]] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    behind_ms: float = 0.0

    @property
    def requests(self) -> int:
        """How many."""
        return sum(map(len, self.ends_ms.values()))

    def add(self, line: bytes, ended_ms: int) -> None:
        """One more request."""
        task, host = _TASK.search(line), _HOST.search(line)
        if task is None:
            raise ValueError(f"no task in {line!r}")
        self.ends_ms.setdefault(task[1].decode(), []).append(ended_ms)
        if host is not None:
            self.hosts.add(host[1].decode())


class GatewayLoad:
    """A gateway's load: produces a shape's lines in a separate process, each when its request ends.

    As a context manager it starts the process, and ends it when it is left.
    """

    def __init__(self, kafka: Kafka, shape: Shape, seconds: int, change: Change | None = None) -> None:
        """shape: without disorder; its start should be LEAD_SECONDS away. seconds: the tail not included."""
        if shape.disorder_ms:
            raise ValueError("disorder_ms: a line is produced when its request ends, so it must be 0")
        context = multiprocessing.get_context("spawn")
        self._reports, reports = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_produce, args=(kafka, shape, seconds + TAIL_SECONDS, change, reports), daemon=True
        )
        self._other_end = reports

    def __enter__(self) -> GatewayLoad:
        self._process.start()
        self._other_end.close()  # so that the process' end is the pipe's
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.join()

    def sent(self) -> list[SentSecond]:
        """The seconds that are over since the last call, in order. Raises SystemExit when it has failed."""
        seconds: list[SentSecond] = []
        while self._reports.poll():
            try:
                seconds.append(self._reports.recv())
            except EOFError:
                break
        if not self._process.is_alive() and self._process.exitcode:
            raise SystemExit(f"the gateway's process ended with exit code {self._process.exitcode}")
        return seconds


def _produce(kafka: Kafka, shape: Shape, seconds: int, change: Change | None, reports: Connection) -> None:
    """The gateway's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            **kafka.client_config(),
            "compression.type": "lz4",
            "sticky.partitioning.linger.ms": 0,  # each tick's lines go to all partitions
            "on_delivery": delivered,
        }
    )
    topic, second = kafka.topic(ACCESS_LOGS), SentSecond(int(shape.start.timestamp() * 1000))
    for line, ended_ms, behind_ms in _paced(shape, seconds):
        if ended_ms >= second.start_ms + 1000:
            reports.send(second)
            second = SentSecond(ended_ms // 1000 * 1000)
        changed = line if change is None else change(line, ended_ms)
        producer.produce(topic, changed)
        producer.poll(0)
        second.add(changed, ended_ms)
        second.behind_ms = max(second.behind_ms, behind_ms)
    left = producer.flush(_FLUSH_SECONDS)
    reports.send(second)
    if left or failures:
        sys.exit(f"{left + len(failures)} lines did not reach Kafka: {failures[:1]}")


def _paced(shape: Shape, seconds: int) -> Iterator[tuple[bytes, int, float]]:
    """Each line at the tick that follows its request's end, with that end (epoch, ms), and how late that is (ms)."""
    start_ms, index = int(shape.start.timestamp() * 1000), 0
    for batch in _made_ahead(shape, shape.lines_per_second * seconds):
        for line in batch:
            ended_ms = start_ms + index * 1000 // shape.lines_per_second
            while (now := time.time() * 1000) < ended_ms:
                time.sleep(_TICK_SECONDS)
            yield line, ended_ms, now - ended_ms
            index += 1


def _made_ahead(shape: Shape, lines: int) -> Iterator[Sequence[bytes]]:
    """The batches, made by another thread while the one before is sent."""
    made: queue.Queue[Sequence[bytes] | None] = queue.Queue(maxsize=1)

    def make() -> None:
        for batch in batches(shape, lines):
            made.put(batch)
        made.put(None)

    threading.Thread(target=make, daemon=True).start()
    while (batch := made.get()) is not None:
        yield batch
