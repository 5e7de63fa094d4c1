"""A thousand tasks whose replicas change at once: how long until every cut is in force, and the controller's memory.

    python -m benchmarks.limits [--tasks N] [--target file|kubernetes|both]

Half of the tasks lose replicas and half gain some, in mixed order, published at once to Kafka. The controller is the
command as users run it. Target file: one route file that a real Envoy reads, and is asked for. Target kubernetes: one
EnvoyFilter on a real API server. The floor is what the target alone takes to write the same limits and read them back.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.live import servers
from tests.support.kubernetes_api import KubernetesApi
from tests.support.limit_world import GATEWAY, QPS, World, envoys
from tests.support.waiting import until
from tidegate.adapters.limiting.targets.base import Target
from tidegate.adapters.limiting.targets.file import EnvoyFileTarget
from tidegate.adapters.limiting.targets.kubernetes import KubernetesTarget
from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.jobs.logic.limits.rate_limits import token_bucket
from tidegate.schemas.catalog import Gateway
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.settings import Kafka
from tidegate.schemas.timestamps import to_epoch_ms
from tidegate.stack.kubernetes_api import API_SERVER, ETCD, add_kubernetes_api

BEFORE, CUT_TO, RAISED_TO = 4, 2, 8
_WAIT_SECONDS = 240.0
_MIB = 1 << 20


@dataclass(frozen=True)
class Measured:
    """Seconds since the first change in Kafka. published: until Kafka had all of them. rows: how many were written."""

    tasks: int
    published_seconds: float
    first_cut_seconds: float
    last_cut_seconds: float
    last_raise_seconds: float
    revisions: int
    memory_before_bytes: int
    memory_after_bytes: int
    floor_seconds: float


def task_names(count: int) -> dict[str, str]:
    """So many entries of a catalog."""
    return {f"task-{number:04}": f"qps_per_replica: {QPS:g}" for number in range(count)}


def measure(world: World, target: Target) -> Measured:
    """Start a controller, change all of the world's tasks at once, wait until all is in force. target: for the floor.

    Ends the controller.
    """
    names = list(world.tasks)
    world.publish_counts(replicas=BEFORE)
    for name in names:
        world.change(BEFORE, name, flush=False)
    world.flush()
    controller = world.controller()
    until(lambda: len(_applied(world, BEFORE)) == len(names), "the first limits", _WAIT_SECONDS)
    process = psutil.Process(controller.pid)
    memory_before = process.memory_info().rss
    cut = set(names[::2])
    random.Random(7).shuffle(names)
    world.publish_counts(replicas=BEFORE)
    begun_ms = time.time() * 1000
    for name in names:
        world.change(CUT_TO if name in cut else RAISED_TO, name, flush=False)
    world.flush()
    published_seconds = time.time() - begun_ms / 1000
    until(lambda: len(_applied(world, CUT_TO)) == len(cut), "all cuts", _WAIT_SECONDS)
    until(lambda: len(_applied(world, RAISED_TO)) == len(names) - len(cut), "all raises", _WAIT_SECONDS)
    cuts, raises = _applied(world, CUT_TO), _applied(world, RAISED_TO)
    memory_after = process.memory_info().rss
    controller.end()
    cut_seconds = [_seconds(row, begun_ms) for row in cuts]
    return Measured(
        tasks=len(names),
        published_seconds=published_seconds,
        first_cut_seconds=min(cut_seconds),
        last_cut_seconds=max(cut_seconds),
        last_raise_seconds=max(_seconds(row, begun_ms) for row in raises),
        revisions=sum(row.state == "decided" for row in world.all_rows()),
        memory_before_bytes=memory_before,
        memory_after_bytes=memory_after,
        floor_seconds=_floor(target),
    )


def report(what: str, measured: Measured) -> list[str]:
    """It in lines for people."""
    return [
        f"{what}: {measured.tasks} tasks changed at once, published within {measured.published_seconds:.2f} s",
        f"  cuts in force: the first after {measured.first_cut_seconds:.2f} s, all after "
        f"{measured.last_cut_seconds:.2f} s; all raises after {measured.last_raise_seconds:.2f} s",
        f"  floor, one write and read-back by the target alone: {measured.floor_seconds:.2f} s",
        f"  revisions in all: {measured.revisions}; the controller's memory: "
        f"{measured.memory_before_bytes / _MIB:.0f} MiB before, {measured.memory_after_bytes / _MIB:.0f} MiB after",
    ]


def _applied(world: World, replicas: int) -> list[RateLimitRow]:
    qps = replicas * QPS
    return [row for row in world.all_rows() if row.state == "applied" and row.limit_qps == qps]


def _seconds(row: RateLimitRow, begun_ms: float) -> float:
    assert row.applied_at is not None
    return (to_epoch_ms(row.applied_at) - begun_ms) / 1000


def _floor(target: Target) -> float:
    """All limits changed, written once, and read until they are in force."""
    held = target.read(GATEWAY)
    new = {
        key: replace(limit, revision=limit.revision + 1, bucket=token_bucket(5, 5))
        for key, limit in held.items()
    }
    started = time.perf_counter()
    refused = target.write(GATEWAY, list(new.values()))
    assert not refused
    while not _holds(target, new):
        time.sleep(0.01)
    return time.perf_counter() - started


def _holds(target: Target, wanted: dict[TaskKey, object]) -> bool:
    found = target.read(GATEWAY)
    return all(found.get(key) == limit for key, limit in wanted.items())


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tidegate-limits-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def on_file(kafka: Kafka, tasks: int) -> Measured:
    """Behind a real Envoy."""
    mine = kafka.model_copy(update={"topic_prefix": "file."})
    with _folder() as folder:
        world = World(mine, folder, task_names(tasks), limits="")
        with envoys(folder / "envoys", world.routes, "envoy-a") as running:
            world.admins = running.admins()
            try:
                return measure(world, EnvoyFileTarget({GATEWAY: world.routes}, {GATEWAY: world.admins}))
            finally:
                world.end()


def on_kubernetes(kafka: Kafka, kubeconfig: Path, tasks: int) -> Measured:
    """On a real API server."""
    mine = kafka.model_copy(update={"topic_prefix": "kubernetes."})
    with _folder() as folder:
        api = KubernetesApi(kubeconfig, folder)
        api.install_istio_kinds()
        namespace = api.new_namespace()
        more = f"[kubernetes]\nkubeconfig = {json.dumps(str(kubeconfig))}"
        world = World(
            mine, folder, task_names(tasks), target="kubernetes", namespace=namespace, limits="", more=more
        )
        try:
            return measure(world, KubernetesTarget(api.settings, {GATEWAY: Gateway(namespace=namespace)}))
        finally:
            world.end()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--target", choices=("file", "kubernetes", "both"), default="both")
    arguments = parser.parse_args()
    with servers("kafka") as stack:
        if arguments.target != "kubernetes":
            print(*report("file", on_file(stack.settings.kafka, arguments.tasks)), sep="\n", flush=True)
        if arguments.target != "file":
            add_kubernetes_api(stack)
            stack.up([ETCD, API_SERVER])
            found = stack.settings.kubernetes.kubeconfig
            assert found is not None
            measured = on_kubernetes(stack.settings.kafka, Path(found), arguments.tasks)
            print(*report("kubernetes", measured), sep="\n", flush=True)


if __name__ == "__main__":
    main()
