"""Rows in, one timeline out: at this second this, and how long each limit took to be seen. Times are seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.test_row_contracts import service_row
from tests.support.limit_events import START_MS, control
from tidegate.jobs.logic.limits.timeline import (
    Entry,
    EntryFilter,
    Lag,
    Second,
    TimelineEvent,
    TimelineRows,
    steps,
    timeline,
)
from tidegate.schemas.rows.limits import RateLimitRow, ReplicaChange
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.timestamps import from_epoch_ms, to_text


def at(second: float) -> datetime:
    return from_epoch_ms(START_MS + round(second * 1000))


def window(second: int, offered: int, refused: int = 0) -> ServiceMetricsRow:
    ends = {"window_start": to_text(at(second)), "window_end": to_text(at(second + 1))}
    return ServiceMetricsRow.model_validate(
        service_row(id=f"1s|{second}", requests=offered, rate_limited=refused, **ends)
    )


def settled(second: float, before: int | None, after: int, revision: int, first_seen: float) -> ReplicaChange:
    return ReplicaChange(
        id=f"vision|chat|{revision}",
        department="vision",
        task="chat",
        workload="vision/service-chat",
        replicas_before=before,
        replicas_after=after,
        cause="scale_down" if before is not None and after < before else "scale_up",
        first_seen_at=at(first_seen),
        settled_at=at(second),
        revision=revision,
    )


def limit(
    qps: float,
    revision: int,
    decided: float,
    applied: float | None = None,
    change: int | None = None,
    **fields: Any,
) -> RateLimitRow:
    state = "decided" if applied is None else "applied"
    values: dict[str, Any] = {
        "id": f"vision|chat|{revision}|{state}",
        "department": "vision",
        "task": "chat",
        "gateway": "vision-gateway",
        "replicas": round(qps / 10),
        "qps_per_replica": 10.0,
        "gateways": 2,
        "limit_qps": qps,
        "limit_qps_per_gateway": qps / 2,
        "burst": 5,
        "state": state,
        "reason": f"now {qps:g}",
        "change_id": None if change is None else f"vision|chat|{change}",
        "revision": revision,
        "decided_at": at(decided),
        "applied_at": None if applied is None else at(applied),
        "target": "test",
    }
    return RateLimitRow(**values | fields)


def record(*rows: Any, whole_since: float = -3600) -> TimelineRows:
    found = TimelineRows(at(whole_since))
    for row in rows:
        found.add(row)
    return found


def entries(*rows: Any, since: float = 0, until: float = 60, ended: bool = True, **more: Any) -> list[Entry]:
    return timeline(record(*rows, **more), at(since), at(until), ended=ended)


def lags(found: list[Entry]) -> list[Lag]:
    return [entry for entry in found if isinstance(entry, Lag)]


CUT = (
    limit(40, 4, decided=-100, applied=-99.5),
    settled(12, 4, 2, revision=7, first_seen=10),
    limit(20, 5, decided=12.1, change=7),
    limit(20, 5, decided=12.1, applied=12.6, change=7),
)


def test_a_cut_is_one_timeline_of_seconds_events_and_its_lag() -> None:
    loads = [window(second, 60, 20 if second < 13 else 40) for second in range(10, 16)]
    found = entries(*loads, *CUT)
    assert [(entry.type, (entry.at - at(0)).total_seconds()) for entry in found] == [
        ("second", 10),
        ("second", 11),
        ("replicas", 12),
        ("second", 12),
        ("decided", 12.1),
        ("applied", 12.6),
        ("second", 13),
        ("lag", 13),
        ("second", 14),
        ("second", 15),
    ]
    seconds = [entry for entry in found if isinstance(entry, Second)]
    assert [(one.offered, one.admitted, one.limit_qps, one.replicas) for one in seconds] == [
        (60, 40, 40, 4),
        (60, 40, 40, 4),
        (60, 40, 40, 2),
        (60, 20, 20, 2),
        (60, 20, 20, 2),
        (60, 20, 20, 2),
    ]
    (lag,) = lags(found)
    assert (lag.direction, lag.from_qps, lag.to_qps, lag.change_id) == ("cut", 40, 20, "vision|chat|7")
    assert steps(lag) == [
        ("settled", 2.0),
        ("decided", pytest.approx(0.1)),
        ("applied", pytest.approx(0.5)),
        ("first refused request", pytest.approx(0.4)),
    ]


def test_a_cut_that_the_load_never_reaches_is_not_seen() -> None:
    loads = [window(second, 10) for second in range(10, 16)]
    (lag,) = lags(entries(*loads, *CUT))
    assert lag.shown_at is None
    assert steps(lag)[-1] == ("first refused request", None)


def test_a_second_that_began_before_the_cut_shows_nothing() -> None:
    (lag,) = lags(entries(window(12, 60, 40), window(14, 60, 40), *CUT))
    assert lag.shown_at == at(14)


def test_a_raise_is_seen_when_more_than_the_old_limit_is_admitted() -> None:
    rows = [
        limit(20, 5, -50, -50),
        limit(40, 6, decided=20, applied=20.2, change=8),
        settled(20, 2, 4, 8, 10),
    ]
    loads = [window(21, 60, 40), window(22, 60, 39), window(23, 60, 20)]
    (lag,) = lags(entries(*rows, *loads))
    assert (lag.direction, lag.shown_at) == ("raise", at(22))
    assert [name for name, _ in steps(lag)][-1] == "first request over the old limit"
    assert steps(lag)[0] == ("settled", 10.0)


def test_a_limit_is_seen_only_while_it_is_in_force() -> None:
    rows = [*CUT, limit(40, 6, decided=14, applied=14.5)]
    loads = [window(13, 10), window(14, 10), window(15, 60, 20)]
    first, second = lags(entries(*rows, *loads))
    assert (first.revision, first.shown_at, first.at) == (5, None, at(14.5))
    assert (second.revision, second.shown_at) == (6, at(15))


def test_the_further_steps_of_a_raise_and_an_override_follow_no_change() -> None:
    rows = [
        settled(20, 1, 8, 8, first_seen=10),
        limit(10, 5, -50, -50),
        limit(20, 6, decided=20, applied=20, change=8),
        limit(40, 7, decided=30, applied=30, change=8),
        limit(99, 8, decided=40, applied=40, change=8),
    ]
    assert [lag.ready_at for lag in lags(entries(*rows))] == [at(10), None, None]


def test_a_change_from_before_what_was_read_gets_no_lag() -> None:
    assert [lag.ready_at for lag in lags(entries(*CUT, whole_since=12.05))] == [None]


def test_the_same_limit_again_has_nothing_to_be_seen() -> None:
    rows = [limit(40, 4, -99, -99), limit(40, 5, decided=10, applied=11, reason="drift")]
    (lag,) = lags(entries(*rows, window(12, 60, 20)))
    assert (lag.direction, lag.shown_at, lag.at) == ("same", None, at(11))
    assert steps(lag) == [("applied", 1.0)]


def test_the_first_limit_is_seen_by_a_refused_request() -> None:
    (lag,) = lags(entries(limit(40, 1, decided=10, applied=11), window(12, 60), window(13, 60, 20)))
    assert (lag.direction, lag.from_qps, lag.shown_at) == ("first", None, at(13))


def test_what_held_before_is_known_by_a_held_row_and_by_what_the_first_change_replaced() -> None:
    held = limit(40, 4, decided=30, applied=-500, id="h", state="held", reason="silent")
    first, last = (
        entry
        for entry in entries(held, settled(20, 4, 3, 7, 18), window(5, 10), window(25, 10))
        if isinstance(entry, Second)
    )
    assert (first.limit_qps, first.replicas) == (40, 4)
    assert (last.limit_qps, last.replicas) == (40, 3)


def test_what_is_not_known_is_unknown() -> None:
    (one,) = entries(window(5, 10))
    assert isinstance(one, Second)
    assert (one.limit_qps, one.replicas) == (None, None)


def test_an_operators_words_and_an_overrides_end_have_lines_of_their_own() -> None:
    words = [
        control(paused=True, set_at=at(5)),
        control(set_at=at(6)),
        control(override_qps=50.0, expires_at=at(30), set_at=at(7)),
        control(override_qps=60.0, expires_at=at(20), set_at=at(9)),
        control("*", paused=True, set_at=at(8)),
    ]
    found = [entry for entry in entries(*words) if isinstance(entry, TimelineEvent)]
    assert [(entry.text, (entry.at - at(0)).total_seconds()) for entry in found] == [
        ("paused, by ann: a load test", 5),
        ("back to the computed limit, by ann: a load test", 6),
        (f"override of 50 qps until {to_text(at(30))}, by ann: a load test", 7),
        ("all tasks: paused, by ann: a load test", 8),
        (f"override of 60 qps until {to_text(at(20))}, by ann: a load test", 9),
        ("the override of 60 qps by ann has ended", 20),
    ]


def test_held_and_failed_rows_are_reported_with_their_reason() -> None:
    rows = [
        limit(40, 4, decided=1, id="h", state="held", reason="the source is silent"),
        limit(40, 4, decided=301, id="h", state="held", reason="the source is silent"),
        limit(20, 5, decided=2, id="f", state="failed", reason="503 from the API"),
        limit(
            20,
            6,
            decided=3,
            limit_qps=None,
            limit_qps_per_gateway=None,
            burst=None,
            state="held",
            reason="no data",
        ),
    ]
    found = [
        (entry.type, entry.text) for entry in entries(*rows, until=400) if isinstance(entry, TimelineEvent)
    ]
    assert found == [
        ("held", "40 qps, 20 a gateway, burst 5, revision 4: the source is silent"),
        ("failed", "20 qps, 10 a gateway, burst 5, revision 5: 503 from the API"),
        ("held", "no limit, revision 6: no data"),
        ("held", "40 qps, 20 a gateway, burst 5, revision 4: the source is silent"),
    ]


def test_a_timeline_that_goes_on_tells_each_entry_once_and_no_lag_too_early() -> None:
    loads = [window(second, 60, 40) for second in range(13, 20)]
    unseen, known = EntryFilter(), record(*CUT)
    first = unseen.new(timeline(known, at(0), at(13), ended=False))
    assert [entry.type for entry in first] == ["replicas", "decided", "applied"]
    for load in loads:
        known.add(load)
    second = unseen.new(timeline(known, at(0), at(20), ended=False))
    assert [entry.type for entry in second] == ["second", "lag", *["second"] * 6]
    known.forget_before(at(16))
    assert unseen.new(timeline(known, at(0), at(20), ended=False)) == []
    unseen.forget_before(at(16))
    assert unseen.new(timeline(known, at(16), at(20), ended=False)) == []


@given(st.permutations([*CUT, *(window(second, 60, 40) for second in range(10, 16))]))
def test_rows_in_any_order_give_one_timeline(rows: list[Any]) -> None:
    loads = [window(second, 60, 40) for second in range(10, 16)]
    assert entries(*rows) == entries(*CUT, *loads)
    times = [entry.at for entry in entries(*rows)]
    assert times == sorted(times)


def test_a_limit_that_is_reported_again_as_held_keeps_its_lag() -> None:
    held = limit(20, 5, decided=40, applied=12.6, id="h", state="held", reason="silent")
    (lag,) = lags(entries(window(13, 60, 40), *CUT, held))
    assert (lag.revision, lag.shown_at) == (5, at(13))


def test_of_a_rewritten_second_the_last_form_counts() -> None:
    (one,) = entries(window(5, 10), window(5, 12))
    assert isinstance(one, Second)
    assert one.offered == 12
