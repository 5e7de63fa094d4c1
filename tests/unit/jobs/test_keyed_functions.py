"""The five keyed functions on the harness: restarts, rescaling, what is written, and what is left at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction

from tests.support.keyed_cases import (
    Step,
    alert_steps,
    evaluate,
    pod_samples,
    pods,
    profile,
    profile_steps,
    replica_counts,
    settle,
    task_windows,
    tasks,
)
from tests.support.keyed_harness import FIRST_MS, KeyedHarness
from tests.support.keyed_rows import catalog_row, profile_input, rows_of, second_row
from tests.support.limit_rows import replicas_row
from tidegate.jobs.logic.state_format import StateUnreadable
from tidegate.schemas.timestamps import from_epoch_ms, to_epoch_ms, to_text


def interrupted(
    function: Callable[[], KeyedProcessFunction],
    steps: Sequence[Step],
    *,
    restart_before: int | None = None,
    instances: Callable[[int], int] = lambda _: 1,
) -> KeyedHarness:
    """All steps, with a restart before one of them; by number of the step so many instances."""
    harness = KeyedHarness(function(), instances=instances(0))
    for number, (wait, bundle) in enumerate(steps):
        harness.advance(wait)
        if number == restart_before or instances(number) != harness.instances:
            harness.restart(instances(number))
        harness.process(*bundle)
    harness.advance(30_000)
    return harness


def outputs(harness: KeyedHarness) -> dict[str, list[list[Any]]]:
    """All rows by key: Flink keeps the order within a key only."""
    found: dict[str, list[list[Any]]] = {}
    for stream, rows in {"main": harness.main, **harness.side}.items():
        for row in rows:
            found.setdefault(f"{stream} {row[0]}", []).append(list(row))
    return found


EXACT = [(settle, replica_counts), (pods, pod_samples), (tasks, task_windows)]


@pytest.mark.parametrize(("function", "given"), EXACT)
def test_a_restart_at_any_point_changes_no_row(
    function: Callable[[], KeyedProcessFunction], given: Callable[[], list[Step]]
) -> None:
    steps = given()
    whole = outputs(interrupted(function, steps))
    assert sum(map(len, whole.values())) > 10
    for point in range(len(steps)):
        assert outputs(interrupted(function, steps, restart_before=point)) == whole, point


@pytest.mark.parametrize(("function", "given"), EXACT)
def test_rescaling_to_two_instances_and_back_changes_no_row(
    function: Callable[[], KeyedProcessFunction], given: Callable[[], list[Step]]
) -> None:
    steps = given()
    third = len(steps) // 3
    rescaled = interrupted(function, steps, instances=lambda number: 2 if third <= number < 2 * third else 1)
    assert outputs(rescaled) == outputs(interrupted(function, steps))


@pytest.mark.parametrize(("function", "given"), EXACT)
def test_a_key_is_stored_once_a_bundle(
    function: Callable[[], KeyedProcessFunction], given: Callable[[], list[Step]]
) -> None:
    harness = KeyedHarness(function())
    for _, bundle in given():
        before = harness.writes
        harness.process(*bundle)
        assert harness.writes - before <= len({value[0] for value in bundle})


@pytest.mark.parametrize("bounded", [True, False])
def test_settle_without_anything_pending_has_no_timer(bounded: bool) -> None:
    harness = KeyedHarness(settle(bounded=bounded))
    harness.process(("vision/chat", replicas_row(FIRST_MS, 4).model_dump_json()))
    assert harness.timers("vision/chat") == []
    harness.process(("vision/chat", replicas_row(FIRST_MS + 1000, 3).model_dump_json()))
    assert len(harness.timers("vision/chat")) == 1
    found = harness.end() if bounded else harness.advance(5000)
    assert [json.loads(row[1])["replicas_after"] for row in found] == [3]
    assert harness.timers("vision/chat") == []


def test_a_timer_that_is_over_when_the_job_is_restored_fires_then() -> None:
    harness = KeyedHarness(settle())
    harness.process(("vision/chat", replicas_row(FIRST_MS, 4).model_dump_json()))
    harness.process(("vision/chat", replicas_row(FIRST_MS + 1000, 3).model_dump_json()))
    saved = harness.snapshot()
    later = KeyedHarness(settle(), restored=saved, now_ms=FIRST_MS + 3_600_000)
    (row,) = later.advance(1)
    assert json.loads(row[1])["settled_at"] == to_text(from_epoch_ms(FIRST_MS + 3000)), "by the source's time"


def test_a_pod_that_is_gone_leaves_nothing() -> None:
    harness = interrupted(pods, pod_samples())
    assert not harness.empty
    harness.advance(600_000)
    assert harness.empty
    spans = [row[1] for row in harness.main]
    assert {"10s", "1m"} == set(spans)


def test_a_pod_without_samples_leaves_nothing() -> None:
    harness = KeyedHarness(pods())
    harness.process(("vision/chat-0", "@task", "vision/chat", 0, 0.0, 0))
    assert not harness.empty
    harness.advance(600_000)
    assert harness.empty
    assert harness.main == []


def test_a_bounded_run_closes_a_pods_windows_at_the_end_and_leaves_nothing() -> None:
    harness = KeyedHarness(pods(bounded=True))
    for _, bundle in pod_samples():
        harness.process(*bundle)
    assert harness.main == []
    assert len(harness.end()) > 10
    assert harness.empty


# The profile: all but the traffic outlives a restart.


def profiles(harness: KeyedHarness) -> list[dict[str, Any]]:
    return [json.loads(row[1]) for row in harness.main if row[1] is not None]


_PER_REQUEST = "cpu_seconds_per_request"
_LASTING = ("owner", "replicas_ready", "capacity_qps_per_replica", "slo_p99_ms", "sustained_qps_per_replica")


def test_a_profile_after_a_restart_counts_its_traffic_anew_and_keeps_all_else() -> None:
    steps = profile_steps()
    whole = profiles(interrupted(profile, steps))
    for point in range(5, len(steps), 7):
        harness = interrupted(profile, steps, restart_before=point)
        found = profiles(harness)
        assert [[row[name] for name in ("computed_at", *_LASTING)] for row in found] == [
            [row[name] for name in ("computed_at", *_LASTING)] for row in whole
        ]
        restarted_ms = FIRST_MS + sum(wait for wait, _ in steps[: point + 1])
        for before, after in zip(whole, found, strict=True):
            computed_ms = to_epoch_ms(datetime.fromisoformat(after["computed_at"]))
            if computed_ms < restarted_ms or computed_ms > restarted_ms + 70_000:
                # A resource window is half a minute late: its requests may be of before the restart.
                assert after | {_PER_REQUEST: None} == before | {_PER_REQUEST: None}
            elif after["requests"] is None:
                assert "traffic" in after["stale_inputs"]
            else:
                assert after["qps"] == 5, "over the seconds since the restart"
        revisions = [json.loads(row[1])["revision"] for row in harness.side["signals"]]
        assert revisions == sorted(revisions)


def test_a_profile_is_stored_for_what_matters_and_else_once_a_minute() -> None:
    harness = KeyedHarness(profile())
    seconds = profile_steps()
    for wait, bundle in seconds:
        harness.advance(wait)
        harness.process(*bundle)
    assert harness.writes < 25
    assert harness.writes >= 150 // 60


def test_a_task_that_left_the_catalog_a_day_ago_leaves_nothing() -> None:
    harness = KeyedHarness(profile())
    harness.process(profile_input("tasks", catalog_row()))
    harness.advance(60_000)
    harness.restart()
    harness.process(profile_input("tasks", None))
    harness.advance(24 * 3_600_000 + 10_000)
    assert harness.empty
    assert harness.main[-1] == Row("vision/chat", None)


# Alerts: at most a minute later.


def alerts(harness: KeyedHarness) -> list[tuple[str, str]]:
    """Alert and state, without repetitions."""
    found = [(json.loads(row[1])["started_at"], json.loads(row[1])["state"]) for row in harness.main]
    return [one for index, one in enumerate(found) if index == 0 or found[index - 1] != one]


def test_alerts_after_a_restart_are_the_same_at_most_a_minute_later() -> None:
    steps = alert_steps()
    whole = interrupted(evaluate, steps)
    assert [state for _, state in alerts(whole)] == [
        *("pending", "firing", "resolved"),
        *("pending", "resolved"),
        *("pending", "firing"),
    ]
    for point in range(0, len(steps), 11):
        restarted = interrupted(evaluate, steps, restart_before=point)
        assert alerts(restarted) == alerts(whole), point
    rows = rows_of(whole)
    assert len({row["id"] for row in rows}) == len(alerts(whole))


def test_an_alert_whose_rows_have_stopped_ends_and_leaves_no_timer() -> None:
    harness = interrupted(evaluate, alert_steps(), restart_before=280)
    assert harness.timers("vision/chat") != []
    harness.advance(400_000)
    assert alerts(harness)[-1][1] == "resolved"
    assert harness.timers("vision/chat") == []


# What can't be restored.


@pytest.mark.parametrize(
    ("function", "element"),
    [
        (settle, ("vision/chat", replicas_row(FIRST_MS, 1).model_dump_json())),
        (pods, ("vision/chat", "@task", "vision/chat", 0, 0.0, 0)),
        (tasks, ("vision/chat", "desired", "3.0")),
        (profile, profile_input("tasks", catalog_row())),
        (evaluate, profile_input("service-metrics.1s", second_row(FIRST_MS, 1))),
    ],
)
def test_a_state_of_a_newer_release_stops_the_job_with_its_name(
    function: Callable[[], KeyedProcessFunction], element: Any
) -> None:
    harness = KeyedHarness(function())
    harness.process(element)
    (key,) = {"vision/chat"}
    (stored,) = harness.stored(key).values()
    name, _, version = stored.partition(b"\n")[0].decode().partition(" ")
    next_version = int(version) + 1
    saved = harness.snapshot()
    newer = stored.replace(f"{name} {version}\n".encode(), f"{name} {next_version}\n".encode())
    for keys in saved.states.values():
        keys[key] = keys[key][:4] + newer  # type: ignore[index]
    harness.restart(restored=saved)
    with pytest.raises(
        StateUnreadable,
        match=f"state {name}: version {next_version} is stored, .* restores versions .*{version}: a newer",
    ):
        harness.process(element)
