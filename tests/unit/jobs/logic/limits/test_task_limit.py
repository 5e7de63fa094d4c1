"""One task's limit alone: at second 0 this, at second 4 that, and what must follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.limit_events import GATEWAY, START_MS, change, control, task
from tidegate.jobs.logic.limits.envoy_limits import Limit
from tidegate.jobs.logic.limits.explanation import explain
from tidegate.jobs.logic.limits.inputs import GatewayState, Session, Situation, Timing
from tidegate.jobs.logic.limits.rate_limits import Hold, Pace, Push, TokenBucket
from tidegate.jobs.logic.limits.task_limit import TaskLimit
from tidegate.schemas.catalog import ClientLimits, Task
from tidegate.schemas.rows.limits import LimitControl, RateLimitRow
from tidegate.schemas.timestamps import from_epoch_ms

SESSION = Session(Pace(), Timing(silent_ms=90_000, alarm_ms=300_000), "test", START_MS)


class Timeline:
    """A task's limit and its route at the target; times in seconds since the start."""

    def __init__(self, **fields: Any) -> None:
        self.limit = TaskLimit(SESSION)
        self.task: Task = task(**fields)
        self.gateway = GatewayState(GATEWAY, 1, START_MS)
        self.controls: list[LimitControl] = []
        self.route: Limit | None = None
        self.rows: list[RateLimitRow] = []

    def at(self, second: float) -> Situation:
        return Situation(START_MS + round(second * 1000), self.task, self.gateway, self.controls)

    def replicas(self, second: float, ready: int, revision: int) -> None:
        self.limit.apply_change(change(ready, revision))
        self.heartbeat(second)

    def heartbeat(self, second: float) -> None:
        now_ms = START_MS + round(second * 1000)
        self.limit.observe_heartbeat(now_ms)
        self.gateway = self.gateway.with_ready(self.gateway.ready or 0, now_ms)

    def read_back(self, second: float) -> RateLimitRow | None:
        return self._add(self.limit.observe_limit(self.route, self.at(second)))

    def decide(self, second: float) -> RateLimitRow | None:
        return self._add(self.limit.decide(self.at(second)))

    def push(self, second: float) -> None:
        """Decide, write to the route what is wanted, and read it back."""
        self.decide(second)
        if self.limit.wanted is not None:
            self.route = self.limit.wanted.limit
            self.read_back(second)

    def pushes(self) -> list[tuple[str, float | None]]:
        return [(row.state, row.limit_qps) for row in self.rows]

    def _add(self, row: RateLimitRow | None) -> RateLimitRow | None:
        self.rows += [row] if row else []
        return row


@pytest.fixture
def timeline() -> Timeline:
    """Four ready replicas on one gateway, and a limit of 40 qps in force at second 0."""
    found = Timeline()
    found.replicas(0, 4, 1)
    found.read_back(0)
    found.push(0)
    assert found.pushes() == [("decided", 40), ("applied", 40)]
    found.rows.clear()
    return found


def test_nothing_is_decided_before_the_route_has_been_read() -> None:
    timeline = Timeline()
    timeline.replicas(0, 4, 1)
    assert timeline.limit.decision(timeline.at(0)) == Hold(
        f"the limits of gateway {GATEWAY} have not been read yet"
    )
    assert timeline.decide(0) is None
    timeline.read_back(1)
    assert isinstance(timeline.limit.decision(timeline.at(1)), Push)


def test_a_cut_is_pushed_at_once_and_a_raise_in_steps(timeline: Timeline) -> None:
    timeline.replicas(4, 1, 2)
    timeline.push(4)
    timeline.replicas(5, 4, 3)
    for second in range(5, 40):
        timeline.heartbeat(second)
        timeline.push(second)
    applied = [(row.applied_at, row.limit_qps) for row in timeline.rows if row.state == "applied"]
    seconds = [(at.timestamp() - START_MS / 1000, qps) for at, qps in applied if at]
    assert seconds == [(4, 10), (14, 20), (24, 40)]


def test_a_push_is_in_force_once_the_route_holds_it(timeline: Timeline) -> None:
    timeline.replicas(4, 2, 2)
    timeline.decide(4)
    assert timeline.read_back(5) is None, "the route still holds the old limit"
    pending = timeline.limit.state.pending
    assert pending is not None
    assert timeline.limit.wanted == pending
    timeline.route = pending.limit
    row = timeline.read_back(6)
    assert row is not None
    assert (row.state, row.limit_qps, row.applied_at) == ("applied", 20, from_epoch_ms(START_MS + 6000))
    assert timeline.limit.wanted is None
    assert timeline.limit.state.applied == replace(pending, applied_ms=START_MS + 6000)


def test_only_a_lower_limit_or_another_route_replaces_a_push_under_way(timeline: Timeline) -> None:
    timeline.replicas(20, 6, 2)
    timeline.decide(20)
    timeline.replicas(24, 8, 3)
    assert timeline.decide(24) is None
    timeline.replicas(26, 5, 4)
    timeline.decide(26)
    timeline.task = task(route="chat-2")
    timeline.decide(27)
    assert [(row.limit_qps, row.revision) for row in timeline.rows] == [(60, 2), (50, 3), (50, 4)]
    assert timeline.rows[-1].reason == "route is now 'chat-2'"


def test_a_pause_at_second_4_stops_the_push_of_second_3(timeline: Timeline) -> None:
    timeline.replicas(3, 1, 2)
    timeline.decide(3)
    timeline.controls = [control(paused=True)]
    row = timeline.decide(4)
    assert row is not None
    assert (row.state, row.reason) == ("held", "this task is paused by ann: a load test")
    assert timeline.limit.wanted is None
    timeline.controls = []
    timeline.decide(5)
    assert timeline.limit.wanted is not None
    assert timeline.limit.wanted.push.limit_qps == 10


def test_drift_at_second_4_is_corrected_with_the_next_revision(timeline: Timeline) -> None:
    right = timeline.route
    assert right is not None
    timeline.route = replace(right, bucket=TokenBucket(999, 999, 1000))
    assert timeline.read_back(4) is None
    timeline.push(5)
    assert timeline.route == replace(right, revision=2)
    assert timeline.rows[-1].reason == (
        "drift: the limit was changed by hand to 999 qps, burst 999, or its clients"
    )


def test_a_rejected_push_stays_under_way_and_its_reason_is_published_once(timeline: Timeline) -> None:
    timeline.replicas(4, 1, 2)
    timeline.decide(4)
    rows = [timeline.limit.observe_rejection(2, "503", None, timeline.at(second)) for second in (5, 6, 400)]
    assert [row.state if row else None for row in rows] == ["failed", None, "failed"]
    assert timeline.limit.observe_rejection(1, "503", None, timeline.at(7)) is None, "of an older push"
    assert timeline.limit.wanted is not None


def test_a_newer_revision_at_the_target_is_taken_over_before_the_next_decision(timeline: Timeline) -> None:
    timeline.replicas(4, 1, 2)
    timeline.decide(4)
    assert timeline.route is not None
    timeline.route = replace(timeline.route, revision=7)
    timeline.limit.observe_rejection(2, "revision 7 is newer", 7, timeline.at(5))
    assert timeline.decide(6) is None
    timeline.read_back(7)
    timeline.push(7)
    assert timeline.route is not None
    assert (timeline.route.revision, timeline.route.bucket.qps) == (8, 10)


def test_silence_from_second_90_on_holds_until_a_heartbeat(timeline: Timeline) -> None:
    assert timeline.decide(90) is None
    row = timeline.decide(91)
    assert row is not None
    assert row.reason == (
        f"the source of the task's replicas has been silent since {change(1).settled_at:%Y-%m-%dT%H:%M:%S}.000Z: "
        "the last limit holds"
    )
    assert timeline.decide(92) is None, "published a second ago"
    timeline.heartbeat(93)
    assert timeline.decide(93) is None
    assert timeline.limit.hold_has_ended
    row = timeline.limit.end_hold(timeline.at(93))
    assert row is not None
    assert (row.state, row.limit_qps, row.revision) == ("applied", 40, 1)
    assert not timeline.limit.hold_has_ended


def test_a_failed_read_is_published_of_a_push_under_way_and_of_a_task_that_was_never_read(
    timeline: Timeline,
) -> None:
    assert timeline.limit.observe_failure("503", timeline.at(1)) is None
    timeline.replicas(4, 1, 2)
    timeline.decide(4)
    failed = timeline.limit.observe_failure("503", timeline.at(5))
    assert failed is not None
    assert (failed.state, failed.revision, failed.limit_qps) == ("failed", 2, 10)
    never_read = Timeline().limit.observe_failure("503", timeline.at(5))
    assert never_read is not None
    assert (never_read.state, never_read.revision, never_read.limit_qps) == ("failed", 0, None)


def test_an_explanation_shows_inputs_limits_and_the_decision(timeline: Timeline) -> None:
    timeline.task = task(ceiling_qps=30.0, clients=ClientLimits(limit_qps=5.0))
    timeline.controls = [control(override_qps=20.0, expires_at=from_epoch_ms(START_MS + 60_000))]
    timeline.gateway = timeline.gateway.with_failure("503: overloaded", START_MS)
    timeline.decide(2)
    overridden = "this task is overridden to 20 qps by ann until 2026-11-24T10:01:00.000Z: a load test"
    assert explain(timeline.limit.explained(timeline.at(4))) == [
        f"vision/chat, route 'chat' of gateway {GATEWAY}",
        "  catalog: 10 qps a replica, headroom 1, floor 1, ceiling 30, burst 1 s",
        "  ready replicas: 4, by change vision|chat|1; last heartbeat 4.0 s ago",
        "  ready gateways: 1; last heartbeat 4.0 s ago",
        "  computed: 4 x 10 x 1 = 40 qps, ceiling 30 qps, / 1 gateways = 30 a gateway",
        "  in force: 40 qps a gateway, burst 40, revision 1, since 2026-11-24T10:00:00.000Z (first limit)",
        f"  under way: 20 qps a gateway, revision 2, since 2026-11-24T10:00:02.000Z ({overridden})",
        f"  last published: decided, revision 2, 2026-11-24T10:00:02.000Z ({overridden})",
        f"  control: {overridden}",
        f"  gateway {GATEWAY} is unreachable: 503: overloaded",
        "  now: hold, the push of revision 2 is under way",
    ]


def test_an_explanation_of_an_unknown_task_says_what_is_unknown() -> None:
    timeline = Timeline()
    timeline.gateway = GatewayState(GATEWAY)
    assert explain(timeline.limit.explained(timeline.at(0)))[2:] == [
        "  ready replicas: unknown; no heartbeat yet",
        "  ready gateways: unknown; no heartbeat yet",
        "  in force: no limit that tidegate has pushed",
        f"  now: hold, the limits of gateway {GATEWAY} have not been read yet",
    ]
