"""The controller's book on bad days: restarts, gateways that can't be reached, words that are taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.limit_events import CHAT, GATEWAY, START_MS, Play, change, control, task
from tidegate.jobs.logic.limits.envoy_limits import TaskKey
from tidegate.jobs.logic.limits.inputs import Timing
from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.catalog import ClientLimits
from tidegate.schemas.rows.limits import RateLimitRow

TIMING = Timing(silent_ms=90_000, alarm_ms=300_000)


def current(play: Play) -> RateLimitRow:
    return play.rows[-1].model_copy(update={"id": str(CHAT)})


def restarted(play: Play, at_ms: int, row: RateLimitRow | None = None) -> Play:
    """Another controller takes over, with the same target."""
    play.book = play.new_book(at_ms)
    play.book.restore(row or current(play))
    play.rows = []
    return play


@pytest.mark.parametrize("row_first", [True, False])
def test_a_change_that_came_while_no_controller_was_there_counts_in_whatever_order_it_is_read(
    row_first: bool,
) -> None:
    play = Play().ready(replicas=4)
    row = current(play)
    play.book = play.new_book(1000)
    play.rows = []
    if row_first:
        play.book.restore(row)
    play.book.apply_change(change(1, revision=2))
    if not row_first:
        play.book.restore(row)
    play.observe_counts(1000)
    play.book.observe_gateway(GATEWAY, 1, START_MS + 1000)
    play.step(1000)
    assert play.limits() == [10]
    assert play.rows[-1].change_id == "vision|chat|2"


def test_a_gateway_that_was_never_read_is_reported_once_and_without_numbers() -> None:
    play = Play()
    play.book.apply_change(change(4))
    for at_ms in (0, 500, 1500, 5000):
        play.rows += play.book.observe_failure(GATEWAY, "403: no right", START_MS + at_ms)
        play.rows += play.book.decide(START_MS + at_ms)
    (row,) = play.rows
    assert (row.state, row.revision, row.limit_qps, row.reason) == ("failed", 0, None, "403: no right")
    play.ready(at_ms=6000)
    assert play.states() == ["failed", "decided", "applied"]


def test_reasons_that_take_turns_are_reported_once_each() -> None:
    play = Play().ready()
    play.works = False
    play.book.apply_change(change(1, revision=2))
    play.step(10)
    for at_ms in range(100, 5000, 100):
        reason = "refused" if at_ms % 200 else f"timed out after {0.9 + at_ms / 1e6} s"
        play.rows += play.book.observe_failure(GATEWAY, reason, START_MS + at_ms)
    assert play.states() == ["decided", "applied", "decided", "failed", "failed"]


def test_a_start_at_a_gateway_that_is_away_forgets_nothing_of_the_last_limit() -> None:
    play = Play().ready(replicas=4)
    restarted(play, 1000)
    play.rows += play.book.observe_failure(GATEWAY, "away", START_MS + 1000)
    failed = play.rows[-1]
    assert (failed.state, failed.revision, failed.limit_qps, failed.burst) == ("failed", 1, 40, 40)
    restarted(play, 2000, failed)
    play.observe_counts(2000)
    play.book.observe_gateway(GATEWAY, 1, START_MS + 2000)
    writes = play.writes
    play.step(2000)
    assert play.limits() == [40]
    assert play.rows[-1].revision == 1
    assert play.writes <= writes + 1


def test_a_gateway_that_cant_be_read_for_long_is_reported_though_nothing_is_under_way() -> None:
    play = Play(timing=TIMING).ready()
    for at_ms in range(1_000, 200_000, 1_000):
        play.observe_counts(at_ms)
        play.rows += play.book.observe_failure(GATEWAY, "503", START_MS + at_ms)
        play.rows += play.book.decide(START_MS + at_ms)
    held = [row for row in play.rows if row.state == "held"]
    assert len(held) == 1
    assert "has been unreachable since" in held[0].reason
    assert held[0].reason.endswith(": 503")
    assert held[0].limit_qps == 40
    assert play.limits() == [40]


def test_a_gateway_that_is_away_for_a_moment_is_not_worth_a_row_for_each_task() -> None:
    play = Play(timing=TIMING).ready()
    play.rows += play.book.observe_failure(GATEWAY, "503", START_MS + 1000)
    play.observe_counts(2000)
    play.step(2000)
    assert play.states() == ["decided", "applied"]


def test_the_end_of_a_hold_is_reported_by_the_row_of_what_is_in_force() -> None:
    play = Play(timing=TIMING).ready()
    applied = play.rows[-1]
    play.step(100_000)
    assert play.states()[-1] == "held"
    assert play.book.ended_holds(START_MS + 100_000) == []
    play.observe_counts(101_000)
    play.step(101_000)
    assert play.book.ended_holds(START_MS + 101_000) == [applied]
    assert play.book.ended_holds(START_MS + 101_000) == []


def test_a_hold_that_ends_after_a_restart_is_reported_too_and_reported_again_only_when_due() -> None:
    play = Play(timing=TIMING).ready()
    play.step(100_000)
    held = current(play)
    assert held.state == "held"
    restarted(play, 110_000)
    play.book.observe_heartbeat(CHAT, START_MS)  # what the topic still holds of the source
    play.book.apply_change(change(4))
    play.book.observe_gateway(GATEWAY, 1, START_MS + 110_000)
    play.step(110_000)
    assert play.states() == [], "the same silence was published 10 s ago"
    play.observe_counts(120_000)
    play.step(120_000)
    (row,) = play.book.ended_holds(START_MS + 120_000)
    assert (row.state, row.revision, row.limit_qps) == ("applied", 1, 40)
    assert row.applied_at == held.applied_at
    assert row.applied_at is not None
    assert row.decided_at <= row.applied_at


def test_a_restart_in_silence_says_nothing_before_it_knows_what_holds() -> None:
    play = Play(timing=TIMING).ready()
    restarted(play, 200_000)
    play.book.observe_heartbeat(CHAT, START_MS)
    play.rows += play.book.decide(START_MS + 200_000)
    assert play.rows == []
    play.step(200_000)
    assert [(row.state, row.limit_qps) for row in play.rows] == [("held", 40)]


def test_a_pause_holds_back_what_is_under_way_too() -> None:
    play = Play().ready()
    play.works = False
    play.book.apply_change(change(1, revision=2))
    play.step(10)
    assert len(play.book.wanted_limits(GATEWAY)) == 1
    play.book.apply_control(control(paused=True))
    play.step(20)
    assert play.book.wanted_limits(GATEWAY) == []
    play.book.apply_control(control(paused=False))
    play.works = True
    play.step(30)
    assert play.limits() == [40, 10]


def test_a_word_that_is_taken_back_whole_holds_no_longer() -> None:
    play = Play().ready()
    play.book.apply_control(control(paused=True))
    play.book.apply_change(change(1, revision=2))
    play.step(10)
    assert play.limits() == [40]
    play.book.remove_control(str(CHAT))
    play.book.remove_control("never/said")
    play.step(20)
    assert play.limits() == [40, 10]


def test_a_push_under_way_follows_the_catalogs_route_and_clients() -> None:
    play = Play().ready()
    play.works = False
    play.book.apply_change(change(2, revision=2))
    play.step(10)
    play.book.apply_catalog([task(route="chat-2")])
    play.step(20)
    (wanted,) = play.book.wanted_limits(GATEWAY)
    assert (wanted.route, wanted.revision, wanted.bucket.qps) == ("chat-2", 3, 20)
    play.book.apply_catalog([task(route="chat-2", clients=ClientLimits(limit_qps=5.0))])
    play.step(30)
    (wanted,) = play.book.wanted_limits(GATEWAY)
    assert wanted.client is not None
    assert wanted.revision == 4
    for at_ms in (40, 50, 60):
        play.step(at_ms)
    assert play.book.wanted_limits(GATEWAY) == [wanted], "and then rests"


def test_a_cut_over_somebody_elses_edit_tells_of_it() -> None:
    play = Play().ready()
    limit = play.in_force()
    assert limit is not None
    play.held[GATEWAY][CHAT] = replace(limit, bucket=TokenBucket(999, 999, 1000))
    play.look(100)
    play.book.apply_change(change(1, revision=2))
    play.step(200)
    assert play.limits() == [40, 10]
    assert play.rows[-1].reason.startswith("cut from 40 to 10 a gateway; drift: the limit was changed")


def test_after_a_restart_a_newer_limit_at_the_target_counts_and_not_an_older_row() -> None:
    """A deposed leader's last row came after the new leader's, and compaction kept that one."""
    play = Play(timing=TIMING).ready(replicas=4)
    old = current(play)
    play.book.apply_change(change(2, revision=2))
    play.step(100)
    assert play.limits() == [40, 20]
    restarted(play, 200_000, old)  # in silence: nothing may rise
    play.book.apply_change(change(4, revision=1))
    play.book.observe_gateway(GATEWAY, 1, START_MS)
    play.step(200_000)
    assert "applied" not in play.states()
    limit = play.in_force()
    assert limit is not None
    assert limit.bucket.qps == 20


def test_what_this_controller_said_itself_is_not_restored_over_what_it_has_read() -> None:
    play = Play().ready()
    limit = play.in_force()
    assert limit is not None
    play.works = False
    play.book.apply_change(change(1, revision=2))
    play.step(10)
    play.held[GATEWAY][CHAT] = replace(limit, revision=2)  # another controller's, of the same revision
    play.rows += play.book.observe_rejection(CHAT, 2, "another limit of revision 2", 2, START_MS + 20)
    play.book.restore(current(play))  # its own failed row comes back from the topic
    play.works = True
    for at_ms in (30, 40, 50):
        play.step(at_ms)
    assert play.limits() == [40, 10]
    assert play.rows[-1].revision == 3


def test_explaining_tells_the_last_row_and_a_gateway_that_is_away() -> None:
    play = Play().ready()
    assert any("last published: applied, revision 1" in line for line in play.book.explain(CHAT, START_MS))
    play.book.observe_failure(GATEWAY, "503: overloaded", START_MS + 10)
    lines = play.book.explain(CHAT, START_MS + 10)
    assert f"  gateway {GATEWAY} is unreachable: 503: overloaded" in lines
    play.look(20)
    assert not any("is unreachable" in line for line in play.book.explain(CHAT, START_MS + 20))


def test_a_gateway_that_is_away_says_nothing_of_another_ones_tasks() -> None:
    other = TaskKey("vision", "ocr")
    play = Play(task(), task(name="ocr", route="ocr", gateway="other")).ready()
    play.works = False
    for key in (CHAT, other):
        play.book.apply_change(change(1, revision=2, key=key))
    play.step(10)
    (row,) = play.book.observe_failure("other", "503", START_MS + 20)
    assert row.task == "ocr"


def test_a_rejection_of_a_task_that_has_left_the_catalog_is_ignored() -> None:
    play = Play().ready()
    play.works = False
    play.book.apply_change(change(1, revision=2))
    play.step(10)
    play.book.apply_catalog([])
    assert play.book.observe_rejection(CHAT, 2, "503", None, START_MS + 20) == []
