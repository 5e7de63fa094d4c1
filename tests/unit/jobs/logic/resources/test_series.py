"""A series is its whole label set: restarts, cores, MIG instances and two scrapers by the oracle."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.oracle import resources as oracle
from tests.support.prometheus_samples import sample
from tidegate.jobs.logic.resources.samples import sample_of
from tidegate.jobs.logic.resources.windows import Pod, row_of
from tidegate.schemas.rows.resources import ResourceMetricsRow
from tidegate.schemas.settings.signals import ResourceMetrics
from tidegate.schemas.timestamps import to_epoch_ms

CPU, MEMORY, GPU_USED = oracle.CPU, oracle.MEMORY, oracle.GPU_USED
START = datetime(2026, 11, 30, 15, 2, tzinfo=UTC)
OF_ROW = {"cpu_cores": "cpu_cores", "memory_bytes": "memory_working_set_bytes"}
Message = dict[str, Any]


def message(name: str, second: int, value: float, pod: str, **labels: str) -> Message:
    """A sample of a container."""
    known = {"namespace": "bugs", "pod": pod, "container": "model", **labels}
    return sample(name, START + timedelta(seconds=second), repr(value), **known)


def restarted() -> Iterator[Message]:
    """A container of half a core, and after 90 s another: the old one is exposed for some time, without growing."""
    for second in range(0, 420, 15):
        yield message(CPU, second, 1000 + min(second, 90) / 2, "restarted", id="/old")
        yield message(MEMORY, second, 1e9, "restarted", id="/old")
        if second > 90:
            yield message(CPU, second, (second - 90) / 2, "restarted", id="/new")
            yield message(MEMORY, second, 4e8, "restarted", id="/new")


def cores() -> Iterator[Message]:
    """A quarter of each of four cores."""
    for second in range(0, 300, 15):
        for core in range(4):
            yield message(CPU, second, 100 * (core + 1) + second / 4, "cores", id="/c", cpu=f"cpu{core:02}")


def mig() -> Iterator[Message]:
    """Two instances of one GPU, as DCGM's exporter reports them."""
    for second in range(0, 300, 15):
        for instance, used in (("1", 10_000), ("2", 20_000)):
            labels = {"gpu": "0", "UUID": "GPU-1", "GPU_I_ID": instance, "container": "exporter"}
            exported = {
                "exported_namespace": "bugs",
                "exported_pod": "mig",
                "exported_container": "model",
                # The exporter is restarted half way: the pod's series goes on.
                "pod": "dcgm-a" if second < 150 else "dcgm-b",
            }
            yield message(GPU_USED, second, used, **{"pod": "x", **labels, **exported})


def scrapers() -> Iterator[Message]:
    """One target, scraped by two Prometheus a few seconds apart; the first one ends before the second."""
    for second in range(0, 300, 15):
        if second < 200:
            yield message(CPU, second, second / 2, "scrapers", id="/s", prometheus_replica="a")
        yield message(CPU, second + 7, (second + 7) / 2, "scrapers", id="/s", prometheus_replica="b")


def resets() -> Iterator[Message]:
    """Two containers' counters that grow at random, and reset."""
    dice = random.Random(18)
    value = {"model": 50.0, "proxy": 3.0}
    for second in range(0, 600, 15):
        for container in ("model", "proxy"):
            value[container] = (
                round(dice.random(), 3)
                if dice.random() < 0.1
                else round(value[container] + 20 * dice.random(), 3)
            )
            yield message(CPU, second, value[container], "resets", id=f"/{container}", container=container)


def rows_of(messages: Iterable[Message]) -> dict[int, ResourceMetricsRow]:
    """The rows of windows of 10 s by their start (epoch, s)."""
    pod, scraper_labels = Pod(), frozenset(ResourceMetrics().scraper_labels)
    for one in messages:
        read = sample_of(one, scraper_labels)
        assert read is not None
        pod.add(read)
    rows = [row_of(one, "bugs", "x", "x") for one in pod.end() if one.span == "10s"]
    return {to_epoch_ms(row.window_start) // 1000: row for row in rows}


STREAMS = {stream.__name__: stream for stream in (restarted, cores, mig, scrapers, resets)}


@pytest.mark.parametrize("order", ["as sent", "out of order"])
@pytest.mark.parametrize("name", STREAMS)
def test_windows_are_the_oracles(name: str, order: str) -> None:
    messages = list(STREAMS[name]())
    expected = oracle.windows(messages)
    if order == "out of order":
        messages += messages[::5]
        random.Random(7).shuffle(messages)
    rows = rows_of(messages)
    compared = 0
    for (_, start_s), use in expected.items():
        row = rows.get(start_s)
        for field, column in OF_ROW.items():
            found = None if row is None else getattr(row, column)
            assert found == _about(use[field]), (start_s, field)
            compared += found is not None
        used = None if row is None else row.gpu_memory_used_bytes
        mib = use["gpu_used_mib"]
        assert used == _about(None if mib is None else mib * 2**20), start_s
        compared += used is not None
    assert compared >= 19


def _about(value: Any) -> Any:
    return None if value is None else pytest.approx(float(value), rel=1e-9, abs=1e-9)


def test_a_restarted_container_uses_half_a_core_and_the_new_ones_memory() -> None:
    rows = list(rows_of(restarted()).values())
    at = START.timestamp()
    after = [row for row in rows if row.window_start.timestamp() >= at + 110]
    assert {round(row.cpu_cores or 0, 9) for row in after} == {0.5}
    assert {row.memory_working_set_bytes for row in after} == {4e8}
    assert max(row.cpu_cores or 0 for row in rows) == pytest.approx(0.5)


def test_four_cores_add_up_and_two_scrapers_do_not() -> None:
    assert {round(row.cpu_cores or 0, 9) for row in rows_of(cores()).values() if row.cpu_cores} == {1.0}
    assert {round(row.cpu_cores or 0, 9) for row in rows_of(scrapers()).values() if row.cpu_cores} == {0.5}


def test_mig_instances_add_up() -> None:
    assert {row.gpu_memory_used_bytes for row in rows_of(mig()).values()} == {30_000 * 2**20}


def test_a_restart_that_two_scrapers_saw_in_neighboring_windows_counts_once() -> None:
    name = "kube_pod_container_status_restarts_total"
    messages = []
    for second in range(0, 120, 15):
        for scraper, offset in (("a", 0), ("b", 7)):
            at_s = second + offset
            messages.append(message(name, at_s, 1 if at_s >= 21 else 0, "x", prometheus=scraper))
    assert sum(row.restarts or 0 for row in rows_of(messages).values()) == 1


def test_two_containers_that_were_there_from_the_start_and_differ_leave_the_gauge_unknown() -> None:
    both = [message(MEMORY, 0, value, "x", id=f"/{value}") for value in (1e9, 4e8)]
    (row,) = rows_of([*both, message(CPU, 0, 0.0, "x", id="/c"), message(CPU, 9, 4.5, "x", id="/c")]).values()
    assert (row.memory_working_set_bytes, row.cpu_cores) == (None, pytest.approx(0.5))
