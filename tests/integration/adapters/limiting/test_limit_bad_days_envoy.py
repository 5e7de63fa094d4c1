"""The limit controller with real Envoys that restart, hang and get new routes, and their clients."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.limits import measure, report, task_names
from benchmarks.loop import Load
from tests.support.limit_bad_days import routes, started, states
from tests.support.limit_world import CHAT, GATEWAY, Caller, Envoys, World, ask, envoys, routes_of
from tests.support.waiting import until
from tidegate.adapters.limiting.targets.file import EnvoyFileTarget
from tidegate.demo.envoy_config import replace
from tidegate.schemas.settings import Kafka

pytestmark = [pytest.mark.timeout(240), pytest.mark.alone]


@pytest.fixture
def gateway(kafka: Kafka, tmp_path: Path) -> Iterator[tuple[World, Envoys]]:
    """A world with one real Envoy that reads its route file, and is read back."""
    world = World(kafka, tmp_path, {"chat": "qps_per_replica: 10", "ocr": "qps_per_replica: 10"})
    with envoys(tmp_path / "envoys", world.routes, "envoy-a") as running:
        world.admins = running.admins()
        try:
            yield world, running
        finally:
            world.end()


def in_force(running: Envoys, *names: str) -> float | None:
    admins = tuple(f"127.0.0.1:{running.port(name, 'admin')}" for name in names or running.names)
    limit = EnvoyFileTarget({}, {GATEWAY: admins}).read(GATEWAY).get(CHAT)
    return None if limit is None else round(limit.bucket.qps, 6)


def test_an_envoy_that_restarts_comes_back_with_its_limit_and_nothing_is_pushed(
    gateway: tuple[World, Envoys],
) -> None:
    world, running = gateway
    started(world)
    running.stack.kill("envoy-a")
    time.sleep(2.5)  # it is looked at, and found away
    running.stack.up(["envoy-a"])
    assert in_force(running) == 40
    time.sleep(2.5)
    assert states(world) == [("decided", 1), ("applied", 1)]
    with Load(running.ports(), qps=80) as load:
        time.sleep(6)
        now = time.time()
    assert load.admitted_qps(now - 4, now) == pytest.approx(40, rel=0.05)


def test_two_envoys_share_the_limit_and_a_hung_one_holds_up_nothing(kafka: Kafka, tmp_path: Path) -> None:
    world = World(kafka, tmp_path)
    with envoys(tmp_path / "envoys", world.routes, "envoy-a", "envoy-b") as running:
        world.admins = running.admins()
        try:
            started(world)
            assert in_force(running) == 40
            world.publish_counts(gateways=2)
            until(lambda: in_force(running) == 20, "each has its half")
            with Load(running.ports(), qps=80) as load:
                time.sleep(8)
                now = time.time()
            admitted = load.admitted_qps(now - 5, now)
            assert admitted == pytest.approx(40, rel=0.05)

            psutil.Process(running.pid("envoy-b")).suspend()
            world.change(2)
            world.until_applied(20)
            assert in_force(running, "envoy-a") == 10
            psutil.Process(running.pid("envoy-b")).resume()
            until(lambda: in_force(running, "envoy-b") == 10, "the hung one has it too")
            time.sleep(2.5)
            pushes = [row for row in world.rows() if row.state == "decided"]
            assert [row.limit_qps_per_gateway for row in pushes] == [40, 20, 10]

            running.stack.kill("envoy-b")
            world.publish_counts(gateways=1)
            world.until_applied(20)
            until(lambda: in_force(running, "envoy-a") == 20, "the other one has it all")
        finally:
            world.end()


def test_a_change_of_one_route_fills_the_buckets_of_all(gateway: tuple[World, Envoys]) -> None:
    """Why raises go together (docs/decisions/0006-every-push-refills-the-buckets.md)."""
    world, running = gateway
    started(world)
    world.until_applied(40, "ocr")
    time.sleep(1.5)
    (port,) = running.ports()
    drained = burst(port)
    still_empty = burst(port, most=20)
    world.change(2, "ocr")
    world.until_applied(20, "ocr")
    refilled = burst(port)
    assert drained >= 40
    assert still_empty < 10
    assert refilled >= 40, "chat's own limit was not changed"


def burst(port: int, most: int = 200) -> int:
    """How many of these requests in a row are admitted."""
    return sum(ask(port, {}) == 200 for _ in range(most))


def test_a_task_whose_route_changes_has_its_limit_on_the_new_one(gateway: tuple[World, Envoys]) -> None:
    world, _running = gateway
    started(world)
    content = routes_of(["chat-2", "chat", "ocr"])
    old = routes(world)["resources"][0]["virtual_hosts"][0]["routes"]
    content["resources"][0]["virtual_hosts"][0]["routes"][1:] = old
    for order in (1, -1):  # the new one before the old one, and after it
        moved = copy.deepcopy(content)
        moved["resources"][0]["virtual_hosts"][0]["routes"] = content["resources"][0]["virtual_hosts"][0][
            "routes"
        ][::order]
        replace(world.routes, moved)
        time.sleep(0.5)
        name = "chat-2" if order == 1 else "chat"
        world.write_catalog({"chat": f"qps_per_replica: 10, route: {name}", "ocr": "qps_per_replica: 10"})
        until(lambda name=name: world.rows()[-1].reason == f"route is now '{name}'", "it is reported")  # type: ignore[misc]
        until(lambda: world.rows()[-1].state == "applied", "it is in force")
        limit = world.in_file()
        assert limit is not None
        assert limit.route == name
        content = routes(world)


@pytest.mark.timeout(600)
def test_a_thousand_tasks_that_change_at_once_all_get_their_limits_and_cuts_dont_wait_for_raises(
    kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The figures are those of `python -m benchmarks.limits`; here it is what comes of it that counts."""
    world = World(kafka, tmp_path, task_names(1000), limits="")
    with envoys(tmp_path / "envoys", world.routes, "envoy-a") as running:
        world.admins = running.admins()
        target = EnvoyFileTarget({GATEWAY: world.routes}, {GATEWAY: world.admins})
        try:
            measured = measure(world, target)
            rows = world.all_rows()
        finally:
            world.end()
    with capsys.disabled():
        print("", *report("file", measured), sep="\n")  # noqa: T201 (figures for people)
    assert measured.last_cut_seconds <= measured.last_raise_seconds
    assert measured.revisions == 2000, "one push a task and change"
    assert {row.state for row in rows} == {"decided", "applied"}
    assert len(rows) == 4000


CLIENTS = "qps_per_replica: 10, clients: {limit_qps: 15, named: {greedy: 5, batch: 30}}"


@pytest.mark.slow
def test_a_greedy_client_is_refused_at_its_own_rate_and_the_others_get_through(
    kafka: Kafka, tmp_path: Path
) -> None:
    world = World(kafka, tmp_path, {"chat": CLIENTS})
    with envoys(tmp_path / "envoys", world.routes, "envoy-a") as running:
        world.admins = running.admins()
        try:
            started(world)
            (port,) = running.ports()
            with (
                Caller(port, 100, {"x-client-id": "greedy"}) as greedy,
                Caller(port, 12, {"x-client-id": "anna"}) as anna,
                Caller(port, 60, {"x-client-id": "bert"}) as bert,
            ):
                time.sleep(7)
                end = time.monotonic()
            begin = end - 4
            # 5 + 12 + 15 are below the task's 40: each gets all of its own, and the refused take none of it.
            assert greedy.qps(200, begin, end) == pytest.approx(5, abs=0.6)
            assert greedy.qps(429, begin, end) > 50
            assert anna.qps(429, begin, end) == 0
            assert bert.qps(200, begin, end) == pytest.approx(15, rel=0.1)

            # The header is what a client says of itself: who says another's name has that one's bucket, and who
            # says none has only the task's.
            with (
                Caller(port, 20, {"x-client-id": "greedy"}) as liar,
                Caller(port, 20, {"x-client-id": "greedy"}) as greedy,
                Caller(port, 20, {}) as nameless,
            ):
                time.sleep(6)
                end = time.monotonic()
            begin = end - 4
            together = liar.qps(200, begin, end) + greedy.qps(200, begin, end)
            assert together == pytest.approx(5, abs=0.6)
            assert nameless.qps(429, begin, end) == 0

            with (
                Caller(port, 60, {"x-client-id": "batch"}) as batch,
                Caller(port, 60, {}) as nameless,
            ):
                time.sleep(6)
                end = time.monotonic()
            begin = end - 4
            both = batch.qps(200, begin, end) + nameless.qps(200, begin, end)
            assert both == pytest.approx(40, rel=0.06), "all together stay within the task's limit"
        finally:
            world.end()
