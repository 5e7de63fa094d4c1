"""What is known of a task: the profile's parts, and as a timeline."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.limit_rows import replicas_row
from tests.support.signal_rows import START_MS
from tidegate.jobs.logic.latency import Latencies
from tidegate.jobs.logic.profile.slowest_replica import slowest
from tidegate.jobs.logic.profile.sustained_capacity import MINUTE_MS, Learned, Minute, Promise, learn
from tidegate.jobs.logic.profile.task_profile import DAY_MS, TaskState
from tidegate.jobs.logic.profile.task_profile_state import FORMAT, ProfiledTask
from tidegate.jobs.logic.profile.task_traffic import SecondsObserved, Traffic
from tidegate.schemas.rows.resources import ResourceMetricsRow, TaskProfile
from tidegate.schemas.settings.signals import ProfileSettings
from tidegate.schemas.timestamps import from_epoch_ms, to_text

SETTINGS = ProfileSettings()
PROMISE = Promise(100.0, 0.01)


def row(start_ms: int, latencies: list[float], **fields: Any) -> dict[str, Any]:
    buckets: dict[str, int] = {}
    for latency in latencies:
        index = str(math.ceil(32 * math.log2(latency)) - 1)
        buckets[index] = buckets.get(index, 0) + 1
    values: dict[str, Any] = {
        "level": "task",
        "version": None,
        "replica": None,
        "window_end": to_text(from_epoch_ms(start_ms + 1000)),
        "requests": len(latencies),
        "rate_limited": 0,
        "errors_5xx": 0,
        "aborted": 0,
        "latency_count": len(latencies),
        "latency_min_ms": min(latencies, default=None),
        "latency_max_ms": max(latencies, default=None),
        "histogram": {"scale": 5, "zero": 0, "buckets": buckets},
    }
    return values | fields


def minute(index: int, qps: float = 50.0, p99_ms: float = 80.0, **fields: Any) -> Minute:
    values: dict[str, Any] = {"replicas": 2, "latency_count": 3000, "error_rate": 0.0}
    return Minute(START_MS + index * MINUTE_MS, round(qps * 60 * 2), p99_ms=p99_ms, **values | fields)


def learned(*minutes: Minute, promise: Promise | None = PROMISE) -> Learned:
    known = Learned()
    for one in minutes:
        known = learn(known, one, promise, 3)
    return known


def profile(known: TaskState, second: int, observed: int | None = None) -> TaskProfile:
    """At a second of both clocks; observed: when the newest second of any task came."""
    now_ms = START_MS + 1000 * second
    at_ms = now_ms if observed is None else START_MS + 1000 * observed
    seconds = SecondsObserved(settle_ms=0)
    seconds.observe(at_ms, at_ms)
    return known.profile(now_ms, seconds, SETTINGS)


@given(st.lists(st.lists(st.floats(0.1, 60_000), min_size=1, max_size=40), min_size=1, max_size=8))
def test_merged_percentiles_are_the_nearest_rank_of_all_values(parts: list[list[float]]) -> None:
    merged = Latencies()
    for part in parts:
        merged.add_row(row(START_MS, part))
    values = sorted(value for part in parts for value in part)
    for percent in (50, 90, 99):
        exact = values[max(1, math.ceil(percent / 100 * len(values))) - 1]
        found = merged.percentile_ms(percent)
        assert found == pytest.approx(exact, rel=0.0110)
        assert values[0] <= (found or 0) <= values[-1]


def test_no_latency_has_no_percentile() -> None:
    merged = Latencies()
    merged.add_row(row(START_MS, []))
    assert merged.percentile_ms(99) is None


def test_a_load_is_learned_once_it_was_held_for_all_minutes() -> None:
    assert learned(minute(0), minute(1)).qps_per_replica is None
    known = learned(minute(0, 50), minute(1, 40), minute(2, 60))
    assert known.qps_per_replica == pytest.approx(40)
    assert known.held_until_ms == START_MS + 3 * MINUTE_MS


@pytest.mark.parametrize(
    "broken",
    [
        {"p99_ms": 101.0},
        {"p99_ms": None},
        {"error_rate": 0.02},
        {"latency_count": 99},
        {"replicas": 0},
    ],
)
def test_a_minute_that_broke_the_promise_ends_the_run(broken: dict[str, Any]) -> None:
    known = learned(minute(0), minute(1), minute(2, **broken), minute(3), minute(4))
    assert known.qps_per_replica is None
    assert learn(known, minute(5), PROMISE, 3).qps_per_replica == pytest.approx(50)


def test_a_minute_that_is_missing_ends_the_run_and_one_that_comes_twice_does_not() -> None:
    assert learned(minute(0), minute(1), minute(3)).qps_per_replica is None
    assert learned(minute(0), minute(1), minute(1), minute(0), minute(2)).qps_per_replica is not None


def test_without_a_promise_nothing_is_learned_and_another_one_begins_anew() -> None:
    assert learned(minute(0), minute(1), minute(2), promise=None) == Learned()
    known = learned(minute(0), minute(1), minute(2))
    assert learn(known, minute(3), Promise(200.0), 3).qps_per_replica is None


@given(st.lists(st.floats(1, 500), min_size=3, max_size=30))
def test_what_was_learned_never_falls_and_was_really_held(loads: list[float]) -> None:
    known, before = Learned(), 0.0
    for index, qps in enumerate(loads):
        known = learn(known, minute(index, qps), PROMISE, 3)
        assert (known.qps_per_replica or 0) >= before
        before = known.qps_per_replica or 0
    runs = [min(minute(0, qps).qps_per_replica for qps in loads[at : at + 3]) for at in range(len(loads) - 2)]
    assert known.qps_per_replica == pytest.approx(max(runs))


def test_a_replica_five_times_as_slow_is_an_outlier() -> None:
    found = slowest({"a": 100.0, "b": 104.0, "c": 97.0, "d": 500.0})
    assert found is not None
    assert (found.replica, found.outlier) == ("d", True)
    values = [100.0, 104.0, 97.0, 500.0]
    middle = statistics.median(values)
    spread = statistics.median(abs(value - middle) for value in values)
    assert found.deviations == pytest.approx(0.6745 * (500 - middle) / max(spread, 0.05 * middle))


def test_equally_slow_replicas_have_no_outlier_and_two_replicas_no_verdict() -> None:
    found = slowest({"a": 100.0, "b": 100.0, "c": 100.0, "d": 103.0})
    assert found is not None
    assert not found.outlier
    assert slowest({"a": 1.0, "b": 1000.0}) is None


def test_traffic_is_that_of_the_newest_minute_whatever_the_order() -> None:
    forwards, backwards = TaskState("vision", "chat"), TaskState("vision", "chat")
    rows = [row(START_MS + 1000 * second, [10.0] * (second % 7)) for second in range(100)]
    for one in rows:
        forwards.observe_second(one, START_MS, SETTINGS)
    for one in reversed(rows):
        backwards.observe_second(one, START_MS, SETTINGS)
    expected = sum(second % 7 for second in range(40, 100))
    assert profile(forwards, 100).requests == profile(backwards, 100).requests == expected
    assert profile(forwards, 100).qps == pytest.approx(expected / 60)


def test_a_quiet_task_has_no_traffic_and_a_silent_pipeline_has_none_that_is_known() -> None:
    known = TaskState("vision", "chat")
    known.observe_second(row(START_MS, [10.0] * 60), START_MS + 1000, SETTINGS)
    assert profile(known, 1).qps == 60.0 / 60 * 60 / profile(known, 1).traffic_window_seconds
    quiet = profile(known, 100)
    assert (quiet.requests, quiet.qps, quiet.latency_p99_ms, quiet.error_rate) == (0, 0.0, None, None)
    silent = profile(known, 117, observed=101)
    assert silent.qps is None
    assert "traffic" in silent.stale_inputs


def test_replicas_that_were_not_reported_of_for_long_are_not_known() -> None:
    known = TaskState("vision", "chat")
    # The watcher's clock is five minutes behind, and harms nothing.
    assert known.observe_replicas(replicas_row(START_MS - 300_000, 3, task="chat"), START_MS)
    assert not known.observe_replicas(replicas_row(START_MS - 270_000, 3, task="chat"), START_MS + 30_000)
    assert profile(known, 119).replicas_ready == 3
    late = profile(known, 121)
    assert late.replicas_ready is None
    assert late.freshness["replicas"].stale
    assert late.freshness["replicas"].age_ms == 91_000


def test_cpu_of_a_request_is_of_the_same_ten_seconds() -> None:
    known = TaskState("vision", "chat")
    for second in range(60):
        requests = 40 if 10 <= second < 20 else 5
        known.observe_second(
            row(START_MS + 1000 * second, [10.0] * requests, rate_limited=0), START_MS, SETTINGS
        )
    window = ResourceMetricsRow(
        **dict.fromkeys(ResourceMetricsRow.model_fields)
        | {
            "id": "x", "span": "10s", "level": "task", "department": "vision", "task": "chat",
            "window_start": from_epoch_ms(START_MS + 10_000), "window_end": from_epoch_ms(START_MS + 20_000),
            "replicas_seen": 2, "replicas_with_cpu": 2, "replicas_with_memory": 2, "replicas_with_gpu": 0,
            "samples": 4, "cpu_cores": 2.0,
        }
    )  # fmt: skip
    known.observe_resources(window, START_MS + 45_000)
    assert profile(known, 60).cpu_seconds_per_request == pytest.approx(2.0 * 10 / 400)


def test_a_task_is_gone_after_a_day_of_silence() -> None:
    known = TaskState("vision", "chat")
    known.observe_replicas(replicas_row(START_MS, 3, task="chat"), START_MS)
    assert not known.gone(START_MS + DAY_MS)
    assert known.gone(START_MS + DAY_MS + 1)


def test_state_does_not_grow_with_time_or_versions() -> None:
    known = TaskState("vision", "chat")
    for second in range(2000):
        start_ms = START_MS + 1000 * second
        known.observe_second(row(start_ms, [10.0]), start_ms, SETTINGS)
        version = row(start_ms, [10.0], level="version", version=f"v{second // 100}")
        known.observe_second(version, start_ms, SETTINGS)
    assert len(known.traffic.slots) + len(known.traffic.singles) <= 180 // 5 + 1 + 5
    assert len(known.seconds) <= 17
    assert len(known.versions) <= 2


def after_a_restart(known: TaskState) -> TaskState:
    return FORMAT.decode(FORMAT.encode(ProfiledTask(known))).known


@given(st.integers(0, 130), st.integers(1, 120))
def test_after_a_restart_the_traffic_is_that_of_the_seconds_heard_since(before: int, after: int) -> None:
    known, observed = TaskState("vision", "chat"), SecondsObserved(settle_ms=0)
    for second in range(before):
        known.observe_second(row(START_MS + 1000 * second, [10.0] * (second % 7)), START_MS, SETTINGS)
    known = after_a_restart(known)
    end = before + after
    for second in range(before, end):
        one = row(START_MS + 1000 * second, [10.0] * (second % 7))
        observed.observe(known.observe_second(one, START_MS, SETTINGS), START_MS + 1000 * end)
    said = known.profile(START_MS + 1000 * end, observed, SETTINGS)
    # Of the first second of all, another task's row may have come before the restart; slots have five seconds.
    first = max(-(-(before + 1) // 5) * 5, -(-(end - 60) // 5) * 5)
    if end - first < 15:
        assert said.requests is None
        assert "traffic" in said.stale_inputs
        return
    assert said.traffic_window_seconds == end - first
    assert said.requests == sum(second % 7 for second in range(first, end))
    assert said.qps == pytest.approx((said.requests or 0) / (end - first))


def test_what_a_restart_keeps_is_all_but_the_traffic() -> None:
    known = TaskState("vision", "chat")
    known.observe_second(row(START_MS, [10.0]), START_MS, SETTINGS)
    known.observe_replicas(replicas_row(START_MS, 3, task="chat"), START_MS)
    kept = after_a_restart(known)
    assert (kept.traffic.empty, kept.seconds, kept.versions) == (True, {}, {})
    assert kept.replicas == known.replicas
    assert not kept.observe_replicas(replicas_row(START_MS + 1, 3, task="chat"), START_MS)
    assert not known.traffic.empty, "the one in memory is left alone"


@given(st.lists(st.tuples(st.integers(0, 119), st.integers(0, 9)), max_size=60), st.randoms())
def test_a_second_counts_once_in_any_order_however_often_its_row_comes(
    seconds: list[tuple[int, int]], dice: random.Random
) -> None:
    once = dict(seconds)
    rows = [(start, row(START_MS + 1000 * start, [10.0] * count)) for start, count in once.items()] * 2
    dice.shuffle(rows)
    traffic, newest = Traffic(), 0
    for start, one in rows:
        traffic.add_row(START_MS + 1000 * start, one)
        newest = max(newest, start + 1)
        traffic.forget(START_MS + 1000 * newest, 300_000)
    for first in range(0, 120, 5):
        # A window ends at a second that is not yet part of a slot.
        end = max(newest - 3, first)
        wanted = sum(count for start, count in once.items() if first <= start < end)
        assert traffic.between(START_MS + 1000 * first, START_MS + 1000 * end).requests == wanted


def test_a_second_is_whole_a_second_after_its_first_row_or_when_much_later_ones_have_come() -> None:
    observed = SecondsObserved()
    assert observed.whole_ms(START_MS) is None
    observed.observe(1000, START_MS)
    assert observed.whole_ms(START_MS + 999) is None
    assert observed.whole_ms(START_MS + 1000) == 1000
    observed.observe(2000, START_MS + 1000)
    observed.observe(2000, START_MS + 1900)
    assert observed.whole_ms(START_MS + 1999) == 1000
    assert observed.whole_ms(START_MS + 2000) == 2000
    for second in range(3, 60):
        observed.observe(1000 * second, START_MS + 2001)
    assert observed.whole_ms(START_MS + 2002) == 56_000
