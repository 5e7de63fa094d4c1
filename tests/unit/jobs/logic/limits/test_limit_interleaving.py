"""A law of the limit book: tasks don't influence each other, however their events interleave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.limit_events import START_MS, Play, change, control, task
from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.jobs.logic.limits.inputs import Timing
from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.catalog import Task
from tidegate.schemas.timestamps import from_epoch_ms

NAMES = ("chat", "ocr")
TARGET = "the target"
KINDS = ("replicas", "heartbeat", "pause", "resume", "override", "edit", "reject")


@dataclass(frozen=True)
class TaskEvent:
    """An event of one task or of the target, and how long after the event before it."""

    name: str
    kind: str
    number: int
    wait_ms: int


WAITS = st.sampled_from([0, 0, 100, 2_000, 11_000, 60_000])
EVENTS = st.lists(
    st.one_of(
        st.builds(TaskEvent, st.sampled_from(NAMES), st.sampled_from(KINDS), st.integers(0, 9), WAITS),
        st.builds(TaskEvent, st.just(TARGET), st.sampled_from(["fails", "works"]), st.just(0), WAITS),
    ),
    min_size=12,  # a raise needs several events before it
    max_size=30,
)


def apply(play: Play, event: TaskEvent, revision: int, at_ms: int) -> None:
    """Apply one task's event."""
    key, now_ms = TaskKey("vision", event.name), START_MS + at_ms
    if event.kind == "replicas":
        play.book.apply_change(change(event.number, revision, key))
        play.book.observe_heartbeat(key, now_ms)
    elif event.kind == "heartbeat":
        play.book.observe_heartbeat(key, now_ms)
    elif event.kind == "pause":
        play.book.apply_control(control(str(key), paused=True))
    elif event.kind == "resume":
        play.book.remove_control(str(key))
    elif event.kind == "override":
        expires_at = from_epoch_ms(now_ms + 20_000)
        play.book.apply_control(control(str(key), override_qps=event.number + 1.0, expires_at=expires_at))
    elif event.kind == "reject":
        for limit in play.book.wanted_limits(play.book.gateway_of(key)):
            if limit.key == key:
                newer = limit.revision if event.number > 7 else None
                play.rows += play.book.observe_rejection(key, limit.revision, "503", newer, now_ms)
    elif event.kind == "edit" and (limit := play.in_force(key)) is not None:
        play.held[play.book.gateway_of(key)][key] = replace(limit, bucket=TokenBucket(7, 7, 1000))


def run(events: list[TaskEvent], tasks: list[Task]) -> Play:
    """All these tasks' events, with a step at the time of every event."""
    play = Play(*tasks, timing=Timing(raises_together_ms=0)).ready()
    names = {one.name for one in tasks}
    at_ms = 0
    for revision, event in enumerate(events, start=2):
        at_ms += event.wait_ms
        for gateway in sorted(play.book.gateways()):
            play.book.observe_gateway(gateway, 1, START_MS + at_ms)
        if event.name == TARGET:
            play.works = event.kind == "works"
        elif event.name in names:
            apply(play, event, revision, at_ms)
        play.step(at_ms)
    return play


def rows_of(play: Play, name: str) -> Iterator[str]:
    return (row.model_dump_json() for row in play.rows if row.task == name)


@pytest.mark.parametrize(
    "gateways", [("one", "other"), ("one", "one")], ids=["a gateway each", "one gateway"]
)
@given(events=EVENTS)
@settings(max_examples=examples(60), deadline=None)
def test_each_task_gets_the_same_pushes_as_alone_in_any_interleaving(
    gateways: tuple[str, str], events: list[TaskEvent]
) -> None:
    tasks = [
        task(name=name, route=name, gateway=gateway) for name, gateway in zip(NAMES, gateways, strict=True)
    ]
    together = run(events, tasks)
    for one in tasks:
        alone = run(events, [one])
        assert list(rows_of(together, one.name)) == list(rows_of(alone, one.name))
        key = TaskKey(one.department, one.name)
        assert together.in_force(key) == alone.in_force(key)


@given(
    st.lists(st.tuples(st.sampled_from(["replicas", "heartbeat", "edit"]), st.integers(0, 9)), max_size=10),
    st.lists(st.tuples(st.sampled_from(["replicas", "heartbeat", "edit"]), st.integers(0, 9)), max_size=10),
    st.randoms(use_true_random=False),
)
@settings(max_examples=examples(60), deadline=None)
def test_events_of_one_moment_merge_in_any_order(
    first: list[tuple[str, int]], second: list[tuple[str, int]], chance: Any
) -> None:
    """Each task's own order is kept; between the tasks any merge gives the same pushes."""
    tasks = [task(name=name, route=name) for name in NAMES]
    streams = [
        [TaskEvent(name, kind, number, 0) for kind, number in stream]
        for name, stream in zip(NAMES, (first, second), strict=True)
    ]
    turns = [0] * len(first) + [1] * len(second)
    chance.shuffle(turns)
    sources = [iter(stream) for stream in streams]
    merged = run([next(sources[turn]) for turn in turns], tasks)
    in_sequence = run([*streams[0], *streams[1]], tasks)
    for name in NAMES:
        key = TaskKey("vision", name)
        assert merged.limits(key) == in_sequence.limits(key)
