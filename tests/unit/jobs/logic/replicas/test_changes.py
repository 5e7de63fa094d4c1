"""De-jitter of replica counts: timelines, and laws against a definition by sampling every moment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.jobs.logic.replicas.changes import (
    Change,
    Seen,
    State,
    Windows,
    advance,
    next_due_ms,
    observe,
    resynced,
)

WINDOWS = Windows(down_ms=2_000, up_ms=10_000)


def settled(counts: list[tuple[float, int]], until: float, windows: Windows = WINDOWS) -> list[Change]:
    """What settles, by the second; the first change is the first count's own."""
    state, changes = State(), []
    for second, replicas in counts:
        state, more = observe(state, windows, round(second * 1000), replicas)
        changes += more
    return changes + advance(state, windows, round(until * 1000))[1]


def brief(changes: list[Change]) -> list[tuple[float, int, str]]:
    return [(change.settled_ms / 1000, change.replicas_after, change.cause) for change in changes]


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        pytest.param([(0, 4)], [], id="nothing new"),
        pytest.param([(0, 4), (20, 2)], [(22, 2, "scale_down")], id="a cut"),
        pytest.param([(0, 4), (20, 6)], [(30, 6, "scale_up")], id="a raise"),
        pytest.param([(0, 4), (20, 3), (21.9, 4)], [], id="a blip down"),
        pytest.param([(0, 4), (20, 5), (29.9, 4)], [], id="a blip up"),
        pytest.param([(0, 4), (20, 1), (21, 2)], [(22, 2, "scale_down")], id="the highest of a down window"),
        pytest.param(
            [(0, 4), (20, 3), (21, 1)],
            [(22, 3, "scale_down"), (23, 1, "scale_down")],
            id="each level of a fall in its own time",
        ),
        pytest.param([(0, 2), (20, 6), (25, 4)], [(30, 4, "scale_up")], id="the lowest of an up window"),
        pytest.param(
            [(0, 2), (20, 4), (25, 6)],
            [(30, 4, "scale_up"), (35, 6, "scale_up")],
            id="a raise in two steps",
        ),
        pytest.param([(0, 4), (20, 0)], [(22, 0, "scale_down")], id="none left"),
        pytest.param(
            [(0, 4), (20, 5), (21, 3), (22, 5), (23, 3)],
            [(25, 3, "flapping")],
            id="flapping is a change's cause",
        ),
        pytest.param(
            [(0, 10), (20, 9), (20.5, 8), (21, 7), (21.5, 6)],
            [(22, 9, "scale_down"), (22.5, 8, "scale_down"), (23, 7, "scale_down"), (23.5, 6, "scale_down")],
            id="many steps in one direction are no flapping",
        ),
        pytest.param([(0, 4), (20, 4), (10, 9), (30, 4)], [], id="older than an equal count"),
        pytest.param([(0, 4), (20, 3), (10, 9)], [(22, 3, "scale_down")], id="what comes late says nothing"),
    ],
)
def test_timeline(counts: list[tuple[float, int]], wanted: list[tuple[float, int, str]]) -> None:
    first, *others = settled(counts, until=60)
    assert first == Change(None, counts[0][1], "resync", 0, 0, 1)
    assert brief(others) == wanted


def test_flapping_every_three_seconds_for_two_minutes_cuts_once() -> None:
    counts = [(0, 4), *((3 * n, 3 if n % 2 else 4) for n in range(1, 41))]
    assert brief(settled(counts, until=125)[1:]) == [(5, 3, "scale_down")]


def test_a_change_says_when_it_was_first_seen_and_revisions_grow_by_one() -> None:
    changes = settled([(0, 4), (20, 3), (40, 5)], until=60)
    assert [change.revision for change in changes] == [1, 2, 3]
    assert [change.first_seen_ms for change in changes] == [0, 20_000, 40_000]
    assert [change.replicas_before for change in changes] == [None, 4, 3]


def test_after_an_absence_the_difference_settles_at_once() -> None:
    state, _ = observe(State(), WINDOWS, 0, 4)
    same, nothing = resynced(state, 50_000, 4)
    assert nothing == []
    assert same.revision == 1
    _, (change,) = resynced(state, 50_000, 2)
    assert (change.replicas_before, change.replicas_after, change.cause, change.revision) == (
        4,
        2,
        "resync",
        2,
    )


def test_counts_that_come_after_their_time_still_make_a_blip() -> None:
    state, _ = observe(State(), WINDOWS, 0, 4)
    state, _ = advance(state, WINDOWS, 10_000)
    state, _ = observe(state, WINDOWS, 9_000, 3)
    state, _ = observe(state, WINDOWS, 9_500, 4)
    assert advance(state, WINDOWS, 40_000)[1] == []


def test_a_restored_state_goes_on_where_it_was() -> None:
    state = State.restored(settled=4, revision=7, at_ms=1_000)
    state, nothing = observe(state, WINDOWS, 2_000, 3)
    assert nothing == []
    _, (change,) = advance(state, WINDOWS, 10_000)
    assert (change.settled_ms, change.replicas_before, change.replicas_after) == (4_000, 4, 3)
    assert change.revision == 8


def test_a_resync_from_the_past_moves_no_time_back() -> None:
    state, _ = resynced(State.restored(settled=4, revision=7, at_ms=100_000), 50, 3)
    assert state.now_ms == 100_000


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 replicas"):
        observe(State(), WINDOWS, 0, -1)
    with pytest.raises(ValueError, match="-1 replicas"):
        resynced(State(), 0, -1)
    with pytest.raises(ValueError, match="positive"):
        Windows(down_ms=0)


GRID_MS = 100
histories = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6)), min_size=1, max_size=30).map(
    lambda steps: [
        Seen(GRID_MS * sum(gap for gap, _ in steps[: index + 1]), replicas)
        for index, (_, replicas) in enumerate(steps)
    ]
)
small_windows = st.builds(
    lambda down, up: Windows(down * GRID_MS, up * GRID_MS), st.integers(1, 30), st.integers(1, 60)
)


def by_sampling(history: list[Seen], windows: Windows, until_ms: int) -> list[tuple[int, int]]:
    """(when, replicas) by the definition, looked at in every step of the grid: the slow, obvious way."""
    start = history[0]
    found = [(start.at_ms, start.replicas)]
    current = start.replicas

    def counts_in(from_ms: int, to_ms: int) -> list[int]:
        """Every count that held at some time within [from, to)."""
        held = []
        for index, seen in enumerate(history):
            end_ms = history[index + 1].at_ms if index + 1 < len(history) else until_ms + 1
            if seen.at_ms < to_ms and end_ms > from_ms:
                held.append(seen.replicas)
        return held

    for now_ms in range(start.at_ms + GRID_MS, until_ms + 1, GRID_MS):
        for window_ms, extreme, crosses in (
            (windows.down_ms, max, int.__lt__),
            (windows.up_ms, min, int.__gt__),
        ):
            if now_ms - window_ms < start.at_ms:
                continue
            level = extreme(counts_in(now_ms - window_ms, now_ms))
            if crosses(level, current):
                current = level
                found.append((now_ms, level))
    return found


@given(history=histories, windows=small_windows)
def test_what_settles_is_the_extreme_of_a_whole_window(history: list[Seen], windows: Windows) -> None:
    until_ms = history[-1].at_ms + 10_000
    state, changes = State(), []
    for seen in history:
        state, more = observe(state, windows, seen.at_ms, seen.replicas)
        changes += more
    changes += advance(state, windows, until_ms)[1]
    assert [(change.settled_ms, change.replicas_after) for change in changes] == by_sampling(
        history, windows, until_ms
    )


@given(history=histories, windows=small_windows, ticks=st.lists(st.integers(0, 200), max_size=40))
def test_looking_more_often_changes_nothing(history: list[Seen], windows: Windows, ticks: list[int]) -> None:
    until_ms = history[-1].at_ms + 10_000
    events: list[tuple[int, int | None]] = [(seen.at_ms, seen.replicas) for seen in history]
    events += [(tick * GRID_MS, None) for tick in ticks]

    def run(timeline: list[tuple[int, int | None]]) -> list[Change]:
        state, changes = State(), []
        for at_ms, replicas in timeline:
            if replicas is None:
                state, more = advance(state, windows, at_ms)
            else:
                state, more = observe(state, windows, at_ms, replicas)
            changes += more
        return changes + advance(state, windows, until_ms)[1]

    plain = [(at_ms, replicas) for at_ms, replicas in events if replicas is not None]
    assert run(sorted(events, key=lambda event: event[0])) == run(plain)


@given(history=histories, windows=small_windows)
def test_nothing_is_pending_forever_and_little_is_kept(history: list[Seen], windows: Windows) -> None:
    state = State()
    for seen in history:
        state, _ = observe(state, windows, seen.at_ms, seen.replicas)
    end_ms = history[-1].at_ms + 10_000
    state, _ = advance(state, windows, end_ms)
    assert next_due_ms(state, windows) is None
    assert state.settled == history[-1].replicas
    assert state.seen == (state.seen[-1],)
