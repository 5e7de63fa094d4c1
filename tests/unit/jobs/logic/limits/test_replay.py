"""Recorded events to limits: timelines, laws, and how a wrong line is refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.limit_events import CHAT, GATEWAY, START_MS, control, task
from tests.support.limit_rows import gateway_row, replicas_row
from tidegate.jobs.logic.catalog_rows import rows_of
from tidegate.jobs.logic.limits.inputs import Timing
from tidegate.jobs.logic.limits.rate_limits import Pace
from tidegate.jobs.logic.limits.replay import ReplayResult, ReplaySettings, most_within, replay, summary
from tidegate.jobs.logic.limits.replay_events import BadEvent, RecordedEvent, event_of, read_event
from tidegate.jobs.logic.replicas.changes import Windows
from tidegate.schemas.catalog import Catalog, Gateway
from tidegate.schemas.rows.limits import LimitControl, ReplicaChange
from tidegate.schemas.timestamps import from_epoch_ms, to_epoch_ms

QPS = 10.0


def catalog(**fields: Any) -> Catalog:
    one = task(qps_per_replica=QPS, **fields)
    return Catalog({(one.department, one.name): one}, {GATEWAY: Gateway()})


def tasks_at(second: float, **fields: Any) -> RecordedEvent:
    (row,) = rows_of(catalog(**fields), from_epoch_ms(ms(second)))
    return event_of(row)


def ms(second: float) -> int:
    return START_MS + round(second * 1000)


def ready(second: float, replicas: int) -> RecordedEvent:
    return event_of(replicas_row(ms(second), replicas))


def gateways(second: float, count: int = 1) -> RecordedEvent:
    return event_of(gateway_row(ms(second), count))


def settled(second: float, replicas: int, revision: int) -> RecordedEvent:
    moment = from_epoch_ms(ms(second))
    return event_of(
        ReplicaChange(
            id=f"{CHAT.department}|{CHAT.task}|{revision}",
            department=CHAT.department,
            task=CHAT.task,
            workload="vision/service-chat",
            replicas_before=None,
            replicas_after=replicas,
            cause="scale_up",
            first_seen_at=moment,
            settled_at=moment,
            revision=revision,
        )
    )


def said(second: float, **fields: Any) -> RecordedEvent:
    row: LimitControl = control(set_at=from_epoch_ms(ms(second)), **fields)
    return event_of(row)


def alive(until: int, replicas: int = 4) -> list[RecordedEvent]:
    """Both sources, every half minute."""
    return [one for second in range(0, until, 30) for one in (ready(second, replicas), gateways(second))]


def limits(replayed: ReplayResult) -> list[tuple[float, float | None]]:
    """When which limit was in force, in seconds since the start."""
    return [
        ((to_epoch_ms(row.decided_at) - START_MS) / 1000, row.limit_qps)
        for row in replayed.rows
        if row.state == "applied"
    ]


def run(
    events: list[RecordedEvent], tried: ReplaySettings | None = None, given: Catalog | None = None
) -> ReplayResult:
    return replay(events, tried or ReplaySettings(), given or catalog())


def test_a_cut_comes_after_its_window_and_a_raise_in_steps() -> None:
    found = run(
        [gateways(0), ready(0, 4), ready(20, 1), ready(40, 8), gateways(40), ready(60, 8), gateways(60)]
    )
    assert limits(found) == [(0, 40), (22, 10), (50, 20), (60, 40), (70, 80)]
    row = found.rows[1]
    assert (row.state, row.target, row.applied_at, row.replicas) == ("applied", "replay", row.decided_at, 1)


def test_a_blip_changes_nothing() -> None:
    assert limits(run([gateways(0), ready(0, 4), ready(20, 2), ready(21, 4)])) == [(0, 40)]


def test_settings_are_what_is_tried() -> None:
    events = [gateways(0), ready(0, 1), ready(20, 4)]
    tried = ReplaySettings(Windows(2_000, 5_000), pace=Pace(max_raise=4.0, raise_every_ms=1_000))
    assert limits(run(events, tried)) == [(0, 10), (25, 40)]


def test_settled_changes_are_used_where_no_replicas_are_recorded() -> None:
    events = [gateways(0), settled(0, 4, 1), settled(400, 2, 2)]
    assert limits(run(events)) == [(0, 40), (400, 20)]
    assert limits(run([*events, ready(0, 3), ready(400, 3), gateways(400)])) == [(0, 30)]


def test_gateways_that_nobody_tells_of_can_be_assumed() -> None:
    nothing = run([ready(0, 4)])
    assert limits(nothing) == []
    assert nothing.notes == [f"no event holds the ready pods of gateway {GATEWAY}: give --gateways N"]
    assert limits(run([ready(0, 4), ready(30, 2)], ReplaySettings(gateways=2))) == [(0, 40), (32, 20)]


def test_an_operators_word_counts_from_its_moment_until_it_ends() -> None:
    until = from_epoch_ms(ms(20))
    events = [*alive(60), said(10, override_qps=100.0, expires_at=until), said(40, paused=True), ready(41, 1)]
    assert limits(run(events)) == [(0, 40), (10, 100), (20, 40)]


def test_the_catalog_of_the_recording_counts_from_the_first_event_on() -> None:
    events = [tasks_at(-86_400), gateways(0), ready(0, 4), tasks_at(30, headroom=0.5)]
    assert limits(replay(events, ReplaySettings())) == [(0, 40), (30, 20)]
    assert limits(run(events)) == [(0, 40)]


def test_a_task_that_leaves_the_catalog_is_decided_no_more() -> None:
    removed = read_event(
        b'{"topic":"tidegate.tasks","key":"vision/chat","value":null,"at":"2026-11-24T10:00:05.000Z"}'
    )
    assert read_event(removed.to_line().encode()) == removed
    found = replay([tasks_at(0), gateways(0), ready(0, 4), removed, ready(10, 1)], ReplaySettings())
    assert limits(found) == [(0, 40)]


def test_a_word_that_is_taken_back_whole_holds_no_more() -> None:
    back = read_event(
        b'{"topic":"tidegate.limit-controls","key":"vision/chat","value":null,"at":"2026-11-24T10:00:30.000Z"}'
    )
    found = run([*alive(30), said(10, paused=True), ready(11, 1), back])
    assert limits(found) == [(0, 40), (30, 10)]


def test_without_a_catalog_it_says_so() -> None:
    found = replay([gateways(0), ready(0, 4)], ReplaySettings())
    assert found.rows == []
    assert found.notes == ["no task catalog: give --catalog FILE, or record tidegate.tasks too"]


def test_silence_holds_is_reported_and_raises_nothing() -> None:
    events = [gateways(0), ready(0, 1), ready(5, 2), *(gateways(second) for second in range(20, 300, 20))]
    found = run(events, ReplaySettings(pace=Pace(raise_every_ms=100_000)))
    assert limits(found) == [(0, 10)]
    held = [row for row in found.rows if row.state == "held"]
    assert [row.decided_at for row in held] == [from_epoch_ms(ms(second) + 1) for second in (95, 395)]
    assert "has been silent since" in held[0].reason


def test_the_recordings_end_is_no_silence() -> None:
    found = run([gateways(0), ready(0, 1), ready(5, 8)], ReplaySettings(tail_ms=600_000))
    assert limits(found) == [(0, 10), (15, 20), (25, 40), (35, 80)]
    assert all(row.state == "applied" for row in found.rows)


def test_tasks_of_which_the_recording_or_the_catalog_says_nothing_are_named() -> None:
    both = Catalog(
        {("vision", name): task(name=name, route=name) for name in ("chat", "ocr")}, {GATEWAY: Gateway()}
    )
    stranger = event_of(replicas_row(ms(0), 4, task="asr"))
    found = run([gateways(0), ready(0, 4), stranger], given=both)
    assert found.notes == [
        "1 tasks are not in the catalog: vision/asr",
        "1 tasks of the catalog have no events: vision/ocr",
    ]
    assert [row.state for row in found.rows] == ["applied"]


@pytest.mark.parametrize("swing", [(4, 3), (4, 5)], ids=["one less", "one more"])
def test_flapping_every_three_seconds_for_two_minutes(swing: tuple[int, int]) -> None:
    counts = [(3 * n, swing[n % 2]) for n in range(41)]
    events = [*(ready(second, count) for second, count in counts), *(gateways(s) for s in range(0, 121, 30))]
    found = run(events, ReplaySettings(tail_ms=0))
    pushed = limits(found)
    print(  # noqa: T201 (how many pushes is what it is about)
        f"flapping {swing}: {len(counts) - 1} changes seen, {len(pushed) - 1} pushes after the first: {pushed}"
    )
    windows = Windows()
    moments = [second * 1000 for second, _ in pushed]
    assert all(later - before >= windows.down_ms for before, later in pairwise(moments))
    assert most_within([round(moment) for moment in moments], windows.down_ms) == 1
    assert len(pushed) - 1 == (1 if swing[1] < 4 else 0)
    for second, _ in counts[1:]:
        in_force = [limit for since, limit in pushed if since <= second + 2][-1]
        lowest = min(count for at, count in counts if second - 10 < at <= second)
        if second >= 10:
            assert in_force is not None
            assert in_force <= lowest * QPS


def test_the_summary_counts_pushes_cuts_raises_and_the_busiest_ten_seconds() -> None:
    found = run([gateways(0), ready(0, 4), ready(20, 1), ready(40, 8), gateways(40)])
    assert summary(found.rows) == [
        "vision/chat: pushes 5, cuts 1, raises 3, at most 1 in 10 s, 10 to 80 qps, 80 at the end",
        "all 1 tasks: pushes 5, cuts 1, raises 3, at most 1 in 10 s, 10 to 80 qps, 80 at the end",
    ]
    assert most_within([0, 9_999, 10_000, 19_998], 10_000) == 3
    assert summary([]) == ["all 0 tasks: pushes 0, cuts 0, raises 0, at most 0 in 10 s"]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (b"no json", "whole line: not valid JSON"),
        (b"[]", "whole line: must be"),
        (b'{"topic":"tidegate.nothing","value":{}}', "topic: 'tidegate.nothing' is not one of"),
        (b'{"topic":"kubernetes.replicas"}', "value: missing"),
        (b'{"topic":"tidegate.tasks","value":null}', "key: missing"),
        (b'{"topic":"tidegate.tasks","value":null,"key":"a/b","at":"noon"}', "at: "),
        (b'{"topic":"kubernetes.gateways","value":{"id":"x"}}', "value.gateway: Field required"),
        (
            ready(0, 4).to_line().encode().replace(b'"replicas_ready":4', b'"replicas_ready":-4'),
            "value.replicas_ready: Input should be greater than or equal to 0",
        ),
    ],
)
def test_a_wrong_line_is_reported_by_its_field(line: bytes, wrong: str) -> None:
    with pytest.raises(BadEvent) as reported:
        read_event(line)
    assert str(reported.value).startswith(wrong)


@pytest.mark.parametrize(
    "event",
    [ready(1, 4), gateways(1), settled(1, 4, 1), said(1, paused=True), tasks_at(1)],
    ids=lambda event: event.topic,
)
def test_an_event_is_read_as_it_was_written(event: RecordedEvent) -> None:
    assert read_event(event.to_line().encode()) == event


# Laws

MOMENTS = st.integers(0, 120).map(lambda number: number / 2)
EVENTS = st.lists(
    st.one_of(
        st.builds(ready, MOMENTS, st.integers(0, 8)),
        st.builds(gateways, MOMENTS, st.integers(0, 3)),
        st.builds(lambda second, paused: said(second, paused=paused), MOMENTS, st.booleans()),
        st.builds(
            lambda second, headroom: tasks_at(second, headroom=headroom), MOMENTS, st.sampled_from([0.5, 1.0])
        ),
    ),
    max_size=40,
)


def texts(replayed: ReplayResult) -> list[str]:
    return [row.model_dump_json() for row in replayed.rows]


@given(EVENTS, st.randoms(use_true_random=False))
@settings(max_examples=examples(200), deadline=None)
def test_the_same_events_in_any_order_give_the_same_rows(events: list[RecordedEvent], chance: Any) -> None:
    events = [tasks_at(0), gateways(0), ready(0, 4), *events]
    shuffled = list(events)
    chance.shuffle(shuffled)
    assert texts(replay(events, ReplaySettings())) == texts(replay(shuffled, ReplaySettings()))
    twice = [event for event in shuffled for _ in range(2)]
    assert texts(replay(twice, ReplaySettings())) == texts(replay(events, ReplaySettings()))


@given(EVENTS, st.lists(MOMENTS, max_size=20))
@settings(max_examples=examples(200), deadline=None)
def test_moments_at_which_nothing_new_is_said_change_no_limit(
    events: list[RecordedEvent], moments: list[float]
) -> None:
    """What is repeated between the events, as sources do, is another batching of the same news."""
    tried = ReplaySettings(timing=Timing(silent_ms=3_600_000))
    events = [tasks_at(0), gateways(0), ready(0, 4), *events]
    ordered = sorted(
        (event for event in events if event.topic == "kubernetes.gateways"), key=lambda e: e.place
    )
    repeated = []
    for moment in moments:
        before = [event for event in ordered if event.at_ms <= ms(moment)][-1].row
        repeated.append(event_of(before.model_copy(update={"observed_at": from_epoch_ms(ms(moment))})))  # type: ignore[union-attr]
    end = ready(61, 4)
    assert limits(replay([*events, end], tried)) == limits(replay([*events, *repeated, end], tried))


@given(EVENTS)
@settings(max_examples=examples(200), deadline=None)
def test_pushes_keep_the_pace_and_no_limit_exceeds_the_most_that_was_ready(
    events: list[RecordedEvent],
) -> None:
    found = replay([tasks_at(0), gateways(0), ready(0, 4), *events], ReplaySettings())
    most = max(
        event.row.replicas_ready for event in [ready(0, 4), *events] if hasattr(event.row, "replicas_ready")
    )
    raised: list[float] = []
    for before, after in pairwise(row for row in found.rows if row.state == "applied"):
        assert after.limit_qps is not None
        assert after.limit_qps <= max(most * QPS, 1.0) * (1 + 1e-9)
        assert after.limit_qps_per_gateway is not None
        assert before.limit_qps_per_gateway is not None
        if after.limit_qps_per_gateway > before.limit_qps_per_gateway:
            assert after.limit_qps_per_gateway <= 2 * before.limit_qps_per_gateway * (1 + 1e-9)
            raised.append(to_epoch_ms(after.decided_at))
    assert all(later - before >= 10_000 for before, later in pairwise(raised))
