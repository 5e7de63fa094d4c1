"""What the demo plays, and the requests that come of it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.demo.scenario import (
    DEMO,
    FAILING_REPLICA,
    NIGHT,
    SLOW_REPLICA,
    Failure,
    Latency,
    Scenario,
    day_shape,
)
from tidegate.demo.traffic import Traffic
from tidegate.demo.upstreams import Behaviour
from tidegate.schemas.rows.service_metrics import UNROUTED

DAY_SECONDS = 60.0


def test_the_demo_has_what_it_promises() -> None:
    assert len(DEMO.tasks) == 12
    assert len(DEMO.departments) == 4
    for task in DEMO.tasks:
        assert 2 <= len(list(task.replicas())) <= (3 if task.qps_per_replica is None else 4)
    assert {SLOW_REPLICA, FAILING_REPLICA} <= {replica for _, replica in DEMO.replicas()}
    assert [len(task.versions) for task in DEMO.tasks].count(2) == 1
    assert [task.name for task in DEMO.tasks if task.limit_qps] == ["summarise"]
    assert any(task.impatient_ratio for task in DEMO.tasks)


def test_the_load_is_bounded_to_a_few_hundred_requests_a_second() -> None:
    traffic = Traffic(DEMO, DAY_SECONDS)
    assert max(traffic.rate_qps(step / 200) for step in range(200)) <= 500


def test_the_limited_task_is_asked_for_more_than_its_limit_at_the_busiest_hour() -> None:
    limited = next(task for task in DEMO.tasks if task.limit_qps)
    assert limited.limit_qps is not None
    rates = [limited.peak_qps * day_shape(step / 200, limited.evening) for step in range(200)]
    assert max(rates) > 1.5 * limited.limit_qps
    assert min(rates) < limited.limit_qps


def test_the_task_whose_limit_follows_is_asked_for_one_and_a_half_times_its_capacity_all_day() -> None:
    (task,) = DEMO.limited_tasks()
    assert task.qps_per_replica is not None
    capacity_qps = len(list(task.replicas())) * task.qps_per_replica
    assert {task.rate_qps(step / 200) for step in range(200)} == {1.5 * capacity_qps}


def test_a_scenario_survives_being_written_and_read(tmp_path: Path) -> None:
    DEMO.write(tmp_path / "scenario.json")
    assert Scenario.read(tmp_path / "scenario.json") == DEMO


def test_a_name_that_is_there_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="task chat occurs more than once"):
        Scenario(tasks=(*DEMO.tasks, next(task for task in DEMO.tasks if task.name == "chat")))


def test_clusters_are_named_as_a_mesh_names_them() -> None:
    chat = next(task for task in DEMO.tasks if task.name == "chat")
    assert [chat.cluster(version) for version in chat.versions] == [
        "outbound|8080|v1|service-chat.assistants.svc.cluster.local",
        "outbound|8080|v2|service-chat.assistants.svc.cluster.local",
    ]


def test_the_day_has_a_night_and_peaks_where_its_people_are_awake() -> None:
    for evening in (0.0, 0.5, 1.0):
        shape = [day_shape(step / 1000, evening) for step in range(1001)]
        assert min(shape) >= NIGHT
        assert max(shape) <= 1
        assert shape[0] < 0.5
        assert shape[-1] < 0.5
    assert day_shape(0.33, 0) > 0.99
    assert day_shape(0.68, 1) > 0.99


def test_latencies_have_the_stated_median_and_a_long_tail() -> None:
    dice = random.Random(1)
    draws = sorted(Latency(100, sigma=0.5, cap_ms=2000).draw_ms(dice) for _ in range(20_000))
    assert draws[10_000] == pytest.approx(100, rel=0.03)
    assert draws[19_800] == pytest.approx(320, rel=0.10)
    assert draws[-1] <= 2000


def test_failures_come_in_spells() -> None:
    failure = Failure(ratio=0.5, every_seconds=30, for_seconds=10)
    assert [failure.ratio_at(second) for second in (0, 9, 11, 29, 31, 41)] == [0.5, 0.5, 0, 0, 0.5, 0]


def test_a_replica_in_a_bad_spell_fails_about_as_often_as_stated() -> None:
    task = next(task for task, replica in DEMO.replicas() if replica is FAILING_REPLICA)
    behaviour = Behaviour(task, FAILING_REPLICA, seed=1)
    statuses = Counter(behaviour.answer(1.0).status for _ in range(4000))
    assert statuses[503] / 4000 == pytest.approx(0.35, abs=0.05)
    healthy = Counter(behaviour.answer(20.0).status for _ in range(500))
    assert healthy == {200: 500}


def test_a_slow_replica_takes_as_many_times_as_long() -> None:
    task = next(task for task, replica in DEMO.replicas() if replica is SLOW_REPLICA)
    plain = replace(SLOW_REPLICA, slowdown=1.0)
    slow = Behaviour(task, SLOW_REPLICA, seed=1).answer(0)
    normal = Behaviour(task, plain, seed=1).answer(0)
    assert slow.delay_ms == pytest.approx(normal.delay_ms * SLOW_REPLICA.slowdown)


def test_the_same_seed_sends_the_same_day() -> None:
    first, second = (list(Traffic(DEMO, 5.0).arrivals()) for _ in range(2))
    assert first == second
    assert first


def test_a_day_has_about_as_many_requests_as_announced() -> None:
    traffic = Traffic(DEMO, DAY_SECONDS)
    arrivals = [moment for moment, _ in traffic.arrivals()]
    assert len(arrivals) == pytest.approx(traffic.expected_requests(), rel=0.05)
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] < DAY_SECONDS


def test_requests_to_unknown_paths_count_for_no_task_even_when_they_name_one() -> None:
    lost = [
        request for _, request in Traffic(DEMO, DAY_SECONDS).arrivals() if not request.path.startswith("/v1/")
    ]
    known = {task.name for task in DEMO.tasks}
    assert {(request.department, request.task) for request in lost} == {(UNROUTED, UNROUTED)}
    assert any(request.header_task in known for request in lost)
    assert any(request.header_task not in known for request in lost)


def test_only_impatient_clients_of_impatient_tasks_leave() -> None:
    patience = {task.name: task.patience_ms for task in DEMO.tasks if task.impatient_ratio}
    leaving = [request for _, request in Traffic(DEMO, DAY_SECONDS).arrivals() if request.patience_ms]
    assert leaving
    for request in leaving:
        assert request.patience_ms == patience[request.task]


def test_closing_requests_go_to_every_task_and_wait_for_the_answer() -> None:
    closing = Traffic(DEMO, DAY_SECONDS).closing()
    requests = [next(closing) for _ in DEMO.tasks]
    assert {request.task for request in requests} == {task.name for task in DEMO.tasks}
    assert all(request.patience_ms is None for request in requests)
