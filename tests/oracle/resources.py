"""What a pod used, recomputed from the contract in exact fractions: increases per series, then their sums.

A series is its whole label set. Computes windows of 10 s from raw messages of `prometheus.metrics`, in any order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any

LENGTH_S = 10
CONNECTED_S = 300
"""Two samples further apart are not connected; a gauge's last value holds as long."""
CPU = "container_cpu_usage_seconds_total"
MEMORY = "container_memory_working_set_bytes"
GPU_USED = "DCGM_FI_DEV_FB_USED"
SCRAPERS = {"prometheus", "prometheus_replica", "__replica__", "job", "instance", "endpoint", "service"}
"""Labels that tell two scrapers of one target apart."""

Points = dict[int, Fraction]
"""A series' values by moment (epoch, s)."""


def windows(messages: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """cpu_cores, memory_bytes and gpu_used_mib by pod and window's start (epoch, s); None where unknown."""
    pods: dict[str, dict[tuple[str, str, Any], dict[Any, Points]]] = defaultdict(lambda: defaultdict(dict))
    for message in messages:
        labels = message["labels"]
        exported = "exported_pod" in labels
        pod = labels["exported_pod"] if exported else labels["pod"]
        name = message["name"]
        gpu = f"{labels.get('gpu')} {labels.get('GPU_I_ID')}"
        measured = gpu if name == GPU_USED else labels["container"]
        about_exporter = {"namespace", "pod", "container"} if exported else set[str]()
        own = tuple(sorted(pair for pair in labels.items() if pair[0] not in SCRAPERS | about_exporter))
        scraper = tuple(sorted(pair for pair in labels.items() if pair[0] in SCRAPERS))
        at_s = int(datetime.fromisoformat(message["timestamp"]).timestamp())
        copies = pods[pod][name, measured, own]
        if message["value"] != "NaN":
            copies.setdefault(scraper, {}).setdefault(at_s, Fraction(message["value"]))
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for pod, series in pods.items():
        moments = [at_s for copies in series.values() for points in copies.values() for at_s in points]
        for start_s in range(min(moments) // LENGTH_S * LENGTH_S, max(moments) + 1, LENGTH_S):
            found[pod, start_s] = {
                "cpu_cores": _cores(series, start_s),
                "memory_bytes": _gauge(series, MEMORY, start_s, max),
                "gpu_used_mib": _gauge(series, GPU_USED, start_s, lambda values: values[-1]),
            }
    return found


def _growth(points: Points, second: int) -> Fraction | None:
    """The increase within [second, second + 1); None where no two connected samples enclose it."""
    before = max((at_s for at_s in points if at_s <= second), default=None)
    after = min((at_s for at_s in points if at_s > second), default=None)
    if before is None or after is None or after - before > CONNECTED_S:
        return None
    step = points[after] - points[before]
    return (step if step >= 0 else points[after]) / (after - before)


def _seconds_known(points: Points, start_s: int) -> int:
    return sum(_growth(points, second) is not None for second in range(start_s, start_s + LENGTH_S))


def _cores(series: Mapping[tuple[str, str, Any], Mapping[Any, Points]], start_s: int) -> Fraction | None:
    containers: dict[str, list[Points]] = defaultdict(list)
    for (name, measured, _), copies in series.items():
        if name == CPU and copies:
            containers[measured].append(
                max(copies.values(), key=lambda points: _seconds_known(points, start_s))
            )
    total: Fraction | None = None
    for known in containers.values():
        grown, covered = Fraction(), 0
        for second in range(start_s, start_s + LENGTH_S):
            steps = [step for points in known if (step := _growth(points, second)) is not None]
            grown += sum(steps)
            covered += bool(steps)
        if covered:
            total = (total or Fraction()) + grown / covered
    return total


def _gauge(
    series: Mapping[tuple[str, str, Any], Mapping[Any, Points]], name: str, start_s: int, of: Any
) -> Fraction | None:
    """The sum over containers or GPUs; of each the series that began last."""
    newest: dict[str, tuple[int, list[Fraction]]] = {}
    for (one, measured, _), copies in series.items():
        points = {at_s: value for copy in copies.values() for at_s, value in copy.items()}
        began_s = min(points, default=start_s + LENGTH_S)
        if one != name or began_s >= start_s + LENGTH_S or began_s <= newest.get(measured, (0, []))[0]:
            continue
        inside = [points[at_s] for at_s in sorted(points) if start_s <= at_s < start_s + LENGTH_S]
        last_s = max((at_s for at_s in points if at_s < start_s), default=None)
        if not inside and last_s is not None and start_s - last_s <= CONNECTED_S:
            inside = [points[last_s]]
        newest[measured] = (began_s, inside)
    values = [of(inside) for _, inside in newest.values() if inside]
    return sum(values, Fraction()) if values else None
