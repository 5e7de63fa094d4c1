"""A pod's samples into windows: laws of counters, and cases of every field."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.prometheus_samples import sample as raw_sample
from tests.support.signal_rows import START_MS
from tidegate.jobs.logic.resources import samples as names
from tidegate.jobs.logic.resources.counter_rates import LOOKBACK_MS, Sample, increase, insert, jumps, within
from tidegate.jobs.logic.resources.raw_samples import BadSample
from tidegate.jobs.logic.resources.samples import ResourceSample, sample_of
from tidegate.jobs.logic.resources.series_identity import identity_of
from tidegate.jobs.logic.resources.task_resources import TaskWindows
from tidegate.jobs.logic.resources.windows import Pod, row_of, task_row
from tidegate.schemas.rows.resources import ResourceMetricsRow
from tidegate.schemas.timestamps import from_epoch_ms

counters = st.lists(
    st.tuples(st.integers(1, 400), st.floats(0, 1e9)), min_size=2, max_size=40
)  # (seconds since the one before, value)


def series(steps: list[tuple[int, float]]) -> list[Sample]:
    at_ms, found = START_MS, []
    for seconds, value in steps:
        at_ms += 1000 * seconds
        found.append((at_ms, value))
    return found


def whole(samples: list[Sample]) -> float:
    """What a counter grew in all, by the contract: resets count from zero, gaps of over five minutes don't count."""
    return sum(
        after[1] - before[1] if after[1] >= before[1] else after[1]
        for before, after in pairwise(samples)
        if after[0] - before[0] <= LOOKBACK_MS
    )


@given(counters)
def test_windows_add_up_to_the_whole_and_none_is_negative(steps: list[tuple[int, float]]) -> None:
    samples = series(steps)
    begin, end = samples[0][0] // 10_000 * 10_000, samples[-1][0] + 10_000
    windows = [increase(samples, start, start + 10_000) for start in range(begin, end, 10_000)]
    assert all(window.amount >= 0 for window in windows)
    assert sum(window.amount for window in windows) == pytest.approx(whole(samples), rel=1e-9, abs=1e-6)


@given(counters, st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(steps: list[tuple[int, float]], dice: random.Random) -> None:
    samples = series(steps)
    shuffled = [*samples, *samples[::2]]
    dice.shuffle(shuffled)
    found: list[Sample] = []
    for one in shuffled:
        insert(found, one)
    assert found == samples


@given(counters)
def test_a_minute_is_the_sum_of_its_windows(steps: list[tuple[int, float]]) -> None:
    pod = Pod()
    for at_ms, value in series(steps):
        pod.add(sample(names.CPU, at_ms, value))
    closed = list(pod.end())
    for minute in (one for one in closed if one.span == "1m"):
        parts = [
            one for one in closed if one.span == "10s" and minute.start_ms <= one.start_ms < minute.end_ms
        ]
        for key, rate in minute.use.rates.items():
            shares = [part.use.rates[key] for part in parts if key in part.use.rates]
            assert rate.amount == pytest.approx(sum(share.amount for share in shares))
            assert rate.covered_ms == pytest.approx(sum(share.covered_ms for share in shares))


def test_a_reset_counts_from_zero_and_a_first_sample_adds_nothing() -> None:
    samples = [(0, 100.0), (10_000, 110.0), (20_000, 4.0)]
    assert increase(samples, 0, 10_000).amount == 10
    assert increase(samples, 10_000, 20_000).amount == 4
    assert increase(samples[:1], 0, 10_000).per_second is None


def test_a_staleness_marker_ends_a_series_and_infinity_is_no_sample() -> None:
    samples: list[Sample] = []
    assert insert(samples, (0, 1.0))
    assert not insert(samples, (5000, math.inf))
    assert insert(samples, (10_000, math.nan))
    assert insert(samples, (20_000, 9.0))
    assert increase(samples, 0, 30_000).per_second is None
    assert within(samples, 0, 10_000) == [1.0]
    assert within(samples, 10_000, 20_000) == []


def test_a_gauge_is_what_was_known_last_for_five_minutes() -> None:
    samples = [(0, 7.0)]
    assert within(samples, 10_000, 20_000) == [7.0]
    assert within(samples, LOOKBACK_MS, LOOKBACK_MS + 10_000) == [7.0]
    assert within(samples, LOOKBACK_MS + 1, LOOKBACK_MS + 10_001) == []


def test_rare_events_stay_whole() -> None:
    samples = [(0, 3.0), (15_000, 4.0), (30_000, 4.0), (45_000, 1.0)]
    assert jumps(samples, 0, 10_000) is None
    assert jumps(samples, 10_000, 20_000) == 1
    assert jumps(samples, 30_000, 40_000) == 0
    assert jumps(samples, 40_000, 50_000) == 1


def sample(name: str, at_ms: int, value: float, part: str = "model") -> ResourceSample:
    return ResourceSample("vision", "chat-0", "", name, part, at_ms, value)


def closed_rows(*samples: ResourceSample) -> list[ResourceMetricsRow]:
    pod = Pod()
    for one in samples:
        pod.add(one)
    return [row_of(one, "vision", "chat", "chat-0") for one in pod.end()]


def scrape(at_ms: int, cpu: float, **more: float) -> list[ResourceSample]:
    """All of a container's series at one moment."""
    values = {
        names.CPU: cpu,
        names.THROTTLED: cpu / 4,
        names.MEMORY: 1e9,
        names.MEMORY_LIMIT: 4e9,
        names.CPU_QUOTA: 200_000,
        names.CPU_PERIOD: 100_000,
        names.RESTARTS: 1,
        **more,
    }
    found = [sample(name, at_ms, value) for name, value in values.items()]
    for interface in ("eth0", "eth1"):
        found.append(sample(names.RECEIVED, at_ms, 100 * cpu, interface))
    for gpu in ("0", "1"):
        found += [
            sample(names.GPU, at_ms, 40 if gpu == "0" else 80, gpu),
            sample(names.GPU_USED, at_ms, 1024, gpu),
            sample(names.GPU_FREE, at_ms, 3072, gpu),
            sample(names.GPU_POWER, at_ms, 100, gpu),
        ]
    return found


def test_every_field_of_a_replica() -> None:
    rows = closed_rows(
        *scrape(START_MS, 0.0), *scrape(START_MS + 10_000, 5.0), *scrape(START_MS + 20_000, 10.0)
    )
    row = rows[0]
    assert row.expected_id() == row.id
    assert (row.cpu_cores, row.cpu_limit_cores, row.cpu_of_limit_ratio) == pytest.approx((0.5, 2.0, 0.25))
    assert row.cpu_throttled_ratio == pytest.approx(0.125 / 0.625)
    assert (row.memory_working_set_bytes, row.memory_of_limit_ratio) == (1e9, 0.25)
    assert row.network_receive_bytes_per_second == pytest.approx(100)
    assert row.network_transmit_bytes_per_second is None
    assert (row.gpu_count, row.gpu_utilization_ratio) == (2, pytest.approx(0.6))
    assert row.gpu_memory_total_bytes == 8192 * 1024 * 1024
    assert row.gpu_memory_of_total_ratio == 0.25
    assert row.gpu_power_watts == 200
    assert rows[1].restarts == 0


@pytest.mark.parametrize("limit", [0, float(1 << 63)])
def test_no_limit_is_no_ratio(limit: float) -> None:
    row = closed_rows(*scrape(START_MS, 0.0, **{names.MEMORY_LIMIT: limit, names.CPU_QUOTA: -1}))[0]
    assert (row.memory_limit_bytes, row.memory_of_limit_ratio) == (None, None)
    assert (row.cpu_limit_cores, row.cpu_of_limit_ratio) == (None, None)


def test_a_window_is_closed_once_the_next_samples_are_there_and_later_ones_are_late() -> None:
    pod = Pod()
    for second in range(0, 46, 15):
        pod.add(sample(names.CPU, START_MS + 1000 * second, second / 10))
    closed = list(pod.close(pod.newest_ms - 20_000))
    assert [(one.span, one.start_ms - START_MS) for one in closed] == [("10s", 0), ("10s", 10_000)]
    assert all(one.use.rates[names.CPU, "model"].covered_ms == 10_000 for one in closed)
    assert not pod.add(sample(names.CPU, START_MS + 19_000, 1.9))
    assert pod.late == 1


def test_a_pod_that_was_silent_for_a_day_goes_on_without_a_thousand_empty_windows() -> None:
    pod = Pod()
    later = START_MS + 86_400_000
    for at_ms in (START_MS, START_MS + 15_000, later, later + 15_000):
        pod.add(sample(names.CPU, at_ms, 1.0 + at_ms / 1e9))
    closed = list(pod.end())
    assert 0 < len([one for one in closed if one.span == "10s"]) <= 8
    assert pod.closed_ms > later


def test_a_pod_of_which_nothing_finite_came_has_no_window() -> None:
    pod = Pod()
    assert not pod.add(sample(names.CPU, START_MS, math.inf))
    assert list(pod.close(START_MS + 60_000)) == []
    assert list(pod.end()) == []


def test_state_does_not_grow() -> None:
    pod = Pod()
    for second in range(0, 7200, 15):
        pod.add(sample(names.CPU, START_MS + 1000 * second, float(second)))
        list(pod.close(pod.newest_ms - 20_000))
    assert sum(map(len, pod.series.values())) <= 5


def replica_row(pod: str, **fields: Any) -> ResourceMetricsRow:
    use = closed_rows(*scrape(START_MS, 0.0), *scrape(START_MS + 10_000, 5.0))[0]
    return use.model_copy(update={"replica": pod, **fields})


def test_a_tasks_ratios_are_of_its_sums() -> None:
    row = task_row([replica_row("a"), replica_row("b", cpu_cores=1.5, cpu_limit_cores=None)], 3)
    assert row.expected_id() == row.id
    assert (row.replicas_seen, row.replicas_desired, row.cpu_cores) == (2, 3, 2.0)
    assert row.cpu_of_limit_ratio == pytest.approx(0.25), "only the one that has a limit"
    assert row.cpu_throttled_ratio == pytest.approx((0.125 + 0.375) / 2.5)
    assert row.gpu_count == 4


def test_a_tasks_window_is_said_when_all_pods_have_reported_and_again_for_a_late_one() -> None:
    windows = TaskWindows()
    assert windows.observe(replica_row("a")) is None, "nobody knows yet who there is"
    (first,) = windows.overdue()
    assert first.replicas_seen == 1
    late = windows.observe(replica_row("b"))
    assert late is not None
    assert (late.id, late.replicas_seen) == (first.id, 2)


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({"labels": None}, "labels"),
        ({"value": "x"}, "value"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"timestamp": "2026-11-24T10:00:00"}, "timestamp"),
        ({"labels": {"container": "model"}}, "without namespace and pod"),
    ],
)
def test_a_sample_that_is_none_is_refused(change: dict[str, Any], reported: str) -> None:
    good = cpu_sample("model")
    assert sample_of(good) is not None
    with pytest.raises(BadSample, match=reported):
        sample_of(good | change)


def test_what_a_pods_containers_say_again_is_left_out_and_dcgm_says_whose_gpu_it_is() -> None:
    assert sample_of(cpu_sample("")) is None
    assert sample_of(cpu_sample("POD")) is None
    gpu = json.loads(json.dumps(cpu_sample("exporter"))) | {"name": names.GPU}
    gpu["labels"] |= {"exported_pod": "chat-0", "exported_namespace": "vision", "gpu": "3"}
    found = sample_of(gpu)
    assert found is not None
    assert (found.namespace, found.pod, identity_of(found.part).subject) == ("vision", "chat-0", "3")


def cpu_sample(container: str) -> dict[str, Any]:
    return raw_sample(
        names.CPU, from_epoch_ms(START_MS), "0.5", namespace="gpu", pod="dcgm", container=container
    )
