"""What the demo makes of limits that follow replicas, and how it shows that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from tests.support.demo_rows import START_MS
from tests.support.limit_rows import replicas_row
from tidegate.demo import limit_table
from tidegate.demo.board import Counts
from tidegate.demo.limit_board import Followed, LimitBoard
from tidegate.demo.moves import Moved, What
from tidegate.schemas.rows.limits import RateLimitRow, ReplicaChange
from tidegate.schemas.timestamps import from_epoch_ms

CHAT = ("vision", "chat")
END_MS = START_MS + 60_000


def moved(at_s: float, what: What = "left") -> Moved:
    return Moved(START_MS + round(at_s * 1000), *CHAT, what, 2)


def change(revision: int, seen_s: float, settled_s: float, before: int | None, after: int) -> ReplicaChange:
    down = before is not None and after < before
    return ReplicaChange(
        id=f"vision|chat|{revision}",
        department="vision",
        task="chat",
        workload="vision/service-chat",
        replicas_before=before,
        replicas_after=after,
        cause="resync" if before is None else "scale_down" if down else "scale_up",
        first_seen_at=from_epoch_ms(START_MS + round(seen_s * 1000)),
        settled_at=from_epoch_ms(START_MS + round(settled_s * 1000)),
        revision=revision,
    )


def limit(
    revision: int, qps: float, decided_s: float, applied_s: float | None = None, **fields: Any
) -> RateLimitRow:
    state = fields.setdefault("state", "decided" if applied_s is None else "applied")
    values: dict[str, Any] = {
        "id": f"vision|chat|{revision}|{state}",
        "department": "vision",
        "task": "chat",
        "gateway": "demo-gateway",
        "replicas": round(qps / 5),
        "qps_per_replica": 5,
        "gateways": 1,
        "limit_qps": qps,
        "limit_qps_per_gateway": qps,
        "burst": int(qps),
        "reason": "cut from 20 to 10 a gateway",
        "change_id": f"vision|chat|{revision}",
        "revision": revision,
        "decided_at": from_epoch_ms(START_MS + round(decided_s * 1000)),
        "applied_at": None if applied_s is None else from_epoch_ms(START_MS + round(applied_s * 1000)),
        "target": "envoy-file",
    }
    return RateLimitRow.model_validate(values | fields)


def board(*rows: ReplicaChange | RateLimitRow) -> LimitBoard:
    """With the first limit, of 20 qps for 4 replicas, in force."""
    found = LimitBoard([CHAT])
    for row in (change(1, -5, -5, None, 4), limit(1, 20, -5, -4), *rows):
        found.add(row)
    return found


def seconds(*parts: tuple[int, int, int]) -> dict[tuple[str, str], dict[int, Counts]]:
    """parts: (so many seconds, requests in each, admitted in each), one after the other from START_MS."""
    each = [(requests, admitted) for count, requests, admitted in parts for _ in range(count)]
    return {
        CHAT: {
            START_MS + 1000 * second: Counts(requests=requests, rate_limited=requests - admitted)
            for second, (requests, admitted) in enumerate(each)
        }
    }


def test_a_move_is_followed_from_the_first_look_to_the_limit_in_force() -> None:
    found = board(change(2, 10.3, 12.3, 4, 2), limit(2, 10, 12.4), limit(2, 10, 12.4, 12.6))
    found.add_moves([moved(10)])
    (one,) = found.followed({}, END_MS)
    assert (one.seen_s, one.settled_s, one.decided_s, one.applied_s) == (0.3, 2.3, 2.4, 2.6)
    assert (one.from_qps, one.to_qps) == (20, 10)


def test_what_was_admitted_is_compared_with_the_limit_without_the_first_bucket() -> None:
    found = board(change(2, 10.3, 12.3, 4, 2), limit(2, 10, 12.4, 12.6))
    found.add_moves([moved(10)])
    # A full bucket at the day's begin and after the cut: both are left out.
    day = seconds((3, 30, 30), (10, 30, 20), (3, 30, 20), (14, 30, 10), (30, 0, 0))
    (one,) = found.followed(day, START_MS + 30_000)
    assert one.admitted_before == pytest.approx(1.0)
    assert one.admitted_after == pytest.approx(1.0)


def test_what_was_admitted_ends_with_the_next_move_that_matters() -> None:
    found = board(
        change(2, 10, 12, 4, 2), limit(2, 10, 12, 12), change(3, 24, 34, 2, 4), limit(3, 20, 34, 34)
    )
    found.add_moves([moved(10), moved(20, "joined"), moved(24, "became ready")])
    day = seconds((15, 30, 20), (19, 30, 10), (3, 30, 30), (23, 30, 20))
    cut, raised = found.followed(day, END_MS)
    assert cut.admitted_after == pytest.approx(1.0)
    assert raised.admitted_before == pytest.approx(1.0)
    assert raised.admitted_after == pytest.approx(1.0)
    assert (raised.from_qps, raised.to_qps, raised.applied_s) == (10, 20, 10)


def test_a_look_that_began_just_before_the_move_belongs_to_it_and_an_older_change_does_not() -> None:
    found = board(change(2, 9.9, 11.9, 4, 2))
    found.add_moves([moved(10)])
    assert found.followed({}, END_MS)[0].settled_s == pytest.approx(1.9)
    found = board(change(2, 5, 7, 4, 2))
    found.add_moves([moved(10)])
    assert found.followed({}, END_MS)[0].settled_s is None


def test_a_change_in_the_other_direction_is_not_taken_for_the_moves() -> None:
    found = board(change(2, 12, 14, 2, 4))
    found.add_moves([moved(10)])
    assert found.followed({}, END_MS)[0].settled_s is None


def test_that_replicas_joined_is_news_until_they_are_ready() -> None:
    found = board()
    found.add_moves([moved(10, "joined")])
    assert [one.moved.what for one in found.followed({}, END_MS)] == ["joined"]
    found.add_moves([moved(14, "became ready")])
    assert [one.moved.what for one in found.followed({}, END_MS)] == ["became ready"]


def test_a_limit_that_had_its_time_and_did_not_come_is_overdue() -> None:
    cut = Followed(moved(10))
    assert not cut.overdue(START_MS + 20_000)
    assert cut.overdue(START_MS + 26_000)
    assert not replace(cut, applied_s=2.6).overdue(END_MS)
    assert not Followed(moved(10, "became ready")).overdue(START_MS + 26_000)
    assert not Followed(moved(10, "joined")).overdue(END_MS)


def test_a_line_has_the_newest_seconds_and_the_limit_in_force() -> None:
    found = board(change(2, 10.3, 12.3, 4, 2), limit(2, 10, 12.4))
    found.add(replicas_row(START_MS, 2, starting=1))
    (line,) = found.lines(seconds((20, 10, 10), (5, 30, 20)))
    assert (line.ready, line.starting) == (2, 1)
    assert line.limit_qps == 20, "what is only decided isn't in force"
    assert (line.offered_qps, line.admitted_qps, line.limited_qps) == (30, 20, 10)
    assert line.trouble is None


def test_a_limit_that_is_held_says_why() -> None:
    found = board(limit(1, 20, 20, -4, state="held", reason="no data of the task's replicas"))
    assert found.lines({})[0].trouble == "held: no data of the task's replicas"


def test_rows_that_come_twice_count_once() -> None:
    found = board(change(2, 10.3, 12.3, 4, 2), limit(2, 10, 12.4), limit(2, 10, 12.4, 12.6))
    for row in (change(2, 10.3, 12.3, 4, 2), limit(2, 10, 12.4, 12.6)):
        found.add(row)
    assert (found.changes, found.limits, found.pushes) == (2, 3, 2)


def text_of(renderable: RenderableType, width: int = 80) -> str:
    console = Console(width=width, record=True, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


CUT = Followed(moved(10), 0.3, 2.3, 2.4, 2.6, 20, 10, 1.004, 0.998)


def test_the_effects_of_a_move_are_shown_step_by_step() -> None:
    steps = [
        Followed(moved(10)),
        Followed(moved(10, "became ready")),
        Followed(moved(10), 0.3, 2.3),
        Followed(moved(10), 0.3, 2.3, 2.4, to_qps=10),
        CUT,
        Followed(moved(10, "joined")),
    ]
    assert [limit_table.effect(one) for one in steps] == [
        "waiting 2 s for it to settle",
        "waiting 10 s for it to settle",
        "settled after 2.3 s, no new limit yet",
        "settled after 2.3 s, limit 10 qps decided",
        "settled after 2.3 s, limit 20 -> 10 qps in force after 2.6 s",
        "warming up; they count once they are ready",
    ]


def test_the_section_and_the_summary_fit_a_terminal_of_80_columns_and_the_height_that_is_given() -> None:
    found = board()
    lines = [replace(found.lines({})[0], task="click-prediction", limit_qps=1234.5, offered_qps=12_345.6)]
    long = replace(CUT, moved=replace(CUT.moved, task="click-prediction", what="became ready"))
    shown = text_of(limit_table.render(lines, [long] * 5))
    assert len(shown.splitlines()) <= limit_table.height(lines, [long] * 5)
    for text in (shown, text_of(limit_table.summary([long] * 5, 3, END_MS))):
        assert "…" not in text
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_the_summary_has_a_line_for_each_move() -> None:
    text = text_of(limit_table.summary([CUT, Followed(moved(20))], 2, END_MS))
    cut, late = (line.split() for line in text.splitlines() if "chat: 2" in line)
    assert cut[3:] == ["0.3", "2.3", "2.4", "2.6", "20", "->", "10", "100.4", "99.8"]
    assert late[3:] == ["-", "-", "-", "-", "late", "-", "-"]
    assert "The gateway received 2 pushes" in text
