"""Whether the running job keeps what it should forget: `python -m benchmarks.soak [--minutes 30]`.

Starts Kafka and Flink for itself, submits the job, and removes everything afterwards. A gateway writes the lines of
tasks whose replicas and names come and go, so that anything kept for each replica or task ever seen would grow. Flink
is sampled meanwhile; what it holds in the last third is compared with the first one's, beside the replicas seen so far.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks.lines import Shape
from benchmarks.live import LEAD_SECONDS, TAIL_SECONDS, GatewayLoad, Running, running_job
from tidegate.adapters.kafka.log import LogMessage
from tidegate.adapters.queries.line_counts import newest
from tidegate.demo.feed import Feed, late_lines
from tidegate.jobs import service_metrics
from tidegate.schemas import topics
from tidegate.schemas.timestamps import from_epoch_ms
from tidegate.stack import processes, state

WARM_UP_SECONDS = 180
SAMPLE_SECONDS = 15
REPLACE_SECONDS = 20
"""Each task gives up one of its replicas for a new one so often."""
RENAME_SECONDS = 60
"""One task in ten ends so often, and one of a new name begins."""
RETAINED_CHECKPOINTS = 1
"""Flink's default, which the job leaves as it is."""

_PATIENCE_SECONDS = 30
_CLEAN_UP_SECONDS = 10
_MIB = 1 << 20
_TASK_NAME = re.compile(rb"model-(\d{4})")
_HOST = re.compile(rb'"upstream_host":"10\.\d+\.\d+\.(\d+):8080"')
_FIRST_HOST = 10
"""What benchmarks.lines gives a task's first replica as the address' last number."""
_METRICS = {
    "heap": "Status.JVM.Memory.Heap.Used",
    "metaspace": "Status.JVM.Memory.Metaspace.Used",
}


@dataclass(frozen=True)
class Churn:
    """Makes replicas and tasks come and go. start_ms: epoch. tasks, replicas: those of the shape."""

    start_ms: int
    tasks: int
    replicas: int

    def __call__(self, line: bytes, ended_ms: int) -> bytes:
        """The line with the replica and the task that there were when it ended."""
        name = _TASK_NAME.search(line)
        if name is None:
            raise ValueError(f"no task in {line!r}")
        task, elapsed = int(name[1]), (ended_ms - self.start_ms) / 1000
        if task % 10 == 5:
            line = line.replace(name[0], b"%b-%d" % (name[0], elapsed // RENAME_SECONDS))
        if (host := _HOST.search(line)) is None:
            return line
        return b"%b%b%b" % (line[: host.start()], self._host(task, int(host[1]), elapsed), line[host.end() :])

    def _host(self, task: int, last: int, elapsed: float) -> bytes:
        """An address that no other replica ever has. The tasks take turns, not all change at once."""
        slot = last - _FIRST_HOST
        turns = int(elapsed / REPLACE_SECONDS + task / self.tasks)
        number = ((turns + slot) // self.replicas * self.tasks + task) * self.replicas + slot
        return b'"upstream_host":"10.%d.%d.%d:8080"' % (number >> 16, number >> 8 & 255, number & 255)


@dataclass(frozen=True)
class Sample:
    """What Flink held at one moment, with the hosts of the requests since the sample before.

    at_seconds: since the start. Sizes in bytes: checkpoint is the last completed one's. lag: lines in Kafka that the
    job has not read. seen: replicas so far.
    """

    at_seconds: float
    checkpoint: float
    heap: float
    metaspace: float
    taskmanager: float
    jobmanager: float
    restarts: float
    lag: float
    seen: int
    hosts: frozenset[str]


class Sampler:
    """Asks Flink and the machine."""

    def __init__(self, running: Running, start_ms: int) -> None:
        """start_ms: epoch."""
        self._running = running
        self._start_ms = start_ms
        self.job = str(running.flink("jobs/overview")["jobs"][0]["jid"])
        self._lags: list[str] = []
        self._seen: set[str] = set()

    def sample(self, hosts: set[str]) -> Sample:
        """Now. hosts: of the requests since the sample before. Raises OSError, ValueError, LookupError."""
        flink = self._running.flink
        manager = flink("taskmanagers")["taskmanagers"][0]["id"]
        answer = flink(f"taskmanagers/{manager}/metrics?get={','.join(_METRICS.values())}")
        memory = {metric["id"]: float(metric["value"]) for metric in answer}
        completed = flink(f"jobs/{self.job}/checkpoints")["latest"]["completed"]
        (restarts,) = flink(f"jobs/{self.job}/metrics?get=numRestarts")
        servers = state.read(self._running.stack.state_dir).servers
        self._seen |= hosts
        return Sample(
            at_seconds=time.time() - self._start_ms / 1000,
            checkpoint=completed["state_size"] if completed else 0,
            heap=memory[_METRICS["heap"]],
            metaspace=memory[_METRICS["metaspace"]],
            taskmanager=processes.memory_bytes(servers["flink-taskmanager"].process),
            jobmanager=processes.memory_bytes(servers["flink-jobmanager"].process),
            restarts=float(restarts["value"]),
            lag=self._lag(),
            seen=len(self._seen),
            hosts=frozenset(hosts),
        )

    def _lag(self) -> float:
        """Raises LookupError until Flink reports it, some seconds after the job's start."""
        self._lags = self._lags or self._lag_metrics()
        if not self._lags:
            raise LookupError("no source reports its lag yet")
        return sum(float(self._running.flink(path)[0]["sum"]) for path in self._lags)

    def _lag_metrics(self) -> list[str]:
        """The paths at which Flink reports how many lines a source has not read."""
        paths = []
        for vertex in self._running.flink(f"jobs/{self.job}")["vertices"]:
            path = f"jobs/{self.job}/vertices/{vertex['id']}/subtasks/metrics"
            for metric in self._running.flink(path):
                if metric["id"].endswith(".pendingRecords"):
                    paths.append(f"{path}?get={urllib.parse.quote(metric['id'])}&agg=sum")
        return paths


@dataclass
class Counts:
    """Requests by the start of their second (epoch, ms): as sent, and as the rows of departments have them."""

    sent: dict[int, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    """By the row's id: one that comes twice counts once."""

    def add(self, message: LogMessage) -> None:
        """A message of the topic of rows."""
        row = orjson.loads(message.value or b"{}")
        if row.get("level") == "department":
            self.rows[row["id"]] = row["requests"]

    def sent_before(self, end_ms: int) -> int:
        """Those sent in seconds that begin before a moment."""
        return sum(requests for start, requests in self.sent.items() if start < end_ms)

    def counted_before(self, end_ms: int) -> int:
        """Those counted in seconds that begin before a moment."""
        return sum(requests for row, requests in self.rows.items() if int(row.rpartition("|")[2]) < end_ms)


def soak(running: Running, shape: Shape, seconds: int) -> tuple[list[Sample], Counts]:
    """Send for so many seconds from the shape's start; sample meanwhile, then read the last rows."""
    start_ms = int(shape.start.timestamp() * 1000)
    end_ms = start_ms + seconds * 1000
    change = Churn(start_ms, shape.tasks, shape.replicas)
    sampler, counts = Sampler(running, start_ms), Counts()
    samples: list[Sample] = []
    hosts: set[str] = set()
    due = start_ms / 1000 + SAMPLE_SECONDS
    _show_titles()
    with (
        GatewayLoad(running.settings.kafka, shape, seconds, change) as gateway,
        Feed(running.settings.kafka, (topics.SERVICE_METRICS_1S,)) as feed,
    ):
        while not _over(end_ms, counts):
            for message in feed.messages(1):
                counts.add(message)
            for second in gateway.sent():
                counts.sent[second.start_ms] = second.requests
                hosts |= second.hosts
            if due <= time.time() and due <= end_ms / 1000:
                due += SAMPLE_SECONDS
                running.check()
                try:
                    samples.append(sampler.sample(hosts))
                except (OSError, ValueError, LookupError) as error:
                    print(f"no sample, Flink doesn't report all of it: {error}", flush=True)
                    continue
                hosts = set()
                if int(samples[-1].at_seconds) % 60 < SAMPLE_SECONDS:
                    _show(samples[-1])
    return samples, counts


def _over(end_ms: int, counts: Counts) -> bool:
    """Whether the tail is over, and all was counted, or shall be waited for no longer."""
    left = end_ms / 1000 + TAIL_SECONDS - time.time()
    return left < 0 and (
        counts.counted_before(end_ms) == counts.sent_before(end_ms) or left < -_PATIENCE_SECONDS
    )


_COLUMNS: dict[str, tuple[str, Callable[[Sample], float]]] = {
    "checkpoint": ("KiB", lambda sample: sample.checkpoint / 1024),
    "heap": ("MiB", lambda sample: sample.heap / _MIB),
    "metaspace": ("MiB", lambda sample: sample.metaspace / _MIB),
    "taskmanager": ("MiB", lambda sample: sample.taskmanager / _MIB),
    "jobmanager": ("MiB", lambda sample: sample.jobmanager / _MIB),
    "lag": ("lines", lambda sample: sample.lag),
}
"""What is compared, with its unit."""


def _show_titles() -> None:
    titles = [f"{name} {unit}" for name, (unit, _) in _COLUMNS.items()]
    print("min  " + "  ".join(titles) + "  restarts  replicas so far  load", flush=True)


def _show(sample: Sample) -> None:
    """A row of the table."""
    figures = [f"{read(sample):{len(name) + len(unit) + 1},.0f}" for name, (unit, read) in _COLUMNS.items()]
    print(
        f"{sample.at_seconds / 60:3.0f}  {'  '.join(figures)}  {sample.restarts:8.0f}  "
        f"{sample.seen:15,}  {os.getloadavg()[0]:4.1f}",
        flush=True,
    )


def report(samples: Sequence[Sample]) -> None:
    """Print the three thirds after the warm-up, and how the last compares with the first."""
    settled = [sample for sample in samples if sample.at_seconds > WARM_UP_SECONDS]
    third = len(settled) // 3
    if not third:
        print(f"too few samples after {WARM_UP_SECONDS} s for a comparison")
        return
    thirds = (settled[:third], settled[third : len(settled) - third], settled[-third:])
    print(f"\n{third} samples in a third   {'first':>10} {'middle':>10} {'last':>10} {'last/first':>10}")
    for name, (unit, read) in _COLUMNS.items():
        of_third = max if name == "checkpoint" else statistics.median
        title = f"{name} {unit}{', largest' if name == 'checkpoint' else ''}"
        _compare(title, [of_third([read(sample) for sample in part]) for part in thirds])
    _compare("replicas seen in it", [len({host for one in part for host in one.hosts}) for part in thirds])
    _compare("replicas seen so far", [part[-1].seen for part in thirds])
    print(f"restarts of the job: {samples[-1].restarts:.0f}")


def _compare(title: str, figures: Sequence[float]) -> None:
    first, middle, last = figures
    ratio = f"{last / first:10.2f}" if first else f"{'-':>10}"
    print(f"{title:22} {first:10,.0f} {middle:10,.0f} {last:10,.0f} {ratio}")


def report_counts(running: Running, counts: Counts, end_ms: int) -> None:
    """Print whether each request is in a row or late. end_ms: epoch; the tail after it isn't compared."""
    sent, counted = counts.sent_before(end_ms), counts.counted_before(end_ms)
    late = len(late_lines(running.settings.kafka))
    verdict = "equal" if sent == counted + late else f"DIFFERENT by {sent - counted - late:,}"
    print(f"requests: {sent:,} sent, {counted:,} counted + {late:,} late: {verdict}")
    kinds = ", ".join(f"{lines:,} {kind}" for kind, lines in newest(running.settings.kafka).items())
    print(f"the job reports, its tail included: {kinds}")


def report_checkpoints(running: Running, job: str) -> None:
    """Print what is on disk. A checkpoint that was replaced just now may still be there for a moment."""
    folder = running.settings.checkpoint_dir() / service_metrics.NAME / job
    deadline = time.monotonic() + _CLEAN_UP_SECONDS
    while (kept := _completed(folder)) > RETAINED_CHECKPOINTS and time.monotonic() < deadline:
        time.sleep(0.5)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    verdict = "as retained" if kept <= RETAINED_CHECKPOINTS else f"MORE than {RETAINED_CHECKPOINTS}"
    print(f"checkpoints on disk: {kept} ({verdict}), {size / 1024:,.0f} KiB in all")


def _completed(folder: Path) -> int:
    return sum(1 for _ in folder.glob("chk-*/_metadata"))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=int, default=1000, help="requests per second")
    chosen = parser.parse_args()
    seconds = int(chosen.minutes * 60)
    with running_job() as running:
        start = from_epoch_ms(int(time.time() + LEAD_SECONDS) * 1000)
        shape = Shape(lines_per_second=chosen.rate, disorder_ms=0, start=start)
        samples, counts = soak(running, shape, seconds)
        report(samples)
        report_counts(running, counts, int(start.timestamp() * 1000) + seconds * 1000)
        report_checkpoints(running, Sampler(running, 0).job)


if __name__ == "__main__":
    main()
