"""How far a task's profile is behind: `python -m benchmarks.profile_visibility`.

Starts Kafka and Flink for itself with the jobs service-metrics and task-profile, and removes everything afterwards. A
gateway writes each request's line when the request ends, and every tick another task's replicas change. Measured: from
a request's end to the first profile of its task whose traffic holds it, and from a change of the replicas to the first
profile that says so. The floor of the first is the contract's own wait in the same run: the second's end, the watermark
delay, and half of the time between two profiles (its p50; all of it for the rest).

Then each profile that was read is compared with what was sent in the seconds that it says it is over.

    --tasks 2000 --departments 1     a department of two thousand tasks
    --tasks 1 --replicas 500         a task of five hundred replicas
"""

from __future__ import annotations

import argparse
import os
import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from confluent_kafka import Producer

from benchmarks.lines import Shape
from benchmarks.live import TAIL_SECONDS, GatewayLoad, Running, SentSecond, running_job
from benchmarks.visibility import figures
from tests.support.limit_rows import replicas_row
from tidegate.demo.feed import Feed
from tidegate.jobs import service_metrics, task_profile
from tidegate.schemas import topics
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.settings import Kafka, Settings
from tidegate.schemas.timestamps import from_epoch_ms, to_epoch_ms

WARM_UP_SECONDS = 75
"""A profile is over a minute at most; before that, a task may have had no request at all."""
LEAD_SECONDS = 60
"""A gateway with thousands of replicas needs so long to make its lines' templates."""
TARGET_SECONDS = 10
_TICK_SECONDS = 0.5


@dataclass(frozen=True)
class Observed:
    """An observed profile: when it was read, and the window of its traffic (epoch, ms)."""

    read_ms: float
    until_ms: int
    seconds: int
    requests: int


@dataclass
class Profiles:
    """The observed profiles of each task, in order, and the lag of each change of its replicas."""

    observed: dict[str, list[Observed]] = field(default_factory=lambda: defaultdict(list))
    waiting: dict[str, tuple[int, float]] = field(default_factory=dict)
    changes_seconds: list[float] = field(default_factory=list)

    def add(self, profile: TaskProfile) -> None:
        """Another one, just read."""
        now_ms = time.time() * 1000
        traffic = profile.freshness["traffic"]
        if profile.requests is not None and traffic.observed_at is not None:
            observed = Observed(
                now_ms, to_epoch_ms(traffic.observed_at), profile.traffic_window_seconds, profile.requests
            )
            self.observed[profile.task].append(observed)
        ready, published_ms = self.waiting.get(profile.task, (None, 0.0))
        if ready is not None and profile.replicas_ready == ready:
            del self.waiting[profile.task]
            self.changes_seconds.append((now_ms - published_ms) / 1000)


class Watcher:
    """Publishes a change of the replicas of one task after the other, as `tidegate watch` does."""

    def __init__(self, kafka: Kafka, shape: Shape) -> None:
        self._topic = kafka.topic(topics.REPLICAS)
        self._producer = Producer(kafka.client_config())
        self._shape = shape
        self._numbers = count()
        self._next = 0.0

    def tick(self, waiting: dict[str, tuple[int, float]]) -> None:
        """The next change, if it is time for one."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _TICK_SECONDS
        number = next(self._numbers)
        task = number % self._shape.tasks
        name, department = f"model-{task:04d}", f"department-{task % self._shape.departments:02d}"
        ready = 1 + number // self._shape.tasks % 2 + number % 3
        now_ms = time.time() * 1000
        row = replicas_row(round(now_ms), ready, department=department, task=name)
        self._producer.produce(self._topic, row.model_dump_json(), f"{department}/{name}")
        self._producer.poll(0)
        if name not in waiting:
            waiting[name] = (ready, now_ms)

    def close(self) -> None:
        """Send what is on its way."""
        self._producer.flush(10)


def measure(running: Running, shape: Shape, seconds: int) -> tuple[list[SentSecond], Profiles]:
    """The sent requests, and the observed profiles."""
    start_ms = int(shape.start.timestamp() * 1000)
    end_ms = start_ms + seconds * 1000
    profiles, watcher = Profiles(), Watcher(running.settings.kafka, shape)
    sent: list[SentSecond] = []
    with (
        GatewayLoad(running.settings.kafka, shape, seconds) as gateway,
        Feed(running.settings.kafka, (topics.TASK_PROFILE,)) as feed,
    ):
        while time.time() * 1000 < end_ms + TAIL_SECONDS * 1000:
            if start_ms + WARM_UP_SECONDS * 1000 < time.time() * 1000 < end_ms:
                watcher.tick(profiles.waiting)
            for message in feed.messages(0.2):
                if value := message.value:
                    profiles.add(TaskProfile.model_validate_json(value))
            sent += gateway.sent()
    watcher.close()
    running.check()
    return sent, profiles


def report(
    sent: list[SentSecond], profiles: Profiles, shape: Shape, seconds: int, settings: Settings
) -> None:
    """Print what was measured."""
    first_ms = int(shape.start.timestamp() * 1000) + WARM_UP_SECONDS * 1000
    last_ms = first_ms + (seconds - WARM_UP_SECONDS) * 1000
    measured = [second for second in sent if first_ms <= second.start_ms < last_ms]
    waits, floors = [], []
    delay = settings.service_metrics.watermark_delay_seconds
    renewed = settings.task_profile.renew_seconds
    for second in measured:
        for task, ends in second.ends_ms.items():
            observed = profiles.observed[task]
            index = bisect_left(observed, second.start_ms + 1000, key=lambda one: one.until_ms)
            read_ms = observed[index].read_ms if index < len(observed) else float("inf")
            waits += [(read_ms - end) / 1000 for end in ends]
            floors += [(second.start_ms + 1000 - end) / 1000 + delay for end in ends]
    print(f"{'seconds':52} {'p50':>7} {'p95':>7} {'p99':>7} {'max':>7}")
    figures(f"floor: the second's end and {delay:g} s more", np.array(floors))
    figures(f"a request's end to its profile (each {renewed:g} s)", np.array(waits))
    changes = np.array(profiles.changes_seconds or [np.inf])
    figures(f"a change of the replicas to its profile ({len(changes)})", changes)
    worst = max(*waits, *changes)
    print(
        f"the most: {worst:.2f} s, wanted {TARGET_SECONDS} s: {'kept' if worst <= TARGET_SECONDS else 'MISSED'}"
    )
    print(f"changes that no profile shows: {len(profiles.waiting)}")
    print(f"the gateway was at most {max(second.behind_ms for second in measured):.0f} ms behind")
    _compare(sent, profiles, first_ms)


def _compare(sent: list[SentSecond], profiles: Profiles, first_ms: int) -> None:
    """Whether a profile holds what was sent in its seconds. Those whose window began before the load are left out."""
    counts: dict[str, dict[int, int]] = defaultdict(dict)
    for second in sent:
        for task, ends in second.ends_ms.items():
            counts[task][second.start_ms] = len(ends)
    last_ms = sent[-1].start_ms
    compared = wrong = requests = 0
    for task, observed in profiles.observed.items():
        for one in observed:
            since_ms = one.until_ms - 1000 * one.seconds
            if one.read_ms < first_ms or one.until_ms > last_ms:
                continue
            wanted = sum(counts[task].get(start, 0) for start in range(since_ms, one.until_ms, 1000))
            compared, requests, wrong = compared + 1, requests + wanted, wrong + (wanted != one.requests)
    print(
        f"{compared:,} profiles of {len(profiles.observed):,} tasks, {requests:,} requests in them: ", end=""
    )
    print(f"{wrong:,} differ from what was sent")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=180, help=f"with {WARM_UP_SECONDS} s of warm-up")
    parser.add_argument("--rate", type=int, default=2000, help="requests per second")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--replicas", type=int, default=5)
    parser.add_argument("--departments", type=int, default=20)
    chosen = parser.parse_args()
    if chosen.seconds < WARM_UP_SECONDS + 30:
        parser.error(f"--seconds: at least {WARM_UP_SECONDS + 30}")
    with running_job(jobs=(service_metrics.NAME, task_profile.NAME)) as running:
        start = from_epoch_ms((int(time.time()) + LEAD_SECONDS) * 1000)
        shape = Shape(
            lines_per_second=chosen.rate,
            tasks=chosen.tasks,
            replicas=chosen.replicas,
            departments=chosen.departments,
            disorder_ms=0,
            line_bytes=0,
            start=start,
        )
        print(
            f"{chosen.rate:,} requests/s of {shape.tasks:,} tasks in {shape.departments} departments with "
            f"{shape.replicas} replicas each, {chosen.seconds} s from {start:%H:%M:%S} UTC",
            flush=True,
        )
        sent, profiles = measure(running, shape, chosen.seconds)
        report(sent, profiles, shape, chosen.seconds, running.settings)
        print(f"load average: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
