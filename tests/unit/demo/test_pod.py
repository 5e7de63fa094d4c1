"""The demo's models in a container: what they leave for Envoy, and what they make of the clients' report."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tidegate.adapters.heartbeat import VARIABLE
from tidegate.demo import pod
from tidegate.demo.envoy_config import Files
from tidegate.demo.load_report import LoadReport
from tidegate.demo.pod import Pod
from tidegate.demo.scenario import DEMO, Scenario
from tidegate.schemas import catalog


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(Pod(DEMO, folder).run(0, stop, usage_host="127.0.0.1"))
    await until(Files(folder).bootstrap.exists)
    try:
        yield
    finally:
        stop.set()
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


def listed(folder: Path, name: str) -> list[int]:
    """The ports at which Envoy finds a task's replicas."""
    task = next(task for task in DEMO.tasks if task.name == name)
    content = json.loads(Files(folder).endpoints(task, task.versions[0]).read_text())
    (endpoints,) = content["resources"][0]["endpoints"]
    return [one["endpoint"]["address"]["socket_address"]["port_value"] for one in endpoints["lb_endpoints"]]


def address(part: dict[str, Any]) -> tuple[str, int]:
    socket: dict[str, Any] = part["address"]["socket_address"]
    return socket["address"], socket["port_value"]


def test_envoys_files_let_clients_in_from_everywhere_and_to_its_admin_page_nobody(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path):
            bootstrap = json.loads(Files(tmp_path).bootstrap.read_text())
            (listener,) = bootstrap["static_resources"]["listeners"]
            assert address(listener) == (pod._EVERYWHERE, pod.PORT)
            assert address(bootstrap["admin"]) == ("127.0.0.1", pod.ADMIN_PORT)
            for port in listed(tmp_path, "translate"):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()

    asyncio.run(play())


def test_scenario_and_catalog_are_there_for_the_other_containers(tmp_path: Path) -> None:
    async def play() -> None:
        async with running(tmp_path):
            assert Scenario.read(tmp_path / pod.SCENARIO) == DEMO
            limited = {task.name for task in DEMO.limited_tasks()}
            assert {task for _, task in catalog.load(tmp_path / pod.CATALOG).tasks} == limited

    asyncio.run(play())


def test_replicas_leave_and_come_back_and_so_again_on_the_next_day(tmp_path: Path) -> None:
    async def report(fraction: float, replicas: int) -> None:
        LoadReport("day", fraction, ()).write(tmp_path / pod.REPORT)
        await until(lambda: len(listed(tmp_path, "translate")) == replicas)

    async def play() -> None:
        async with running(tmp_path):
            for _ in range(2):
                await report(0.1, 4)
                await report(0.4, 2)
                await report(0.9, 4)

    asyncio.run(play())


def test_the_log_that_has_grown_is_kept_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod, "_ROTATE_BYTES", 100)
    log = Files(tmp_path).access_log
    log.write_text("x" * 99)

    async def play() -> None:
        async with running(tmp_path):
            await asyncio.sleep(0.7)
            assert log.exists()
            log.write_text("y" * 100)
            await until(lambda: not log.exists())
            assert log.with_name("access.log.1").read_text() == "y" * 100

    asyncio.run(play())


def test_it_says_that_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = tmp_path / "alive"
    monkeypatch.setenv(VARIABLE, str(alive))

    async def play() -> None:
        async with running(tmp_path):
            await until(alive.exists)

    asyncio.run(play())
