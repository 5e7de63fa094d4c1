"""What the demo shows of profiles and alerts."""

from __future__ import annotations

from io import StringIO

from rich.console import Console, RenderableType

from tests.support.signal_rows import START_MS, alert, profile
from tidegate.demo import profile_table
from tidegate.demo.profile_board import ProfileBoard


def shown(what: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=80).print(what)
    return out.getvalue()


def test_the_newest_profile_of_each_task_is_shown_in_the_scenarios_order() -> None:
    board = ProfileBoard([("vision", "chat"), ("vision", "tags"), ("vision", "gone")])
    for row in (profile("tags", qps=1.0), profile("chat", qps=2.0), profile("tags", qps=3.0)):
        board.add(row, START_MS)
    assert [(row.task, row.qps) for row in board.profiles()] == [("chat", 2.0), ("tags", 3.0)]


def test_an_alert_that_only_began_is_none_yet() -> None:
    board = ProfileBoard([])
    board.add(alert("pending"), START_MS + 1000)
    assert board.alerts == []
    board.add(alert("firing"), START_MS + 8000)
    (line,) = board.alerts
    assert (line.fired_s, line.lag_s, line.resolved_s) == (5.0, 3.0, None)
    board.add(alert("resolved"), START_MS + 63_000)
    board.add(alert("firing"), START_MS + 70_000)  # it is read again
    (line,) = board.alerts
    assert (line.fired_s, line.lag_s, line.resolved_s) == (5.0, 3.0, 60.0)


def test_the_same_alert_that_begins_again_is_another() -> None:
    board = ProfileBoard([])
    board.add(alert("resolved"), START_MS)
    board.add(alert("firing", began_ms=START_MS + 100_000), START_MS + 106_000)
    assert [line.row.state for line in board.alerts] == ["resolved", "firing"]


def test_what_is_not_known_is_a_dash_and_no_zero() -> None:
    row = profile(replicas_ready=2, qps=12.34, limit_used_ratio=0.5, cpu_seconds_per_request=0.025)
    text = shown(profile_table.table([row]))
    cells = text.splitlines()[-1].split()
    assert cells == ["chat", "2/-", "12.3", "-", "-", "-", "50", "-", "25", "-", "-"]


def test_it_fits_eighty_columns() -> None:
    numbers = dict.fromkeys(
        ("qps", "qps_per_replica", "capacity_qps_per_replica", "cpu_of_limit_ratio"), 1234.5
    )
    row = profile("click-prediction", replicas_ready=12, replicas_desired=12, limit_used_ratio=1.0, **numbers)
    assert "click-prediction" in shown(profile_table.table([row]))
    assert "1,234.5 1,234.5 1,234.5" in shown(profile_table.table([row]))


def test_an_alerts_line_shows_its_lifecycle() -> None:
    board = ProfileBoard([])
    board.add(alert("firing"), START_MS + 8000)
    board.add(alert("resolved"), START_MS + 63_000)
    text = " ".join(shown(profile_table.summary([], board.alerts)).split())
    assert "resolved warning slow: p99 of chat is 900 ms" in text
    assert "fired 5 s after it began, published 3.0 s after" in text
    assert "resolved after 60 s" in text
