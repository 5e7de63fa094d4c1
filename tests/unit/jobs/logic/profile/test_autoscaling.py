"""How many replicas a task should have: timelines, laws, and policies that are refused."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.signal_rows import START_MS, profile
from tidegate.jobs.logic.profile.autoscaling import SignalMemory, decide
from tidegate.jobs.logic.profile.task_profile import TaskState
from tidegate.jobs.logic.profile.task_profile_state import FORMAT, ProfiledTask, Scaling
from tidegate.schemas.autoscaling_policy import AutoscalingPolicy, Direction, Schedule, Targets
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.rows.signals import AutoscalingSignals

AT_ONCE = Direction(stabilization_seconds=0, step_replicas=1000, step_percent=0)


def policy(**fields: Any) -> AutoscalingPolicy:
    """Ten requests/s a replica, one to a hundred, without windows or steps."""
    values: dict[str, Any] = {
        "max_replicas": 100,
        "targets": Targets(qps_per_replica=10),
        "scale_up": AT_ONCE,
        "scale_down": AT_ONCE,
    }
    return AutoscalingPolicy(**values | fields)


def task(ready: int | None, qps: float | None, **fields: Any) -> TaskProfile:
    return profile(replicas_ready=ready, replicas_starting=fields.pop("starting", 0), qps=qps, **fields)


def once(
    known: TaskProfile, rules: AutoscalingPolicy | None = None, memory: SignalMemory | None = None
) -> AutoscalingSignals:
    return decide(known, rules or policy(), memory or SignalMemory(), START_MS, 60_000)[0]


@pytest.mark.parametrize(
    ("ready", "qps", "desired"),
    [
        (4, 80.0, 8),
        (4, 81.0, 9),
        (4, 43.9, 4),  # within 10 %
        (4, 44.1, 5),
        (4, 36.1, 4),
        (4, 30.0, 3),
        (4, 0.0, 1),
        (0, 25.0, 3),
        (10, 5000.0, 100),
    ],
)
def test_as_many_as_the_offered_requests_need(ready: int, qps: float, desired: int) -> None:
    said = once(task(ready, qps))
    assert said.desired_replicas == desired
    assert said.reason


def test_the_signal_that_asks_for_most_wins() -> None:
    rules = policy(targets=Targets(qps_per_replica=10, cpu_of_limit_ratio=0.5, gpu_utilization_ratio=0.8))
    said = once(task(4, 40.0, cpu_of_limit_ratio=0.75, gpu_utilization_ratio=0.4), rules)
    assert [signal.desired_replicas for signal in said.signals] == [4, 6, 2]
    assert said.desired_replicas == 6
    assert "cpu_of_limit_ratio is 0.75, target 0.5: 6 replicas" in said.reason


def test_replicas_that_start_are_not_asked_for_again() -> None:
    assert once(task(4, 80.0)).desired_replicas == 8
    assert once(task(4, 80.0, starting=4)).desired_replicas == 8
    assert once(task(4, 40.0, starting=1, cpu_of_limit_ratio=0.62),
                policy(targets=Targets(cpu_of_limit_ratio=0.5))).desired_replicas == 5  # fmt: skip


@pytest.mark.parametrize("missing", [{"qps": None}, {"cpu_of_limit_ratio": None}])
def test_what_is_not_known_never_scales_down_and_may_scale_up(missing: dict[str, Any]) -> None:
    rules = policy(targets=Targets(qps_per_replica=10, cpu_of_limit_ratio=0.5))
    low = {"qps": 10.0, "cpu_of_limit_ratio": 0.1} | missing
    said = once(task(8, **low), rules)
    assert (said.desired_replicas, said.held) == (8, True)
    assert "is not known" in said.reason
    high = {"qps": 120.0, "cpu_of_limit_ratio": 0.9} | missing
    assert (once(task(8, **high), rules).desired_replicas or 0) > 8


def test_where_nobody_says_how_many_there_are_nothing_is_asked_for() -> None:
    said = once(task(None, 500.0))
    assert said.desired_replicas is None
    assert said.held


def timeline(steps: list[tuple[int, TaskProfile]], rules: AutoscalingPolicy) -> list[tuple[int, int | None]]:
    """What is asked for at each second, each time from the stored state."""
    found, one = [], ProfiledTask(TaskState("vision", "chat"), Scaling(SignalMemory(), 0))
    for second, known in steps:
        assert one.scaling is not None
        said, memory = decide(known, rules, one.scaling.memory, START_MS + 1000 * second, 60_000)
        one = FORMAT.decode(FORMAT.encode(ProfiledTask(one.known, Scaling(memory, 0))))
        found.append((second, said.desired_replicas))
    return found


def test_downwards_the_highest_of_five_minutes_holds() -> None:
    rules = policy(scale_down=Direction(stabilization_seconds=300, step_replicas=100, step_percent=100))
    found = dict(timeline([(at, task(8, 80.0 if at < 60 else 20.0)) for at in range(0, 421, 15)], rules))
    assert found[345] == 8, "at 45 s eight were asked for"
    assert found[360] == 2


def test_upwards_the_least_of_the_window_holds() -> None:
    rules = policy(scale_up=Direction(stabilization_seconds=60, step_replicas=100, step_percent=100))
    blip = dict(timeline([(at, task(4, 200.0 if at == 30 else 40.0)) for at in range(0, 121, 15)], rules))
    assert set(blip.values()) == {4}
    lasting = dict(timeline([(at, task(4, 200.0 if at >= 30 else 40.0)) for at in range(0, 121, 15)], rules))
    assert lasting[75] == 4
    assert lasting[105] == 20


def test_a_period_allows_one_step() -> None:
    rules = policy(
        scale_up=Direction(stabilization_seconds=0, step_replicas=2, step_percent=50, period_seconds=60)
    )
    found = dict(
        timeline(
            [(0, task(4, 400.0)), (15, task(6, 400.0)), (75, task(6, 400.0)), (90, task(9, 400.0))], rules
        )
    )
    assert found == {0: 6, 15: 6, 75: 9, 90: 9}


def test_sudden_load_is_followed_at_once_and_nothing_falls_for_a_minute() -> None:
    calm, flash = task(4, 40.0, qps_recent=40.0), task(4, 55.0, qps_recent=200.0)
    after = task(20, 30.0, qps_recent=10.0)
    found = dict(timeline([(0, calm), (6, flash), (30, after), (65, after), (67, after)], policy()))
    assert found == {0: 4, 6: 20, 30: 20, 65: 20, 67: 3}


@pytest.mark.parametrize(
    ("moment", "floor"),
    [
        ("2026-11-27T07:59:59+08:00", 1),  # a Friday
        ("2026-11-27T08:00:01+08:00", 10),
        ("2026-11-27T19:59:59+08:00", 10),
        ("2026-11-27T20:00:01+08:00", 1),
        ("2026-11-28T12:00:00+08:00", 1),
    ],
)
def test_a_schedules_floor_holds_in_its_zones_hours(moment: str, floor: int) -> None:
    hours = Schedule(
        name="working hours",
        begin="0 8 * * mon-fri",
        end="0 20 * * mon-fri",
        zone="Asia/Shanghai",
        min_replicas=10,
    )
    now_ms = round(datetime.fromisoformat(moment).timestamp() * 1000)
    said, _ = decide(task(1, 1.0), policy(schedules=[hours]), SignalMemory(), now_ms, 60_000)
    assert said.desired_replicas == floor
    if floor > 1:
        assert "working hours" in said.reason


def test_the_revision_grows_when_what_is_asked_for_changes() -> None:
    memory, revisions = SignalMemory(), []
    for qps in (40.0, 40.0, 80.0, 80.0, 40.0):
        said, memory = decide(task(4, qps), policy(), memory, START_MS + 1000 * len(revisions), 60_000)
        revisions.append(said.revision)
    assert revisions == [1, 1, 2, 2, 3]


loads = st.none() | st.floats(0, 5000)


@given(st.lists(st.tuples(st.integers(1, 60), st.none() | st.integers(0, 60), loads, loads), max_size=40))
def test_never_outside_of_its_range_and_never_down_on_what_is_not_known(
    steps: list[tuple[int, int | None, float | None, float | None]],
) -> None:
    rules = AutoscalingPolicy(min_replicas=2, max_replicas=50, targets=Targets(qps_per_replica=10))
    memory, now_ms = SignalMemory(), START_MS
    for seconds, ready, qps, recent in steps:
        now_ms += 1000 * seconds
        said, memory = decide(task(ready, qps, qps_recent=recent), rules, memory, now_ms, 60_000)
        if ready is None:
            assert said.desired_replicas is None
            continue
        assert said.desired_replicas is not None
        assert 2 <= said.desired_replicas <= 50
        if qps is None and ready <= 50:
            assert said.desired_replicas >= ready


@given(st.integers(0, 100), st.floats(0, 2000), st.floats(0, 2000))
def test_more_requests_never_ask_for_fewer_replicas(ready: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    fewer, more = once(task(ready, low)).desired_replicas, once(task(ready, high)).desired_replicas
    # Within the tolerance it stays as it is, which may be more than what a little more load asks for.
    within = abs(low / 10 / max(1, ready) - 1) <= 0.1
    assert (fewer or 0) <= (more or 0) or within


@pytest.mark.parametrize(
    ("wrong", "reported"),
    [
        ({"max_replicas": 0}, "max_replicas"),
        ({"max_replicas": 2, "min_replicas": 3}, "max_replicas: 2 is below min_replicas"),
        ({"targets": {}}, "one of qps_per_replica"),
        ({"targets": {"qps_per_replica": 0}}, "qps_per_replica"),
        ({"targets": {"cpu_of_limit_ratio": 1.5}}, "cpu_of_limit_ratio"),
        ({"schedules": [{"name": "x", "begin": "8", "end": "0 20 * * *", "min_replicas": 1}]}, "cron"),
        (
            {"schedules": [{"name": "x", "begin": "0 8 * * *", "end": "0 20 * * *", "min_replicas": 99}]},
            "more than max",
        ),
    ],
)
def test_a_policy_that_can_not_be_meant_is_refused(wrong: dict[str, Any], reported: str) -> None:
    good: dict[str, Any] = {"max_replicas": 10, "targets": {"qps_per_replica": 5}}
    assert AutoscalingPolicy.model_validate(good)
    with pytest.raises(ValidationError, match=reported):
        AutoscalingPolicy.model_validate(good | wrong)
