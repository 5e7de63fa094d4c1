"""What carries limits to one gateway: newest only, no storm on a target that is away, nothing after the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from queue import Empty, SimpleQueue

import pytest

from tests.support.waiting import until
from tidegate.adapters.backoff import Backoff
from tidegate.adapters.limiting.targets.base import Refused, TargetFailed
from tidegate.adapters.limiting.workers import (
    GatewayFailed,
    GatewayWorker,
    LimitRejected,
    LimitsRead,
    Result,
    WorkerTiming,
)
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.catalog import Gateway

GATEWAY = "vision-gateway"
CHAT = TaskKey("vision", "chat")


def limit(revision: int = 1, task: str = "chat", qps: int = 10) -> Limit:
    return Limit(TaskKey("vision", task), task, revision, TokenBucket(qps, qps, 1000))


class Scripted:
    """A target that does as a test says: it fails, hangs, refuses, or takes in its own time."""

    name = "scripted"

    def __init__(self) -> None:
        self.held: dict[TaskKey, Limit] = {}
        self.writes: list[tuple[float, list[Limit]]] = []
        self.reads = 0
        self.failure: Exception | None = None
        self.fails_reads = True
        self.refused: dict[TaskKey, Refused] = {}
        self.hangs = threading.Event()
        self.delay_reads = 0
        """So many reads after a write show the old limits still."""
        self._late: tuple[int, dict[TaskKey, Limit]] = (0, {})

    def use_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        pass

    def read(self, gateway: str) -> Mapping[TaskKey, Limit]:
        self.reads += 1
        if self.failure is not None and self.fails_reads:
            raise self.failure
        left, new = self._late
        if left:
            self._late = (left - 1, new)
            if left > 1:
                return dict(self.held)
            self.held.update(new)
        return dict(self.held)

    def write(self, gateway: str, limits: Iterable[Limit]) -> Mapping[TaskKey, Refused]:
        wanted = list(limits)
        self.writes.append((time.monotonic(), wanted))
        while self.hangs.is_set():
            time.sleep(0.005)
        if self.failure is not None:
            raise self.failure
        new = {one.key: one for one in wanted if one.key not in self.refused}
        if self.delay_reads:
            self._late = (self.delay_reads, new)
        else:
            self.held.update(new)
        return {one.key: self.refused[one.key] for one in wanted if one.key in self.refused}


class Stage:
    """A worker and all of its results."""

    def __init__(
        self, target: Scripted, reconcile_seconds: float = 600, longest_seconds: float = 600
    ) -> None:
        self.target = target
        self._queue: SimpleQueue[Result] = SimpleQueue()
        self._results: list[Result] = []
        timing = WorkerTiming(reconcile_seconds, Backoff(0.05, longest_seconds))
        self.worker = GatewayWorker(target, GATEWAY, timing, self._queue, lambda: 7)
        self.worker.start()

    def results(self) -> list[Result]:
        while True:
            try:
                self._results.append(self._queue.get_nowait())
            except Empty:
                return self._results

    def failures(self) -> list[str]:
        return [one.reason for one in self.results() if isinstance(one, GatewayFailed)]

    def found(self, wanted: Limit) -> Callable[[], bool]:
        return lambda: any(
            isinstance(one, LimitsRead) and one.limits.get(wanted.key) == wanted for one in self.results()
        )


@pytest.fixture
def target() -> Scripted:
    return Scripted()


@pytest.fixture
def stage(target: Scripted) -> Iterator[Stage]:
    one = Stage(target)
    try:
        yield one
    finally:
        target.hangs.clear()
        one.worker.stop()
        one.worker.join(10)


def test_it_begins_with_a_look_and_writes_nothing(stage: Stage) -> None:
    until(lambda: stage.results() == [LimitsRead(GATEWAY, {}, 7)])
    assert stage.target.writes == []


def test_what_is_wanted_is_written_and_read_back(stage: Stage) -> None:
    stage.worker.want([limit()])
    until(stage.found(limit()))
    assert [limits for _, limits in stage.target.writes] == [[limit()]]


def test_the_same_wish_again_is_no_work(stage: Stage) -> None:
    stage.worker.want([limit()])
    until(stage.found(limit()))
    for _ in range(100):
        stage.worker.want([limit()])
    time.sleep(0.1)
    assert len(stage.target.writes) == 1


def test_wishes_that_come_while_it_writes_become_the_newest_one(stage: Stage) -> None:
    stage.target.hangs.set()
    stage.worker.want([limit(1)])
    until(lambda: len(stage.target.writes) == 1)
    for revision in range(2, 50):
        stage.worker.want([limit(revision)])
    stage.target.hangs.clear()
    until(stage.found(limit(49)))
    assert [limits[0].revision for _, limits in stage.target.writes] == [1, 49]


def test_a_target_that_takes_its_time_is_looked_at_until_it_has_it(stage: Stage) -> None:
    stage.target.delay_reads = 4
    stage.worker.want([limit()])
    until(stage.found(limit()))
    assert len(stage.target.writes) == 1
    assert stage.failures() == []


def test_a_target_that_takes_it_and_never_has_it_is_a_failure(stage: Stage) -> None:
    stage.target.delay_reads = 1_000_000
    stage.worker.want([limit()])
    until(lambda: bool(stage.failures()))
    assert "not all of them are in force" in stage.failures()[0]


def test_a_failure_is_reported_and_tried_again_until_it_works(stage: Stage) -> None:
    stage.target.failure = TargetFailed("503")
    stage.worker.want([limit()])
    until(lambda: len(stage.target.writes) >= 3)
    assert set(stage.failures()) == {"503"}
    stage.target.failure = None
    until(stage.found(limit()))


def test_tries_come_ever_more_seldom(stage: Stage) -> None:
    stage.target.failure = TargetFailed("503")
    stage.target.fails_reads = False
    stage.worker.want([limit()])
    until(lambda: len(stage.target.writes) >= 6)
    moments = [at for at, _ in stage.target.writes]
    gaps = [later - before for before, later in pairwise(moments)]
    # 0.05 s doubled with each failure, at least half of it.
    assert all(gap >= 0.05 * 2**number / 2 for number, gap in enumerate(gaps)), gaps


def test_a_defect_of_a_target_is_reported_and_doesnt_end_the_worker(stage: Stage) -> None:
    stage.target.failure = ZeroDivisionError("oh")
    stage.worker.want([limit()])
    until(lambda: bool(stage.failures()))
    assert stage.failures()[0] == "unexpected: ZeroDivisionError: oh"
    stage.target.failure = None
    until(stage.found(limit()))


def test_a_new_wish_shortens_a_long_rest(target: Scripted) -> None:
    target.failure = TargetFailed("429", retry_after_seconds=500)
    stage = Stage(target)
    try:
        stage.worker.want([limit(1)])
        until(lambda: len(stage.failures()) >= 1)
        failed_at = time.monotonic()
        target.failure = None
        stage.worker.want([limit(2)])
        until(stage.found(limit(2)), timeout_seconds=20)
        assert time.monotonic() - failed_at < 20, "and not 500"
    finally:
        stage.worker.stop()
        stage.worker.join(10)


def test_wishes_without_end_are_no_storm_on_a_target_that_is_away(stage: Stage) -> None:
    stage.target.failure = TargetFailed("503", retry_after_seconds=60)
    stage.target.fails_reads = False
    begun = time.monotonic()
    revision = 0
    while time.monotonic() - begun < 4:
        revision += 1
        stage.worker.want([limit(revision)])
        time.sleep(0.005)
    seconds = time.monotonic() - begun
    assert revision > 50
    assert 2 <= len(stage.target.writes) <= seconds + 2, "one a second at most"
    assert stage.target.writes[-1][1][0].revision > revision / 2, "and each with the newest wish"


def test_a_target_cant_ask_for_more_rest_than_the_longest_one(target: Scripted) -> None:
    target.failure = TargetFailed("429", retry_after_seconds=80_000)
    stage = Stage(target, longest_seconds=0.2)
    try:
        stage.worker.want([limit()])
        until(lambda: len(target.writes) >= 3, timeout_seconds=20)
    finally:
        stage.worker.stop()
        stage.worker.join(10)


def test_what_a_target_asks_for_is_kept(target: Scripted) -> None:
    target.failure = TargetFailed("429", retry_after_seconds=1.5)
    target.fails_reads = False
    stage = Stage(target)
    try:
        stage.worker.want([limit()])
        until(lambda: len(target.writes) >= 2)
        (first, _), (second, _) = target.writes[:2]
        assert second - first >= 1.5
    finally:
        stage.worker.stop()
        stage.worker.join(10)


def test_a_refusal_is_reported_the_others_are_in_force_and_it_is_tried_again(target: Scripted) -> None:
    ocr = limit(task="ocr")
    target.refused = {ocr.key: Refused("no such route")}
    stage = Stage(target, reconcile_seconds=0.1)
    try:
        stage.worker.want([limit(), ocr])
        until(stage.found(limit()))
        until(lambda: LimitRejected(ocr.key, 1, "no such route", None, 7) in stage.results())
        assert stage.failures() == []
        target.refused = {}
        until(stage.found(ocr))
    finally:
        stage.worker.stop()
        stage.worker.join(10)


def test_a_limit_that_envoy_would_not_take_is_refused_here_and_the_others_go_on(stage: Stage) -> None:
    """Seen on Envoy 1.40: of a route file with such a bucket it takes nothing."""
    ocr = replace(limit(task="ocr"), bucket=TokenBucket(2**32, 10, 1000))
    client = replace(limit(task="embed"), clients={"batch": TokenBucket(2**32, 10, 1000)})
    stage.worker.want([ocr, client, limit()])
    until(stage.found(limit()))
    assert all(limits == [limit()] for _, limits in stage.target.writes)
    until(lambda: sum(isinstance(one, LimitRejected) for one in stage.results()) >= 2)
    assert (
        "set a ceiling_qps" in next(one for one in stage.results() if isinstance(one, LimitRejected)).reason
    )


def test_a_newer_revision_at_the_target_is_reported_with_it(stage: Stage) -> None:
    stage.target.refused = {CHAT: Refused("it has 9", 9)}
    stage.worker.want([limit(4)])
    until(lambda: LimitRejected(CHAT, 4, "it has 9", 9, 7) in stage.results())


def test_it_looks_by_itself_now_and_then_and_when_asked_to(target: Scripted) -> None:
    stage = Stage(target, reconcile_seconds=0.05)
    try:
        until(lambda: target.reads >= 5)
    finally:
        stage.worker.stop()
        stage.worker.join(10)
    assert target.writes == []
    asked = Stage(target)
    try:
        until(lambda: len(asked.results()) == 1)
        asked.worker.look()
        until(lambda: len(asked.results()) == 2)
    finally:
        asked.worker.stop()
        asked.worker.join(10)


def test_after_the_end_nothing_more_is_written(stage: Stage) -> None:
    stage.target.hangs.set()
    stage.worker.want([limit(1)])
    until(lambda: len(stage.target.writes) == 1)
    stage.worker.want([limit(2)])
    stage.worker.stop()
    stage.target.hangs.clear()
    stage.worker.join(10)
    assert [limits[0].revision for _, limits in stage.target.writes] == [1]
    stage.worker.want([limit(3)])
    time.sleep(0.1)
    assert len(stage.target.writes) == 1


def test_the_end_is_not_held_up_by_a_long_rest(stage: Stage) -> None:
    stage.target.failure = TargetFailed("429", retry_after_seconds=500)
    stage.worker.want([limit()])
    until(lambda: bool(stage.failures()))
    started = time.monotonic()
    stage.worker.stop()
    stage.worker.join(60)
    assert time.monotonic() - started < 30
