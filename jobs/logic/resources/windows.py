"""Aggregates a pod's samples into windows of ten seconds and a minute, and the pods' windows into the task's.

Each pod has its own event time: a window closes when a sample of the same pod is newer than its end by a delay, so that
the next sample of each series is available for interpolation. So Prometheus servers with different clocks do no harm,
and no pod waits for another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from tidegate.jobs.logic.resources import samples as names
from tidegate.jobs.logic.resources.counter_rates import (
    LOOKBACK_MS,
    Increase,
    Sample,
    increase,
    insert,
    jumps,
    together,
    trimmed,
    within,
)
from tidegate.jobs.logic.resources.samples import KINDS, ResourceSample
from tidegate.jobs.logic.resources.series_identity import identity_of
from tidegate.schemas.rows.resources import ResourceMetricsRow
from tidegate.schemas.timestamps import from_epoch_ms

WINDOW_MS = 10_000
MINUTE_MS = 60_000
_NO_LIMIT_BYTES = 1 << 60
"""cAdvisor reports an absent limit as 0, or as the largest number of pages."""
_MIB = 1 << 20

Series = tuple[str, str]
"""A metric's name, and the text of a series (series_identity.py); in a `Use`: the container, interface or GPU."""


@dataclass(frozen=True)
class Gauge:
    """A gauge's values in a window. last: the newest."""

    total: float
    count: int
    highest: float
    last: float

    def __add__(self, later: Gauge) -> Gauge:
        return Gauge(
            self.total + later.total, self.count + later.count, max(self.highest, later.highest), later.last
        )

    @property
    def mean(self) -> float:
        """The mean over the samples."""
        return self.total / self.count


@dataclass
class Use:
    """The resource use of a pod in a window, by series. samples: their number in the window."""

    rates: dict[Series, Increase] = field(default_factory=dict)
    gauges: dict[Series, Gauge] = field(default_factory=dict)
    events: dict[Series, float] = field(default_factory=dict)
    samples: int = 0

    def add(self, later: Use) -> None:
        """Add the use in a later window."""
        for series, rate in later.rates.items():
            self.rates[series] = self.rates[series] + rate if series in self.rates else rate
        for series, gauge in later.gauges.items():
            self.gauges[series] = self.gauges[series] + gauge if series in self.gauges else gauge
        for series, events in later.events.items():
            self.events[series] = self.events.get(series, 0) + events
        self.samples += later.samples

    @property
    def known(self) -> bool:
        """Whether there is any value."""
        return bool(self.rates or self.gauges or self.events)


@dataclass(frozen=True)
class Closed:
    """A closed window. span: 10s or 1m."""

    span: str
    start_ms: int
    end_ms: int
    use: Use


@dataclass
class Pod:
    """The samples of a pod that open windows need. closed_ms: end of the newest closed window.

    began_ms: when each series began, which tells a restarted container from the one before.
    """

    series: dict[Series, list[Sample]] = field(default_factory=dict)
    began_ms: dict[Series, int] = field(default_factory=dict)
    newest_ms: int = 0
    closed_ms: int = 0
    minute: Use = field(default_factory=Use)
    minute_ms: int = 0
    late: int = 0

    def add(self, sample: ResourceSample) -> bool:
        """Add a sample. Returns False for a late one, whose window is closed, and for a duplicate."""
        if sample.at_ms < self.closed_ms:
            self.late += 1
            return False
        key = (sample.name, sample.part)
        samples = self.series.get(key, [])
        if not insert(samples, (sample.at_ms, sample.value)):
            return False
        self.series[key] = samples
        self.began_ms[key] = min(self.began_ms.get(key, sample.at_ms), sample.at_ms)
        self.newest_ms = max(self.newest_ms, sample.at_ms)
        return True

    def close(self, until_ms: int) -> Iterator[Closed]:
        """Close every window that ends by this moment, oldest first."""
        if self.closed_ms == 0:
            oldest_ms = min((samples[0][0] for samples in self.series.values()), default=until_ms)
            self.closed_ms = oldest_ms // WINDOW_MS * WINDOW_MS
        while self.closed_ms + WINDOW_MS <= until_ms:
            self._skip_silence()
            start_ms, end_ms = self.closed_ms, self.closed_ms + WINDOW_MS
            if end_ms > until_ms:
                return
            use = self._use(start_ms, end_ms)
            if start_ms // MINUTE_MS * MINUTE_MS != self.minute_ms:
                yield from self._close_minute()
                self.minute_ms = start_ms // MINUTE_MS * MINUTE_MS
            self.minute.add(use)
            self.closed_ms = end_ms
            self.series = {
                key: kept
                for key, samples in self.series.items()
                if (kept := trimmed(samples, end_ms)) and kept[-1][0] >= end_ms - LOOKBACK_MS
            }
            self.began_ms = {key: self.began_ms.get(key, self.series[key][0][0]) for key in self.series}
            if use.known:
                yield Closed("10s", start_ms, end_ms, use)
            if end_ms % MINUTE_MS == 0:
                yield from self._close_minute()

    def end(self) -> Iterator[Closed]:
        """Close all windows: no more samples come."""
        if not self.series:
            return
        yield from self.close(self.newest_ms // WINDOW_MS * WINDOW_MS + WINDOW_MS)
        yield from self._close_minute()

    def _close_minute(self) -> Iterator[Closed]:
        if self.minute.known:
            yield Closed("1m", self.minute_ms, self.minute_ms + MINUTE_MS, self.minute)
        self.minute = Use()

    def _skip_silence(self) -> None:
        """Skip windows without samples within the lookback of any series."""
        newest_ms = [
            max((at_ms for at_ms, _ in samples if at_ms < self.closed_ms), default=0)
            for samples in self.series.values()
        ]
        if newest_ms and max(newest_ms) > self.closed_ms - LOOKBACK_MS - WINDOW_MS:
            return
        coming = [
            at_ms for samples in self.series.values() for at_ms, _ in samples if at_ms >= self.closed_ms
        ]
        if coming:
            self.closed_ms = max(self.closed_ms, min(coming) // WINDOW_MS * WINDOW_MS)

    def _use(self, start_ms: int, end_ms: int) -> Use:
        use = Use()
        for (name, subject), known in self._subjects(start_ms, end_ms).items():
            chosen = [self.series[key] for key in known]
            use.samples += sum(start_ms <= at_ms < end_ms for samples in chosen for at_ms, _ in samples)
            kind = KINDS[name]
            if kind == "counter":
                grown = together(chosen, start_ms, end_ms)
                if grown.covered_ms > 0:
                    use.rates[name, subject] = grown
            elif kind == "events":
                events = [
                    number for samples in chosen if (number := jumps(samples, start_ms, end_ms)) is not None
                ]
                if events:
                    use.events[name, subject] = sum(events)
            elif values := self._newest(known, start_ms, end_ms):
                use.gauges[name, subject] = Gauge(sum(values), len(values), max(values), values[-1])
        return use

    def _subjects(self, start_ms: int, end_ms: int) -> dict[Series, list[Series]]:
        """The series of each container, interface or GPU: of the copies of one, the one that covers the window best."""
        copies: dict[tuple[str, str, str], list[Series]] = {}
        for key in self.series:
            identity = identity_of(key[1])
            copies.setdefault((key[0], identity.subject, identity.own), []).append(key)
        found: dict[Series, list[Series]] = {}
        for (name, subject, _), keys in copies.items():
            best = keys[0] if len(keys) == 1 else min(keys, key=lambda key: self._rank(key, start_ms, end_ms))
            found.setdefault((name, subject), []).append(best)
        return found

    def _rank(self, key: Series, start_ms: int, end_ms: int) -> tuple[float, int, str]:
        """Copies sort by the time they cover; gauges then by their samples.

        Counters don't: which copy has the most samples changes from window to window, and an increase that two copies
        saw in neighboring windows would be counted twice.
        """
        samples = self.series[key]
        number = len(within(samples, start_ms, end_ms)) if KINDS[key[0]] == "gauge" else 0
        return (-increase(samples, start_ms, end_ms).covered_ms, -number, key[1])

    def _newest(self, keys: list[Series], start_ms: int, end_ms: int) -> list[float]:
        """The values of the series that began last; none where several began at once and differ: nothing tells."""
        begun = [key for key in keys if self.began_ms.get(key, self.series[key][0][0]) < end_ms]
        if not begun:
            return []
        latest_ms = max(self.began_ms.get(key, self.series[key][0][0]) for key in begun)
        values = [
            within(self.series[key], start_ms, end_ms)
            for key in begun
            if self.began_ms.get(key, self.series[key][0][0]) == latest_ms
        ]
        known = [one for one in values if one]
        return known[0] if known and all(one == known[0] for one in known) else []


def row_of(closed: Closed, department: str, task: str, pod: str) -> ResourceMetricsRow:
    """The row of a pod's window."""
    use = closed.use
    cpu, throttled = _rate(use, names.CPU), _rate(use, names.THROTTLED)
    cpu_limit = _cpu_limit(use)
    memory = _gauges(use, names.MEMORY, "highest")
    memory_limit = _memory_limit(use)
    gpu_used, gpu_free = _gauges(use, names.GPU_USED, "last"), _gauges(use, names.GPU_FREE, "last")
    gpu_total = None if gpu_used is None or gpu_free is None else gpu_used + gpu_free
    gpus = _of(use.gauges, names.GPU)
    restarts = _of(use.events, names.RESTARTS)
    return ResourceMetricsRow(
        id=ResourceMetricsRow.id_of(closed.span, "replica", department, task, pod, closed.start_ms),
        span="10s" if closed.span == "10s" else "1m",
        level="replica",
        window_start=from_epoch_ms(closed.start_ms),
        window_end=from_epoch_ms(closed.end_ms),
        department=department,
        task=task,
        replica=pod,
        replicas_seen=1,
        replicas_desired=None,
        cpu_cores=cpu,
        cpu_limit_cores=cpu_limit,
        cpu_of_limit_ratio=_ratio(cpu, cpu_limit),
        cpu_throttled_ratio=None if cpu is None or throttled is None else _part(throttled, cpu),
        memory_working_set_bytes=memory,
        memory_limit_bytes=memory_limit,
        memory_of_limit_ratio=_ratio(memory, memory_limit),
        network_receive_bytes_per_second=_rate(use, names.RECEIVED),
        network_transmit_bytes_per_second=_rate(use, names.SENT),
        gpu_count=len(gpus) or None,
        gpu_utilization_ratio=min(1.0, fmean(gauge.mean for gauge in gpus.values()) / 100) if gpus else None,
        gpu_memory_used_bytes=None if gpu_used is None else gpu_used * _MIB,
        gpu_memory_total_bytes=None if gpu_total is None else gpu_total * _MIB,
        gpu_memory_of_total_ratio=_ratio(gpu_used, gpu_total),
        gpu_power_watts=_gauges(use, names.GPU_POWER, "mean"),
        restarts=round(sum(restarts.values())) if restarts else None,
        replicas_with_cpu=int(cpu is not None),
        replicas_with_memory=int(memory is not None),
        replicas_with_gpu=int(bool(gpus)),
        samples=use.samples,
    )


_SUMS = (
    "cpu_cores",
    "cpu_limit_cores",
    "memory_working_set_bytes",
    "memory_limit_bytes",
    "network_receive_bytes_per_second",
    "network_transmit_bytes_per_second",
    "gpu_count",
    "gpu_memory_used_bytes",
    "gpu_memory_total_bytes",
    "gpu_power_watts",
    "restarts",
)


def task_row(rows: Iterable[ResourceMetricsRow], desired: int | None) -> ResourceMetricsRow:
    """The row of a task from its replicas' rows of one window. desired: of the deployment."""
    rows = sorted(rows, key=lambda row: row.replica or "")
    first = rows[0]
    start_ms = first.id.rpartition("|")[2]
    sums: dict[str, Any] = {name: _sum(rows, name) for name in _SUMS}
    throttled = [row for row in rows if row.cpu_throttled_ratio is not None and row.cpu_cores is not None]
    refused = sum(_refused(row) for row in throttled)
    used = sum(row.cpu_cores or 0 for row in throttled)
    gpus = [row for row in rows if row.gpu_utilization_ratio is not None and row.gpu_count]
    busy = sum((row.gpu_utilization_ratio or 0) * (row.gpu_count or 0) for row in gpus)
    count = sum(row.gpu_count or 0 for row in gpus)
    return ResourceMetricsRow(
        id=ResourceMetricsRow.id_of(first.span, "task", first.department, first.task, None, int(start_ms)),
        span=first.span,
        level="task",
        window_start=first.window_start,
        window_end=first.window_end,
        department=first.department,
        task=first.task,
        replica=None,
        replicas_seen=len(rows),
        replicas_desired=desired,
        **sums,
        cpu_of_limit_ratio=_together(rows, "cpu_cores", "cpu_limit_cores"),
        cpu_throttled_ratio=_part(refused, used) if throttled else None,
        memory_of_limit_ratio=_together(rows, "memory_working_set_bytes", "memory_limit_bytes"),
        gpu_utilization_ratio=min(1.0, busy / count) if count else None,
        gpu_memory_of_total_ratio=_together(rows, "gpu_memory_used_bytes", "gpu_memory_total_bytes"),
        replicas_with_cpu=sum(row.replicas_with_cpu for row in rows),
        replicas_with_memory=sum(row.replicas_with_memory for row in rows),
        replicas_with_gpu=sum(row.replicas_with_gpu for row in rows),
        samples=sum(row.samples for row in rows),
    )


def _sum(rows: Iterable[ResourceMetricsRow], name: str) -> Any:
    values = [value for row in rows if (value := getattr(row, name)) is not None]
    return sum(values) if values else None


def _together(rows: Iterable[ResourceMetricsRow], part: str, whole: str) -> float | None:
    """The ratio over the replicas that have both values."""
    both = [
        (getattr(row, part), getattr(row, whole))
        for row in rows
        if getattr(row, part) is not None and getattr(row, whole) is not None
    ]
    return _ratio(sum(one for one, _ in both), sum(one for _, one in both)) if both else None


def _refused(row: ResourceMetricsRow) -> float:
    """The CPU seconds per second that the limit throttled, derived from the ratio."""
    ratio, used = row.cpu_throttled_ratio or 0.0, row.cpu_cores or 0.0
    return used * ratio / (1 - ratio) if ratio < 1 else 0.0


def _part(refused: float, used: float) -> float:
    return refused / (refused + used) if refused + used > 0 else 0.0


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _of(found: Mapping[Series, Any], name: str) -> dict[str, Any]:
    return {part: value for (one, part), value in found.items() if one == name}


def _rate(use: Use, name: str) -> float | None:
    rates = [rate for one in _of(use.rates, name).values() if (rate := one.per_second) is not None]
    return sum(rates) if rates else None


def _gauges(use: Use, name: str, which: str) -> float | None:
    values = [getattr(gauge, which) for gauge in _of(use.gauges, name).values()]
    return sum(values) if values else None


def _cpu_limit(use: Use) -> float | None:
    """The cores of all containers that use CPU; None if one of them has no limit."""
    quotas, periods = _of(use.gauges, names.CPU_QUOTA), _of(use.gauges, names.CPU_PERIOD)
    containers = _of(use.rates, names.CPU) or quotas
    limits = [
        quotas[part].last / periods[part].last
        for part in containers
        if part in quotas and part in periods and quotas[part].last > 0 and periods[part].last > 0
    ]
    return sum(limits) if limits and len(limits) == len(containers) else None


def _memory_limit(use: Use) -> float | None:
    limits = _of(use.gauges, names.MEMORY_LIMIT)
    containers = _of(use.gauges, names.MEMORY) or limits
    found = [
        limits[part].last for part in containers if part in limits and 0 < limits[part].last < _NO_LIMIT_BYTES
    ]
    return sum(found) if found and len(found) == len(containers) else None
