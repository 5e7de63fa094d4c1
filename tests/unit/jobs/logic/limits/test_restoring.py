"""A limit rebuilt at a controller's start, from its last row and from the target: what counts where they differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.limit_events import CHAT, GATEWAY, START_MS, change, task
from tidegate.jobs.logic.limits.envoy_limits import Limit
from tidegate.jobs.logic.limits.inputs import (
    GatewayState,
    ReplicasState,
    Session,
    Situation,
    TaskState,
    Timing,
)
from tidegate.jobs.logic.limits.rate_limits import Pace, TokenBucket
from tidegate.jobs.logic.limits.restoring import (
    published_hold_ms,
    restore_inputs,
    restore_limits,
    take_over,
)
from tidegate.jobs.logic.limits.task_limit import TaskLimit
from tidegate.schemas.catalog import ClientLimits
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.timestamps import from_epoch_ms

READ = TaskState(read_back=True)


def row(
    state: str, revision: int, decided: float, applied: float | None = None, **fields: Any
) -> RateLimitRow:
    """A row of 20 qps on each of two gateways; times in seconds since the start."""
    values: dict[str, Any] = {
        "id": str(CHAT),
        "department": CHAT.department,
        "task": CHAT.task,
        "gateway": GATEWAY,
        "replicas": 4,
        "qps_per_replica": 10.0,
        "gateways": 2,
        "limit_qps": 40.0,
        "limit_qps_per_gateway": 20.0,
        "burst": 20,
        "state": state,
        "reason": "first limit",
        "change_id": "vision|chat|1",
        "revision": revision,
        "decided_at": from_epoch_ms(ms(decided)),
        "applied_at": None if applied is None else from_epoch_ms(ms(applied)),
        "target": "test",
    }
    return RateLimitRow(**values | fields)


def ms(second: float) -> int:
    return START_MS + round(second * 1000)


def route(revision: int, qps: int = 20, **fields: Any) -> Limit:
    return Limit(CHAT, "chat", revision, TokenBucket(qps, 1, 1000 // qps), **fields)


def at(second: float, **fields: Any) -> Situation:
    return Situation(ms(second), task(**fields), GatewayState(GATEWAY, 2, START_MS))


def restored(last: RateLimitRow, found: Limit | None, **fields: Any) -> TaskState:
    return restore_limits(READ, last, found, at(100, **fields))


def test_an_applied_row_and_its_route_are_in_force_since_the_rows_time() -> None:
    state = restored(row("applied", 3, decided=4, applied=5), route(3))
    assert state.pending is None
    assert state.applied is not None
    assert (state.applied.limit, state.applied.decided_ms, state.applied.applied_ms) == (
        route(3),
        ms(4),
        ms(5),
    )
    assert (state.applied.push.reason, state.applied.change_id) == ("first limit", "vision|chat|1")


@pytest.mark.parametrize("found", [None, route(2), route(3)], ids=["nothing", "older", "the same"])
def test_a_decided_row_is_a_push_under_way(found: Limit | None) -> None:
    state = restored(row("decided", 3, decided=4), found)
    assert state.pending is not None
    assert (state.pending.limit, state.pending.decided_ms, state.pending.applied_ms) == (
        route(3),
        ms(4),
        None,
    )
    assert (state.applied.limit if state.applied else None) == (route(2) if found == route(2) else None)


def test_a_newer_revision_at_the_target_is_not_overruled_by_the_row() -> None:
    for last in (row("applied", 3, 4, 5), row("decided", 3, 4)):
        assert restored(last, route(4)) == READ


def test_a_held_row_restores_the_limit_and_when_the_hold_was_published() -> None:
    held = row("held", 3, decided=90, applied=5, reason="the source is silent")
    state = restored(held, route(3))
    assert state.applied is not None
    assert (state.applied.decided_ms, state.applied.applied_ms) == (ms(5), ms(5))
    assert state.applied.push.reason == "in force before the hold"
    assert published_hold_ms(held) == ms(90)
    assert published_hold_ms(row("applied", 3, 4, 5)) is None


def test_a_row_without_a_limit_restores_none() -> None:
    nothing = row("held", 0, 90, limit_qps=None, limit_qps_per_gateway=None, burst=None)
    assert restored(nothing, None) == READ
    assert published_hold_ms(nothing) is None


def test_other_clients_in_the_catalog_are_a_later_push_and_not_drift() -> None:
    clients = {"client": TokenBucket(5, 1, 200)}
    state = restored(
        row("applied", 3, 4, 5),
        route(3, **clients),
        clients=ClientLimits(limit_qps=2.0, named={"batch": 1.0}),
    )
    assert state.applied is not None
    assert state.applied.limit == route(3, **clients)
    drifted = restored(row("applied", 3, 4, 5), route(3, qps=10))
    assert drifted.applied is not None
    assert drifted.applied.limit == route(3)


def test_inputs_come_from_the_row_unless_a_settled_change_is_known() -> None:
    last = row("applied", 3, 4, 5)
    assert restore_inputs(TaskState(), last) == TaskState(ReplicasState(4, "vision|chat|1"), 3)
    known = TaskState(ReplicasState().with_change(change(1, revision=9)))
    assert restore_inputs(known, last) == replace(known, revision=3)


def test_a_limit_without_a_row_is_taken_over_from_the_target() -> None:
    state = take_over(replace(READ, drift="drift"), route(6), at(100))
    assert state.applied is not None
    push = state.applied.push
    assert (push.limit_qps, push.limit_qps_per_gateway, push.gateways) == (40, 20, 2)
    assert push.reason == "revision 6 was taken over from the target"
    assert (state.applied.applied_ms, state.pending, state.drift) == (ms(100), None, None)


def test_at_second_0_the_row_at_second_4_the_route_and_then_nothing_is_pushed_again() -> None:
    limit = TaskLimit(Session(Pace(), Timing(), "test", ms(0)))
    limit.restore(row("applied", 3, decided=-9, applied=-8))
    limit.restore(row("applied", 2, decided=-20, applied=-19, replicas=1))
    limit.apply_change(change(4))
    limit.observe_heartbeat(ms(0))
    assert limit.observe_limit(route(3), at(4)) is None
    assert limit.decide(at(4)) is None
    limit.restore(row("applied", 5, decided=5, applied=5))
    assert limit.state.revision == 3, "after the first read a row counts no more"
    limit.apply_change(change(2, revision=2))
    decided = limit.decide(at(6))
    assert decided is not None
    assert (decided.revision, decided.limit_qps) == (4, 20)
