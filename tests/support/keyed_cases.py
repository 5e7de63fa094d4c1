"""The five keyed functions, and what each is given: for tests on the harness, and for stored states."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pyflink.datastream import KeyedProcessFunction

from tests.support.keyed_harness import FIRST_MS, KeyedHarness
from tests.support.keyed_rows import (
    catalog_row,
    limit_row,
    minute_row,
    profile_input,
    resource_row,
    second_row,
)
from tests.support.limit_rows import replicas_row
from tidegate.jobs.alerts import Evaluate
from tidegate.jobs.logic.replicas.changes import Windows
from tidegate.jobs.logic.resources import samples as names
from tidegate.jobs.replica_changes import Settle
from tidegate.jobs.resource_metrics import Pods, Tasks
from tidegate.jobs.task_profile import Profile
from tidegate.schemas.alert_rules import parse
from tidegate.schemas.settings import AccessLog, Settings
from tidegate.schemas.settings.signals import ResourceMetrics

Step = tuple[int, Sequence[Any]]
"""How long after the step before, in ms, and the elements of a bundle."""


def settle(*, bounded: bool = False) -> KeyedProcessFunction:
    return Settle(Windows(2000, 10_000), 90_000, {}, bounded=bounded)


def pods(*, bounded: bool = False) -> KeyedProcessFunction:
    return Pods(ResourceMetrics(), AccessLog(), bounded=bounded)


def tasks() -> KeyedProcessFunction:
    return Tasks(ResourceMetrics(), bounded=False)


def profile(*, bounded: bool = False) -> KeyedProcessFunction:
    return Profile(Settings(), bounded=bounded)


def evaluate() -> KeyedProcessFunction:
    rules = """
    rules:
      - name: slow
        level: interface
        source: service-metrics.1s
        when: {field: latency_p99_ms, op: ">", value: 800}
        for_seconds: 5
        keep_firing_seconds: 3
        severity: warning
        message: "p99 of {task} is {value}"
    """
    return Evaluate(parse(rules, "rules.yaml"), "", {}, bounded=False)


# What each function is given.


def replica_counts() -> list[Step]:
    dice, steps, at_ms = random.Random(2), [], FIRST_MS
    ready = {"chat": 4, "tags": 2}
    for _ in range(40):
        wait = dice.choice((500, 1000, 3000, 12_000))
        at_ms += wait
        task = dice.choice(sorted(ready))
        ready[task] = max(0, ready[task] + dice.choice((-2, -1, 0, 1, 2)))
        row = replicas_row(at_ms, ready[task], task=task)
        steps.append((wait, [(f"vision/{task}", row.model_dump_json())]))
    return steps


def pod_samples() -> list[Step]:
    steps: list[Step] = []
    for scrape in range(14):
        at_ms = FIRST_MS + 15_000 * scrape
        bundle: list[Any] = []
        for pod in ("chat-7d9f8c6b5-x2b1z", "chat-7d9f8c6b5-x2b2z", "tags-0"):
            key = f"vision/{pod}"
            if scrape == 3:
                bundle.append((key, "@task", f"vision/{pod.split('-')[0]}", 0, 0.0, 0))
            value = float("nan") if scrape == 9 else 2.5 * scrape
            bundle.append((key, names.CPU, "model", at_ms, value, at_ms))
            bundle.append((key, names.MEMORY, "model", at_ms, 1e9 + scrape, at_ms))
        steps.append((15_000, bundle))
    return steps


def task_windows() -> list[Step]:
    """What Pods puts out of these samples, one pod late."""
    harness = KeyedHarness(pods())
    steps: list[Step] = []
    for wait, bundle in pod_samples():
        harness.advance(wait)
        found = [tuple(row) for row in harness.process(*bundle)]
        steps.append((wait, found[1:]))
        if found:
            steps.append((5000, found[:1]))
    return steps


def profile_steps() -> list[Step]:
    steps: list[Step] = [
        (0, [profile_input("tasks", catalog_row())]),
        (10, [profile_input("replicas", replicas_row(FIRST_MS, 3).model_dump_json())]),
    ]
    for second in range(150):
        elements = [profile_input("seconds", second_row(FIRST_MS + 1000 * second, 5))]
        if second % 30 == 0:
            row = replicas_row(FIRST_MS + 1000 * second, 3 + (second == 90))
            elements.append(profile_input("replicas", row.model_dump_json()))
        if second % 60 == 30:
            elements.append(profile_input("minutes", minute_row(FIRST_MS + 1000 * second - 60_000)))
            elements.append(profile_input("resources", resource_row(FIRST_MS + 1000 * second - 30_000)))
            elements.append(profile_input("limits", limit_row(FIRST_MS + 1000 * second, second)))
        steps.append((1000, elements))
    return steps


def alert_steps() -> list[Step]:
    """Slow from second 70 to 110, from 200 to 203 (never fires) and from 250 on."""
    slow = [*range(70, 110), *range(200, 203), *range(250, 290)]
    return [
        (
            1000,
            [
                profile_input(
                    "service-metrics.1s",
                    second_row(FIRST_MS + 1000 * second, 50, 900.0 if second in slow else 50.0),
                    at_ms=FIRST_MS + 1000 * second + 1000,
                )
            ],
        )
        for second in range(290)
    ]


class Case(NamedTuple):
    """A function, its input, and after how many steps the input is cut for a stored state."""

    function: Callable[[], KeyedProcessFunction]
    steps: Callable[[], list[Step]]
    cut: int


CASES: Mapping[str, Case] = {
    "replica-changes-settle": Case(settle, replica_counts, 20),
    "resource-metrics-pods": Case(pods, pod_samples, 10),
    "resource-metrics-tasks": Case(tasks, task_windows, 9),
    "task-profile-profile": Case(profile, profile_steps, 100),
    "alerts-evaluate": Case(evaluate, alert_steps, 80),
}
"""By the operator's uid."""
