"""How long a request takes to be seen: `python -m benchmarks.visibility`.

Starts Kafka, Elasticsearch and Flink for itself, submits the job, runs the indexer over all topics, and removes
everything afterwards. A gateway then writes each request's line when the request ends. Measured over requests: from
the end to when the row of its task and second was read from Kafka, and to when a search found it in Elasticsearch.

The floor is the contract's own wait in the same run: a row can't come before its second is over and the watermark
delay has passed after it.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
from elasticsearch import ApiError

from benchmarks.lines import Shape
from benchmarks.live import LEAD_SECONDS, TAIL_SECONDS, GatewayLoad, Running, SentSecond, running_job
from tidegate.adapters.indexing.client import connect
from tidegate.adapters.kafka.log import LogMessage
from tidegate.adapters.queries.line_counts import newest
from tidegate.demo.feed import Feed
from tidegate.demo.parts import Indexer
from tidegate.schemas import topics
from tidegate.schemas.elasticsearch import contract_of
from tidegate.schemas.settings import Elasticsearch, Settings
from tidegate.schemas.timestamps import from_epoch_ms

WARM_UP_SECONDS = 20
KAFKA_TARGET_SECONDS, KAFKA_AIM_SECONDS = 5, 3
ELASTICSEARCH_TARGET_SECONDS = 7
MINUTE_TARGET_SECONDS = 10

_POLL_SECONDS = 0.1
_LOOK_BACK_SECONDS = 60
_IDS_AT_ONCE = 10_000
_PATIENCE_SECONDS = 20
_PIECE_SECONDS = 10

Floats = npt.NDArray[np.float64]
Window = tuple[str, int]
"""A task, and the start of its window (epoch, ms)."""


@dataclass
class Rows:
    """Task rows from Kafka: when each was first read (epoch, ms), and its requests by the newest form."""

    second_read_ms: dict[Window, float] = field(default_factory=dict)
    minute_read_ms: dict[Window, float] = field(default_factory=dict)
    requests: dict[Window, int] = field(default_factory=dict)

    def add(self, message: LogMessage) -> None:
        """A message of one of the two topics of rows, just read."""
        now_ms, value = time.time() * 1000, message.value
        row = orjson.loads(value or b"{}")
        if row.get("level") != "task":
            return
        window, read = _window(row["id"]), self.minute_read_ms
        if row["span"] == "1s":
            read = self.second_read_ms
            self.requests[window] = row["requests"]
        read.setdefault(window, now_ms)


class Searches:
    """Finds out when the document of each task and second can be found, by asking again and again."""

    def __init__(self, elasticsearch: Elasticsearch) -> None:
        self._client = connect(elasticsearch, timeout_seconds=10)
        self._alias = contract_of(topics.SERVICE_METRICS_1S.name).alias(elasticsearch.index_prefix)
        self._seen: Counter[int] = Counter()
        self.found_ms: dict[Window, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. What can't be searched just now (a new index' first moment) isn't found yet."""
        while not stop.wait(_POLL_SECONDS):
            try:
                self._look()
            except ApiError as error:
                if error.status_code != 503:
                    raise

    def _look(self) -> None:
        if more := [start for start, count in self._counts().items() if count > self._seen[start]]:
            self._look_at(more)

    def _counts(self) -> dict[int, int]:
        """How many tasks can be found, by the start of the second: next to nothing to ask for."""
        answer = self._search(
            {"range": {"window_start": {"gte": int((time.time() - _LOOK_BACK_SECONDS) * 1000)}}},
            size=0,
            aggs={"seconds": {"terms": {"field": "window_start", "size": 2 * _LOOK_BACK_SECONDS}}},
        )
        seconds = answer.get("aggregations", {"seconds": {"buckets": []}})["seconds"]
        return {bucket["key"]: bucket["doc_count"] for bucket in seconds["buckets"]}

    def _look_at(self, starts: Sequence[int]) -> None:
        """Which tasks these are, of seconds where there are more than before."""
        answer = self._search({"terms": {"window_start": starts}}, size=_IDS_AT_ONCE)
        now_ms = time.time() * 1000
        for hit in answer["hits"]["hits"]:
            window = _window(hit["_id"])
            if window not in self.found_ms:
                self.found_ms[window] = now_ms
                self._seen[window[1]] += 1

    def _search(self, query: Mapping[str, object], **more: object) -> dict[str, Any]:
        task_rows = {"bool": {"filter": [{"term": {"level": "task"}}, query]}}
        body = {"query": task_rows, "_source": False, "track_total_hits": False, **more}
        return dict(self._client.search(index=self._alias, body=body, ignore_unavailable=True).body)


def _window(row_id: str) -> Window:
    """Of a task row's id: `span|task|department|task|||window_start`."""
    parts = row_id.split("|")
    return parts[3], int(parts[-1])


@dataclass(frozen=True)
class Requests:
    """The requests of the measured seconds, one place each: when it ended (epoch, ms), and its task and second."""

    ended_ms: Floats
    windows: list[Window]

    @classmethod
    def of(cls, seconds: Sequence[SentSecond]) -> Requests:
        """In the order in which they were sent, by task."""
        ends, windows = [], []
        for second in seconds:
            for task, task_ends in second.ends_ms.items():
                ends += task_ends
                windows += [(task, second.start_ms)] * len(task_ends)
        return cls(np.array(ends, np.float64), windows)

    def floor(self, delay_seconds: float) -> Floats:
        """From each request's end until its row may come, in seconds."""
        due_ms = np.array([start + 1000 for _, start in self.windows], np.float64) + delay_seconds * 1000
        return (due_ms - self.ended_ms) / 1000

    def until(self, seen_ms: Mapping[Window, float]) -> Floats:
        """From each request's end until its window was seen, in seconds; endless where it never was."""
        never = float("inf")
        return (np.array([seen_ms.get(window, never) for window in self.windows]) - self.ended_ms) / 1000


@dataclass(frozen=True)
class Measured:
    """One run. loads: the machine's load average of a minute, second by second. start_ms: epoch, warm-up over."""

    seconds: list[SentSecond]
    start_ms: int
    rows: Rows
    found_ms: Mapping[Window, float]
    loads: list[float]


def measure(running: Running, shape: Shape, seconds: int) -> Measured:
    """Send for so many seconds from the shape's start, and look until all that was sent was seen."""
    start_ms = int(shape.start.timestamp() * 1000)
    measured_from, measured_to = start_ms + WARM_UP_SECONDS * 1000, start_ms + seconds * 1000
    searches, rows = Searches(running.settings.elasticsearch), Rows()
    sent: list[SentSecond] = []
    loads: list[float] = []
    stop = threading.Event()
    expected: set[Window] = set()
    with (
        ThreadPoolExecutor(1) as pool,
        GatewayLoad(running.settings.kafka, shape, seconds) as gateway,
        Feed(running.settings.kafka, (topics.SERVICE_METRICS_1S, topics.SERVICE_METRICS_1M)) as feed,
    ):
        searching = pool.submit(searches.run, stop)
        try:
            while not _over(measured_to, expected, rows, searches):
                for message in feed.messages(1):
                    rows.add(message)
                for second in gateway.sent():
                    if measured_from <= second.start_ms < measured_to:
                        sent.append(second)
                        expected |= {(task, second.start_ms) for task in second.ends_ms}
                loads.append(os.getloadavg()[0])
                _raise_if_failed(searching)
        finally:
            stop.set()
        searching.result()
    running.check()
    return Measured(sent, measured_from, rows, searches.found_ms, loads)


def _over(measured_to: int, expected: set[Window], rows: Rows, searches: Searches) -> bool:
    """Whether the tail is over, and all was seen, or shall be waited for no longer."""
    left = measured_to / 1000 + TAIL_SECONDS - time.time()
    seen_all = expected <= rows.second_read_ms.keys() and expected <= searches.found_ms.keys()
    return left < 0 and (seen_all or left < -_PATIENCE_SECONDS)


def _raise_if_failed(work: Future[None]) -> None:
    if work.done():
        work.result()


def next_start(now: float) -> float:
    """When to begin (epoch, s), so that the warm-up ends with a whole minute: the measured minutes are whole."""
    earliest = now + LEAD_SECONDS + WARM_UP_SECONDS
    return -(-earliest // 60) * 60 - WARM_UP_SECONDS


def report(measured: Measured, settings: Settings) -> None:
    """Print what was measured."""
    delay = settings.service_metrics.watermark_delay_seconds
    requests = Requests.of(measured.seconds)
    floor = requests.floor(delay)
    kafka = requests.until(measured.rows.second_read_ms)
    elasticsearch = requests.until(measured.found_ms)
    print(f"{'seconds':52} {'p50':>7} {'p95':>7} {'p99':>7} {'max':>7}")
    figures(f"floor: the second's end and {delay:g} s more", floor)
    figures("a request's end to its row in Kafka", kafka)
    figures("  beyond the floor", kafka - floor)
    figures("a request's end to a search that finds it", elasticsearch)
    figures("  beyond the floor", elasticsearch - floor)
    _course(measured, requests, kafka, elasticsearch)
    minutes = _minutes(measured)
    ages = [(read - start) / 1000 - 60 for starts in minutes.values() for start, read in starts]
    figures(f"a minute's end to its rows in Kafka ({len(minutes)} min)", np.array(ages or [np.inf]))
    print(f"load average: {measured.loads[0]:.1f} at first, at most {max(measured.loads):.1f}")
    print(f"the gateway was at most {max(second.behind_ms for second in measured.seconds):.0f} ms behind")
    _target("Kafka p95", _percentile(kafka, 95), KAFKA_TARGET_SECONDS, KAFKA_AIM_SECONDS)
    _target("Elasticsearch p95", _percentile(elasticsearch, 95), ELASTICSEARCH_TARGET_SECONDS)
    _target("minute, slowest row", max(ages, default=float("inf")), MINUTE_TARGET_SECONDS)
    _compare(measured, settings)


def _course(measured: Measured, requests: Requests, kafka: Floats, elasticsearch: Floats) -> None:
    """The p95s piece by piece: whether what is slow was slow all the time."""
    numbers = (requests.ended_ms - measured.start_ms) // (_PIECE_SECONDS * 1000)
    for name, values in (("Kafka", kafka), ("Elasticsearch", elasticsearch)):
        pieces = [_percentile(values[numbers == number], 95) for number in np.unique(numbers)]
        shown = " ".join(f"{seconds:.1f}" for seconds in pieces)
        print(f"{name} p95 of each {_PIECE_SECONDS} s: {shown}")


def _minutes(measured: Measured) -> dict[int, list[tuple[int, float]]]:
    """The whole minutes measured: by start, each task row's start and when it was read (epoch, ms)."""
    last = measured.seconds[-1].start_ms + 1000
    whole = range(measured.start_ms, last - 60_000 + 1, 60_000)
    read = measured.rows.minute_read_ms.items()
    return {minute: [(start, at) for (_, start), at in read if start == minute] for minute in whole}


def _percentile(values: Floats, percent: float) -> float:
    """By nearest rank, so that one that never came stays endless."""
    return float(np.percentile(values, percent, method="inverted_cdf"))


def figures(name: str, values: Floats) -> None:
    """Print a line of percentiles."""
    shown = " ".join(f"{_percentile(values, percent):7.2f}" for percent in (50, 95, 99, 100))
    print(f"{name:52} {shown}")


def _target(name: str, seconds: float, target: float, aim: float | None = None) -> None:
    verdict = f"{name}: {seconds:.2f} s, target {target} s: {'met' if seconds <= target else 'MISSED'}"
    print(verdict if aim is None else f"{verdict}; aim {aim} s: {'met' if seconds <= aim else 'not met'}")


def _compare(measured: Measured, settings: Settings) -> None:
    """Whether every request of the measured seconds is in a row."""
    sent = sum(second.requests for second in measured.seconds)
    windows = {
        (task, second.start_ms): len(ends)
        for second in measured.seconds
        for task, ends in second.ends_ms.items()
    }
    counted = {window: measured.rows.requests.get(window, 0) for window in windows}
    wrong = [window for window, requests in windows.items() if counted[window] != requests]
    verdict = "equal in every row" if not wrong else f"DIFFERENT in {len(wrong)} of {len(windows)} rows"
    print(
        f"requests of {len(measured.seconds)} s: {sent:,} sent, {sum(counted.values()):,} counted: {verdict}"
    )
    for task, start in sorted(wrong, key=lambda window: window[1])[:3]:
        figures = f"{windows[task, start]} sent, {counted[task, start]} counted"
        print(f"  {task} {from_epoch_ms(start):%H:%M:%S}: {figures}")
    missing = len(windows.keys() - measured.found_ms.keys())
    print(f"documents of these rows: {len(windows):,} expected, {missing:,} missing")
    kinds = ", ".join(f"{lines:,} {kind}" for kind, lines in newest(settings.kafka).items())
    print(f"the job reports of the whole run: {kinds}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=int, default=150, help=f"with {WARM_UP_SECONDS} s of warm-up")
    parser.add_argument("--rate", type=int, default=2000, help="requests per second")
    chosen = parser.parse_args()
    if chosen.seconds < WARM_UP_SECONDS + 60:
        parser.error(f"--seconds: at least {WARM_UP_SECONDS + 60}, for a whole minute after the warm-up")
    with running_job("elasticsearch") as running:
        running.stack.add(Indexer(running.command, running.settings.elasticsearch))
        running.stack.up([Indexer.name])
        start = from_epoch_ms(int(next_start(time.time())) * 1000)
        shape = Shape(lines_per_second=chosen.rate, disorder_ms=0, start=start)
        print(
            f"{chosen.rate:,} requests/s of {shape.tasks} tasks with {shape.replicas} replicas each, "
            f"{chosen.seconds} s from {start:%H:%M:%S} UTC",
            flush=True,
        )
        report(measure(running, shape, chosen.seconds), running.settings)


if __name__ == "__main__":
    main()
