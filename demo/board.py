"""Summarises the service-metrics rows for the demo's table. Pure: `now` is passed in."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tidegate.jobs.logic.latency import Latencies, bucket_middle_ms
from tidegate.schemas.rows.service_metrics import UNROUTED, ServiceMetricsRow
from tidegate.schemas.timestamps import to_epoch_ms

SHOWN_SECONDS = 10
"""A line of the table sums the newest ten seconds, so that figures can be read before they change."""

Group = tuple[str, str]
"""Department and task."""
_Identity = tuple[str, str | None, str | None]
"""Department, task, version."""


@dataclass(frozen=True)
class Counts:
    """Requests, and how they ended."""

    requests: int = 0
    errors_4xx: int = 0
    errors_5xx: int = 0
    aborted: int = 0
    rate_limited: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.requests + other.requests,
            self.errors_4xx + other.errors_4xx,
            self.errors_5xx + other.errors_5xx,
            self.aborted + other.aborted,
            self.rate_limited + other.rate_limited,
        )

    @staticmethod
    def of(row: ServiceMetricsRow) -> Counts:
        """The counts of one row."""
        return Counts(row.requests, row.errors_4xx, row.errors_5xx, row.aborted, row.rate_limited)


@dataclass(frozen=True)
class Line:
    """A department (no task), a task (no version) or a version, over the newest SHOWN_SECONDS of rows.

    newest_age_seconds: since its newest second ended.
    """

    department: str
    task: str | None
    version: str | None
    qps: float
    p50_ms: float | None
    p99_ms: float | None
    errors_percent: float
    limited_percent: float
    aborted: int
    replicas: int
    apdex: float | None
    newest_age_seconds: float


@dataclass(frozen=True)
class ReplicaLine:
    """One replica that stands out, next to its task."""

    department: str
    task: str
    replica: str
    p50_ms: float
    task_p50_ms: float
    errors_percent: float


@dataclass(frozen=True)
class StreamLine:
    """A task that streams tokens, over the newest SHOWN_SECONDS of rows. output_tokens_per_second: of all streams."""

    department: str
    task: str
    first_byte_p50_ms: float | None
    first_byte_p99_ms: float | None
    output_tokens_per_second: float


class Board:
    """Keeps the last seconds' rows, and sums since the start. A row that comes twice counts once."""

    def __init__(self) -> None:
        self._seconds: dict[int, dict[str, ServiceMetricsRow]] = {}
        self._counts: dict[Group, dict[int, Counts]] = defaultdict(dict)
        self._newest: dict[Group, int] = {}
        self._first_start: int | None = None
        self._ages_ms: list[tuple[int, float]] = []
        self._distinct: Counter[str] = Counter()
        self._ids: set[str] = set()

    def add(self, row: ServiceMetricsRow, now_ms: int) -> None:
        """Take in one row, read at `now_ms`."""
        again = row.id in self._ids
        if not again:
            self._ids.add(row.id)
            self._distinct[row.span] += 1
        if row.span != "1s":
            return
        start, end = to_epoch_ms(row.window_start), to_epoch_ms(row.window_end)
        self._first_start = start if self._first_start is None else min(start, self._first_start)
        self._seconds.setdefault(start, {})[row.id] = row
        oldest = self.newest_start_ms - 1000 * SHOWN_SECONDS
        for second in [second for second in self._seconds if second <= oldest]:
            del self._seconds[second]
        if row.level == "task" and row.task is not None:
            group = (row.department, row.task)
            self._counts[group][start] = Counts.of(row)
            self._newest[group] = max(end, self._newest.get(group, end))
            if not again:
                self._ages_ms.append((start, now_ms - end))

    @property
    def rows(self) -> Mapping[str, int]:
        """Distinct rows read, by span."""
        return self._distinct

    def ages_ms(self, before_ms: int | None = None) -> list[float]:
        """For each task row of a second, how long after the second's end it was read.

        Of all seconds, or of those that start before a moment.
        """
        return [age for start, age in self._ages_ms if before_ms is None or start < before_ms]

    @property
    def newest_start_ms(self) -> int:
        """The start of the newest second that a row has come for; 0 before the first."""
        return max(self._seconds, default=0)

    def seconds(self) -> Mapping[Group, Mapping[int, Counts]]:
        """The counts by department and task of each second, by its start (epoch, ms)."""
        return self._counts

    def counted(self, before_ms: int | None = None) -> dict[Group, Counts]:
        """The counts by department and task of all seconds, or of those that start before a moment."""
        sums = {}
        for group, seconds in self._counts.items():
            kept = (counts for start, counts in seconds.items() if before_ms is None or start < before_ms)
            sums[group] = sum(kept, Counts())
        return sums

    def lines(self, now_ms: int) -> list[Line]:
        """Each department, each of its observed tasks, each of its versions. Unrouted requests come last."""
        rows = self._by_identity("department", "task", "version")
        replicas: dict[_Identity, set[str | None]] = defaultdict(set)
        for row in self._rows("replica"):
            replicas[row.department, None, None].add(row.replica)
            replicas[row.department, row.task, None].add(row.replica)
            replicas[row.department, row.task, row.version].add(row.replica)
        known: set[_Identity] = {(department, task, None) for department, task in self._newest}
        known |= {(department, None, None) for department, _ in self._newest}
        # A department's or version's row may be read before any row of its task; it is shown once that is read.
        known |= {identity for identity in rows if self._ends(identity)}
        lines = []
        for identity in sorted(known, key=_reading_order):
            age = (now_ms - max(self._ends(identity))) / 1000
            lines.append(self._line(identity, rows.get(identity, []), len(replicas[identity]), age))
        return lines

    def standing_out(self, slower_than: float = 2.0, errors_percent: float = 5.0) -> list[ReplicaLine]:
        """Replicas whose median latency or error rate is far above that of their task."""
        tasks = self._by_identity("task")
        found = []
        rows_of: dict[tuple[str, str, str], list[ServiceMetricsRow]] = defaultdict(list)
        for row in self._rows("replica"):
            rows_of[row.department, row.task or "", row.replica or ""].append(row)
        for (department, task, replica), rows in sorted(rows_of.items()):
            own = percentile_ms(rows, 50)
            others = percentile_ms(tasks.get((department, task, None), []), 50)
            if own is None or others is None or sum(row.requests for row in rows) < 10:
                continue
            errors = _percent(sum(row.errors_5xx for row in rows), rows)
            if own >= slower_than * others or errors >= errors_percent:
                found.append(ReplicaLine(department, task, replica, own, others, errors))
        return found

    def streams(self) -> list[StreamLine]:
        """The tasks whose rows have output tokens."""
        tokens: Counter[Group] = Counter()
        first_bytes: dict[Group, Latencies] = defaultdict(Latencies)
        for row in self._rows("task"):
            if row.task is not None and row.output_tokens is not None:
                tokens[row.department, row.task] += row.output_tokens
                first_bytes[row.department, row.task].add_first_bytes(row.model_dump())
        return [
            StreamLine(
                *group,
                first_bytes[group].percentile_ms(50),
                first_bytes[group].percentile_ms(99),
                count / self._shown_seconds(),
            )
            for group, count in sorted(tokens.items())
        ]

    def _ends(self, identity: _Identity) -> list[int]:
        """When the newest second of each task of this department, or of this task, ended."""
        department, task, _ = identity
        return [
            end for group, end in self._newest.items() if group[0] == department and task in (None, group[1])
        ]

    def _rows(self, level: str) -> list[ServiceMetricsRow]:
        return [row for second in self._seconds.values() for row in second.values() if row.level == level]

    def _by_identity(self, *levels: str) -> dict[_Identity, list[ServiceMetricsRow]]:
        rows: dict[_Identity, list[ServiceMetricsRow]] = defaultdict(list)
        for level in levels:
            for row in self._rows(level):
                rows[row.department, row.task, row.version].append(row)
        return rows

    def _shown_seconds(self) -> float:
        first = self.newest_start_ms if self._first_start is None else self._first_start
        return min(SHOWN_SECONDS, (self.newest_start_ms - first) / 1000 + 1)

    def _line(self, identity: _Identity, rows: list[ServiceMetricsRow], replicas: int, age: float) -> Line:
        requests = sum(row.requests for row in rows)
        return Line(
            *identity,
            qps=requests / self._shown_seconds(),
            p50_ms=percentile_ms(rows, 50),
            p99_ms=percentile_ms(rows, 99),
            errors_percent=_percent(sum(row.errors_5xx for row in rows), rows),
            limited_percent=_percent(sum(row.rate_limited for row in rows), rows),
            aborted=sum(row.aborted for row in rows),
            replicas=replicas,
            apdex=_apdex(rows),
            newest_age_seconds=age,
        )


def _reading_order(identity: _Identity) -> tuple[bool, str, str, str]:
    department, task, version = identity
    return department == UNROUTED, department, task or "", version or ""


def percentile_ms(rows: Iterable[ServiceMetricsRow], percent: float) -> float | None:
    """The nearest rank over all requests of these rows, from their histograms; None when none was timed.

    Off by at most 1.1 %, and never outside the rows' own minimum and maximum.
    """
    rows = [row for row in rows if row.latency_count]
    merged: Counter[int] = Counter()
    zero = 0
    for row in rows:
        zero += row.histogram.zero
        merged.update({int(index): count for index, count in row.histogram.buckets.items()})
    total = zero + sum(merged.values())
    if not total:
        return None
    rank = max(1, math.ceil(percent / 100 * total))
    value, passed = 0.0, zero
    if rank > zero:
        for index in sorted(merged):
            passed += merged[index]
            value = bucket_middle_ms(index)
            if passed >= rank:
                break
    lowest = min(row.latency_min_ms for row in rows if row.latency_min_ms is not None)
    highest = max(row.latency_max_ms for row in rows if row.latency_max_ms is not None)
    return min(max(value, lowest), highest)


def nearest_rank(values: Iterable[float], percent: float) -> float | None:
    """The nearest-rank percentile of plain values; None when there are none."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(percent / 100 * len(ordered))) - 1] if ordered else None


def _percent(part: int, rows: list[ServiceMetricsRow]) -> float:
    requests = sum(row.requests for row in rows)
    return 100 * part / requests if requests else 0.0


def _apdex(rows: list[ServiceMetricsRow]) -> float | None:
    """Apdex of several rows: their average, weighted by what it was taken over."""
    weights = [row.requests - row.rate_limited - row.upgraded for row in rows]
    total = sum(weights)
    parts = sum(weight * (row.apdex or 0) for weight, row in zip(weights, rows, strict=True))
    return parts / total if total else None
