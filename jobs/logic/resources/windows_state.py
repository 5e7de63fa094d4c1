"""The stored state of a pod in the job resource-metrics: samples and open minute (windows.py), its task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidegate.jobs.logic.resources.counter_rates import Increase
from tidegate.jobs.logic.resources.windows import Gauge, Pod, Use
from tidegate.jobs.logic.state_format import StateFormat, StoredForm, finite_or_text


@dataclass
class ObservedPod:
    """A pod in memory.

    task: its task, as the watcher publishes it. timer: when it fires, and how new the samples were when it was set.
    """

    pod: Pod | None = None
    task: str | None = None
    timer: tuple[int, int] | None = None


@dataclass(frozen=True)
class StoredUse(StoredForm):
    """A window's use, a tuple for each series, which begins with the metric's name and its part.

    rates: amount, covered_ms. gauges: total, count, highest, last. events: number.
    """

    rates: tuple[tuple[str, str, float, float], ...]
    gauges: tuple[tuple[str, str, float, int, float, float], ...]
    events: tuple[tuple[str, str, float], ...]
    samples: int


@dataclass(frozen=True)
class StoredSeries(StoredForm):
    """A series' samples, moment and value. NaN is Prometheus' staleness marker.

    part: its text (series_identity.py); in states of version 1 the container, interface or GPU.
    """

    name: str
    part: str
    began_ms: int | None
    samples: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class StoredSamples(StoredForm):
    """A pod's samples and open minute."""

    series: tuple[StoredSeries, ...]
    newest_ms: int
    closed_ms: int
    minute: StoredUse
    minute_ms: int
    late: int


@dataclass(frozen=True)
class StoredPod(StoredForm):
    """Version 2. Field names are the stored form."""

    pod: StoredSamples | None
    task: str | None
    timer: tuple[int, int] | None


def _store(one: ObservedPod) -> StoredPod:
    return StoredPod(None if one.pod is None else _store_samples(one.pod), one.task, one.timer)


def _restore(stored: StoredPod) -> ObservedPod:
    pod = None if stored.pod is None else _restore_samples(stored.pod)
    return ObservedPod(pod, stored.task, stored.timer)


def _store_samples(pod: Pod) -> StoredSamples:
    return StoredSamples(
        series=tuple(
            StoredSeries(
                name,
                part,
                pod.began_ms.get((name, part)),
                tuple((at_ms, finite_or_text(value)) for at_ms, value in samples),
            )
            for (name, part), samples in pod.series.items()
        ),
        newest_ms=pod.newest_ms,
        closed_ms=pod.closed_ms,
        minute=_store_use(pod.minute),
        minute_ms=pod.minute_ms,
        late=pod.late,
    )


def _restore_samples(stored: StoredSamples) -> Pod:
    return Pod(
        series={(one.name, one.part): list(one.samples) for one in stored.series},
        began_ms={(one.name, one.part): one.began_ms for one in stored.series if one.began_ms is not None},
        newest_ms=stored.newest_ms,
        closed_ms=stored.closed_ms,
        minute=_restore_use(stored.minute),
        minute_ms=stored.minute_ms,
        late=stored.late,
    )


def _store_use(use: Use) -> StoredUse:
    safe = finite_or_text
    return StoredUse(
        rates=tuple(
            (*series, safe(rate.amount), safe(rate.covered_ms)) for series, rate in use.rates.items()
        ),
        gauges=tuple(
            (*series, safe(gauge.total), gauge.count, safe(gauge.highest), safe(gauge.last))
            for series, gauge in use.gauges.items()
        ),
        events=tuple((*series, safe(number)) for series, number in use.events.items()),
        samples=use.samples,
    )


def _restore_use(stored: StoredUse) -> Use:
    return Use(
        rates={(name, part): Increase(amount, covered) for name, part, amount, covered in stored.rates},
        gauges={
            (name, part): Gauge(total, count, highest, last)
            for name, part, total, count, highest, last in stored.gauges
        },
        events={(name, part): number for name, part, number in stored.events},
        samples=stored.samples,
    )


def _with_beginnings(plain: Any) -> Any:
    """Version 1 has no beginnings: the first sample that is left stands for it."""
    for series in (plain["pod"] or {}).get("series", ()):
        series["began_ms"] = series["samples"][0][0] if series["samples"] else None
    return plain


FORMAT = StateFormat("resource-metrics-pod", 2, StoredPod, _store, _restore, upgrades={1: _with_beginnings})
