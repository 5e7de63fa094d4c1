"""The controller's book: timelines of what happens, and what must follow. Times are ms since the start."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.limit_events import CHAT, GATEWAY, START_MS, Play, change, control, task
from tidegate.jobs.logic.limits.book import LimitBook
from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.jobs.logic.limits.inputs import Timing
from tidegate.jobs.logic.limits.rate_limits import Pace, TokenBucket
from tidegate.schemas.catalog import ClientLimits
from tidegate.schemas.rows.limits import RateLimitRow
from tidegate.schemas.timestamps import from_epoch_ms

OTHER = TaskKey("vision", "ocr")


def test_the_first_limit_is_capacity_over_gateways() -> None:
    play = Play().ready(replicas=4, gateways=2)
    assert play.states() == ["decided", "applied"]
    row = play.rows[-1]
    assert (row.limit_qps, row.limit_qps_per_gateway, row.burst, row.replicas, row.gateways) == (
        40,
        20,
        20,
        4,
        2,
    )
    assert row.change_id == "vision|chat|1"


def test_nothing_is_decided_before_the_target_has_been_read() -> None:
    play = Play()
    play.book.apply_change(change(4))
    play.book.observe_gateway(GATEWAY, 1, START_MS)
    assert play.book.decide(START_MS) == []
    assert play.book.unread_gateways() == {GATEWAY}
    assert play.book.wanted_limits(GATEWAY) == []


def test_nothing_is_decided_without_replicas_or_gateways() -> None:
    play = Play()
    play.book.apply_change(change(4))
    assert play.step(0).rows == []
    play = Play()
    play.book.observe_gateway(GATEWAY, 1, START_MS)
    assert play.step(0).rows == []


def test_a_cut_goes_out_at_once_and_a_raise_in_steps() -> None:
    play = Play().ready(replicas=4)
    play.book.apply_change(change(1, revision=2))
    play.step(100)
    play.book.apply_change(change(8, revision=3))
    for at_ms in range(200, 60_000, 100):
        play.observe_counts(at_ms)
        play.step(at_ms)
    assert play.limits() == [40, 10, 20, 40, 80]
    applied = [row.decided_at.timestamp() for row in play.rows if row.state == "applied"]
    assert applied[1] - applied[0] == pytest.approx(0.1)
    assert min(later - before for before, later in pairwise(applied[1:])) >= 10


def test_an_older_change_says_nothing() -> None:
    play = Play().ready(replicas=4)
    play.book.apply_change(change(2, revision=3))
    play.step(10)
    play.book.apply_change(change(9, revision=2))
    play.step(20_000)
    assert play.limits() == [40, 20]


def test_zero_replicas_of_a_live_source_is_the_floor() -> None:
    play = Play(task(floor_qps=2.0)).ready(replicas=4)
    play.book.apply_change(change(0, revision=2))
    play.step(10)
    assert play.limits() == [40, 2]


def test_more_gateways_cut_each_ones_share_at_once() -> None:
    play = Play().ready(replicas=4, gateways=1)
    play.book.observe_gateway(GATEWAY, 2, START_MS + 10)
    play.step(10)
    assert play.limits() == [40, 20]


def test_no_ready_gateway_holds_and_is_reported() -> None:
    play = Play().ready()
    play.book.observe_gateway(GATEWAY, 0, START_MS + 10)
    play.book.apply_change(change(1, revision=2))
    play.step(10)
    assert play.limits() == [40]
    assert play.rows[-1].state == "held"
    assert "no ready pod" in play.rows[-1].reason


def test_a_silent_source_holds_and_the_alarm_comes_again() -> None:
    play = Play(timing=Timing(silent_ms=90_000, alarm_ms=300_000)).ready(replicas=4)
    for at_ms in range(1_000, 700_000, 1_000):
        play.step(at_ms)
    held = [row for row in play.rows if row.state == "held"]
    assert play.limits() == [40]
    assert [row.decided_at for row in held] == [
        from_epoch_ms(START_MS + at) for at in (91_000, 391_000, 691_000)
    ]
    assert all(row.limit_qps_per_gateway == 40 and row.applied_at for row in held)
    assert "has been silent since" in held[0].reason


def test_a_source_that_never_spoke_is_reported_too() -> None:
    play = Play()
    for at_ms in range(0, 100_000, 1_000):
        play.step(at_ms)
    assert play.states() == ["held"]
    assert play.rows[0].limit_qps is None
    assert "has sent no heartbeat yet" in play.rows[0].reason


def test_in_silence_nothing_rises_and_the_catalog_can_still_cut() -> None:
    play = Play(pace=Pace(max_raise=1.5)).ready(replicas=2)
    play.book.apply_change(change(4, revision=2))
    play.step(10_000)
    assert play.limits() == [20, 30]
    play.step(100_000)
    assert play.limits() == [20, 30]
    play.book.apply_catalog([task(qps_per_replica=5.0)])
    play.step(100_010)
    assert play.limits() == [20, 30, 20]


def test_a_pause_stops_every_push_until_it_is_over() -> None:
    play = Play().ready(replicas=4)
    play.book.apply_control(control(paused=True))
    play.book.apply_change(change(1, revision=2))
    play.step(10)
    assert play.limits() == [40]
    assert play.rows[-1].state == "held"
    assert "paused by ann" in play.rows[-1].reason
    play.book.apply_control(control(paused=False))
    play.step(20)
    assert play.limits() == [40, 10]


def test_a_pause_of_all_holds_each_task() -> None:
    play = Play(task(), task(name="ocr", route="ocr")).ready()
    play.book.apply_control(control("*", paused=True))
    for key in (CHAT, OTHER):
        play.book.apply_change(change(1, revision=2, key=key))
    play.step(10)
    assert play.limits() == play.limits(OTHER) == [40]


def test_an_override_holds_at_once_and_ends_by_itself() -> None:
    play = Play().ready(replicas=4, gateways=2)
    until = from_epoch_ms(START_MS + 30_000)
    play.book.apply_control(control(override_qps=100.0, expires_at=until))
    play.step(10)
    assert play.limits() == [20, 50]
    assert play.book.next_due_ms(START_MS + 20) == START_MS + 30_000
    play.step(29_999)
    assert play.limits() == [20, 50]
    play.step(30_000)
    assert play.limits() == [20, 50, 20]


def test_an_override_stays_between_floor_and_ceiling() -> None:
    play = Play(task(floor_qps=5.0, ceiling_qps=60.0)).ready()
    until = from_epoch_ms(START_MS + 30_000)
    play.book.apply_control(control(override_qps=0.5, expires_at=until))
    play.step(10)
    play.book.apply_control(control(override_qps=500.0, expires_at=until))
    play.step(20)
    assert play.limits() == [40, 5, 60]


def test_a_catalog_change_takes_effect_at_once() -> None:
    play = Play().ready(replicas=4)
    play.book.apply_catalog([task(qps_per_replica=2.0)])
    play.step(10)
    assert play.limits() == [40, 8]


def test_a_task_that_leaves_the_catalog_keeps_its_limit() -> None:
    play = Play().ready()
    play.book.apply_catalog([])
    play.step(10)
    assert play.in_force() is not None
    assert play.limits() == [40]


def test_a_changed_route_or_client_limit_is_pushed_with_the_same_limit() -> None:
    play = Play().ready()
    play.book.apply_catalog([task(clients=ClientLimits(limit_qps=5.0, named={"batch": 20.0}))])
    play.step(10)
    limit = play.in_force()
    assert limit is not None
    assert limit.client is not None
    assert (limit.client.qps, limit.clients["batch"].qps) == (5, 20)
    play.book.apply_catalog([task(route="chat-2")])
    play.step(20)
    limit = play.in_force()
    assert limit is not None
    assert (limit.route, limit.clients, limit.client) == ("chat-2", {}, None)
    assert play.limits() == [40, 40, 40]


def test_somebody_elses_change_is_put_right_and_reported() -> None:
    play = Play().ready()
    limit = play.in_force()
    assert limit is not None
    play.held[GATEWAY][CHAT] = replace(limit, bucket=TokenBucket(999, 999, 1000))
    play.step(10_000)
    fixed = play.in_force()
    assert fixed is not None
    assert (fixed.bucket, fixed.revision) == (limit.bucket, limit.revision + 1)
    assert "drift: the limit was changed by hand to 999 qps" in play.rows[-1].reason
    play.held[GATEWAY].clear()
    play.step(20_000)
    assert "was gone" in play.rows[-1].reason
    assert play.in_force() is not None
    play.step(30_000)
    assert play.writes == 3


def test_what_cannot_be_written_is_reported_once_and_stays_under_way() -> None:
    play = Play().ready()
    play.works = False
    play.book.apply_change(change(1, revision=2))
    play.step(10)
    for at_ms in (100, 200, 300):
        play.rows += play.book.observe_failure(GATEWAY, "503", START_MS + at_ms)
        play.rows += play.book.decide(START_MS + at_ms)
    assert play.states() == ["decided", "applied", "decided", "failed"]
    play.works = True
    play.carry_out(400)
    assert play.limits() == [40, 10]


def test_a_raise_under_way_gives_way_to_a_cut_and_to_nothing_else() -> None:
    play = Play().ready(replicas=2)
    play.works = False
    play.book.apply_change(change(4, revision=2))
    play.step(10_000)
    play.book.apply_change(change(8, revision=3))
    play.step(30_000)
    assert [limit.bucket.qps for limit in play.book.wanted_limits(GATEWAY)] == [40]
    play.book.apply_change(change(3, revision=4))
    play.step(30_010)
    assert [limit.bucket.qps for limit in play.book.wanted_limits(GATEWAY)] == [30]
    play.book.apply_change(change(1, revision=5))
    play.step(30_020)
    play.works = True
    play.carry_out(30_030)
    assert play.limits() == [20, 10]


def test_cuts_come_before_raises() -> None:
    play = Play(task(), task(name="ocr", route="ocr"), timing=Timing(raises_together_ms=1)).ready(replicas=4)
    play.works = False
    play.book.apply_change(change(8, revision=2, key=CHAT))
    play.book.apply_change(change(1, revision=2, key=OTHER))
    play.step(20_000)
    assert [limit.key for limit in play.book.wanted_limits(GATEWAY)] == [OTHER, CHAT]


def test_the_raises_of_a_gateway_go_together_and_cuts_dont_wait_for_them() -> None:
    tasks = [task(name=f"t{index}", route=f"t{index}") for index in range(6)]
    keys = [TaskKey("vision", one.name) for one in tasks]
    play = Play(*tasks, timing=Timing(raises_together_ms=5_000)).ready(replicas=4)
    before = play.writes
    for index, key in enumerate(keys[:5]):
        play.observe_counts(20_000 + index * 500)
        play.book.apply_change(change(8, revision=2, key=key))
        play.step(20_000 + index * 500)
    assert play.writes == before + 1
    play.book.apply_change(change(1, revision=2, key=keys[5]))
    play.step(22_500)
    assert (play.writes, play.limits(keys[5])) == (before + 2, [40, 10])
    assert play.book.next_due_ms(START_MS + 22_600) == START_MS + 25_000
    play.step(25_000)
    assert play.writes == before + 3
    assert [play.limits(key) for key in keys[:5]] == [[40, 80]] * 5


def test_a_newer_revision_at_the_target_is_read_before_anything_else_is_decided() -> None:
    play = Play().ready()
    play.works = False
    play.book.apply_change(change(1, revision=2))
    play.step(10)
    limit = play.in_force()
    assert limit is not None
    play.held[GATEWAY][CHAT] = replace(limit, revision=9)
    rows = play.book.observe_rejection(CHAT, 2, "the file has revision 9", 9, START_MS + 20)
    assert [row.state for row in rows] == ["failed"]
    assert play.book.decide(START_MS + 30) == []
    play.works = True
    play.step(40)
    assert play.limits() == [40, 10]
    fixed = play.in_force()
    assert fixed is not None
    assert fixed.revision == 10


def restarted(play: Play, at_ms: int, rows: list[RateLimitRow] | None = None) -> LimitBook:
    """Another controller, from the newest row of each task."""
    book = play.new_book(at_ms)
    for row in play.rows if rows is None else rows:
        book.restore(row)
    book.apply_change(change(4))
    book.observe_heartbeat(CHAT, START_MS + at_ms)
    book.observe_gateway(GATEWAY, 1, START_MS + at_ms)
    return book


def test_after_a_restart_what_is_in_force_stays_untouched() -> None:
    play = Play().ready()
    writes = play.writes
    play.book = restarted(play, 1_000)
    play.step(1_000)
    play.step(60_000)
    assert play.writes == writes
    assert play.states() == ["decided", "applied"]


def test_a_push_that_was_decided_and_not_made_is_made_once_after_the_restart() -> None:
    play = Play().ready(replicas=2)
    play.works = False
    play.book.apply_change(change(4, revision=2))
    play.step(20_000)
    play.works = True
    play.book = restarted(play, 21_000)
    play.step(21_000)
    play.step(60_000)
    assert play.limits() == [20, 40]
    limit = play.in_force()
    assert limit is not None
    assert limit.revision == 2


def test_a_push_that_was_made_and_not_reported_is_reported_after_the_restart() -> None:
    play = Play().ready(replicas=2)
    play.works = False
    play.book.apply_change(change(4, revision=2))
    play.step(20_000)
    (limit,) = play.book.wanted_limits(GATEWAY)
    play.held[GATEWAY][CHAT] = limit
    writes = play.writes
    play.works = True
    play.book = restarted(play, 21_000)
    play.step(21_000)
    play.step(60_000)
    assert play.limits() == [20, 40]
    assert play.writes == writes


def test_without_its_topic_a_controller_takes_over_what_the_target_holds() -> None:
    play = Play().ready(replicas=4)
    writes = play.writes
    play.book = restarted(play, 1_000, rows=[])
    play.step(1_000)
    play.step(60_000)
    assert play.writes == writes
    play.book.apply_change(change(1, revision=2))
    play.step(60_010)
    limit = play.in_force()
    assert limit is not None
    assert (limit.revision, limit.bucket.qps) == (2, 10)


def test_a_stale_raise_that_a_crash_left_behind_is_not_made_when_the_replicas_have_gone() -> None:
    play = Play().ready(replicas=2)
    play.works = False
    play.book.apply_change(change(4, revision=2))
    play.step(20_000)
    play.works = True
    play.book = restarted(play, 21_000)
    play.book.apply_change(change(1, revision=3))
    play.step(21_000)
    assert play.limits() == [20, 10]


def test_explaining_says_numbers_events_and_what_comes_next() -> None:
    play = Play(task(headroom=0.5)).ready(replicas=4, gateways=2)
    play.book.apply_control(control(paused=True))
    text = "\n".join(play.book.explain(CHAT, START_MS + 1_500))
    for part in (
        "4 x 10 x 0.5 = 20 qps, / 2 gateways = 10 a gateway",
        "by change vision|chat|1; last heartbeat 1.5 s ago",
        "in force: 10 qps a gateway, burst 10, revision 1",
        "now: hold, this task is paused by ann: a load test",
    ):
        assert part in text


# Laws


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["replicas", "gateways", "catalog", "silence", "pause", "fail", "edit"]),
        st.integers(0, 12),
        st.integers(100, 15_000),
    ),
    max_size=40,
)


@given(EVENTS)
@settings(max_examples=examples(300), deadline=None)
def test_the_laws_of_limits_hold_whatever_happens(events: list[tuple[str, int, int]]) -> None:
    pace = Pace(max_raise=2.0, raise_every_ms=10_000, deadband=0.05)
    one = task(floor_qps=3.0, ceiling_qps=90.0)
    play = Play(one, pace=pace).ready()
    at_ms, revision, speaks = 0, 1, True
    replicas, gateways, catalog = 4, 1, one
    for kind, number, wait_ms in events:
        at_ms += wait_ms
        before = play.in_force()
        if speaks:
            play.observe_counts(at_ms)
        if kind == "replicas":
            revision += 1
            replicas = number
            play.book.apply_change(change(number, revision=revision))
        elif kind == "gateways":
            gateways = number or 1
            play.book.observe_gateway(GATEWAY, gateways, START_MS + at_ms)
        elif kind == "catalog":
            catalog = task(floor_qps=3.0, ceiling_qps=90.0, qps_per_replica=number + 0.5)
            play.book.apply_catalog([catalog])
        elif kind == "silence":
            speaks = number > 6
        elif kind == "pause":
            play.book.apply_control(control(paused=number > 8))
        elif kind == "fail":
            play.works = number > 6
        elif before is not None and number > 6:
            play.held[GATEWAY][CHAT] = replace(before, bucket=TokenBucket(7, 7, 1000))
        play.step(at_ms)
        check_laws(play.rows, pace)
        if kind == "silence":
            rows = [
                row
                for row in play.rows
                if row.state == "decided" and row.decided_at == from_epoch_ms(START_MS + at_ms)
            ]
            assert all("cut" not in row.reason for row in rows), "silence never lowers"
    play.works = True
    play.book.apply_control(control(paused=False))
    for _ in range(40):
        at_ms += 11_000
        play.observe_counts(at_ms)
        play.step(at_ms)
    limit = play.in_force()
    assert limit is not None
    target = min(max(replicas * catalog.qps_per_replica, 3.0), 90.0) / gateways
    assert target * 0.93 <= limit.bucket.qps <= target * 1.0001


def check_laws(rows: list[RateLimitRow], pace: Pace) -> None:
    in_force: RateLimitRow | None = None
    for row in rows:
        if row.limit_qps is None or row.limit_qps_per_gateway is None or row.gateways is None:
            continue
        assert row.limit_qps_per_gateway * row.gateways <= row.limit_qps * (1 + 1e-9)
        if row.state == "decided":
            assert row.limit_qps <= 90.0 * (1 + 1e-9) or "drift" in row.reason
            assert row.limit_qps >= 3.0 * (1 - 1e-9) or in_force is not None
            if in_force is not None and in_force.limit_qps_per_gateway is not None:
                raised = row.limit_qps_per_gateway / in_force.limit_qps_per_gateway
                assert raised <= pace.max_raise * (1 + 1e-9)
        if row.state == "applied":
            in_force = row


@given(st.permutations(range(6)), st.integers(1, 3))
def test_events_of_one_moment_give_the_same_limits_in_any_order_and_batching(
    order: list[int], batch: int
) -> None:
    plays = []
    for arrangement, size in ((range(6), 6), (order, batch)):
        play = Play().ready(replicas=4, gateways=2)
        events = [
            lambda p: p.book.apply_change(change(3, revision=2)),
            lambda p: p.book.apply_change(change(2, revision=3)),
            lambda p: p.book.apply_change(change(1, revision=4)),
            lambda p: p.book.observe_gateway(GATEWAY, 4, START_MS + 60_000),
            lambda p: p.book.observe_heartbeat(CHAT, START_MS + 60_000),
            lambda p: p.book.apply_control(control(paused=False)),
        ]
        for start in range(0, 6, size):
            for index in list(arrangement)[start : start + size]:
                events[index](play)
            play.step(60_000)
        plays.append(play)
    assert plays[0].in_force() is not None
    assert plays[0].limits()[-1] == plays[1].limits()[-1]
