"""When a change of a task's ready replicas has settled: de-jitter, as a pure function of the observed counts.

A lower count settles once the count has been that low for `down_window`, a higher one once it has been that high for
`up_window`. So what settles is the highest count of the last down window, or the lowest of the last up window, and
only while that is below, or above, what has settled before:

    4 4 3 4 4          a blip shorter than the down window: nothing
    4 3 4 3 4 3        every 3 s: 3 settles once, and 4 never, since no up window is without a 3
    4 1 2 2            1 for less than the down window: 2 settles

A count holds until the next one is observed. Times are epoch milliseconds; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Literal

Cause = Literal["scale_up", "scale_down", "flapping", "resync"]

FLAPS = 3
"""The number of reversals within the up window that make a settled change a flapping one. Steps in one direction count
once: a task that is scaled down pod by pod doesn't flap."""


@dataclass(frozen=True)
class Windows:
    """How long a count must hold before it settles, in ms."""

    down_ms: int = 2_000
    up_ms: int = 10_000

    def __post_init__(self) -> None:
        if self.down_ms <= 0 or self.up_ms <= 0:
            raise ValueError(f"windows of {self.down_ms} and {self.up_ms} ms: both must be positive")


@dataclass(frozen=True)
class Seen:
    """A count that holds from this moment until the next."""

    at_ms: int
    replicas: int


@dataclass(frozen=True)
class Change:
    """A settled change. `replicas_before` is None for a new task."""

    replicas_before: int | None
    replicas_after: int
    cause: Cause
    first_seen_ms: int
    settled_ms: int
    revision: int


@dataclass(frozen=True)
class State:
    """The state of one task.

    settled: None until the first count. seen: the raw changes, oldest first, that future windows can still reach.
    now_ms: all changes due by then have settled. observed_ms: the newest moment that the source reported.
    """

    settled: int | None = None
    revision: int = 0
    seen: tuple[Seen, ...] = ()
    now_ms: int = 0
    observed_ms: int = 0

    @staticmethod
    def restored(settled: int, revision: int, at_ms: int) -> State:
        """The state after a restart, from the last settled change alone."""
        return State(settled, revision, (Seen(at_ms, settled),), at_ms, at_ms)


def observe(state: State, windows: Windows, at_ms: int, replicas: int) -> tuple[State, list[Change]]:
    """The state after a count, and the changes that have settled up to then.

    The first count of a task settles at once, as `resync`. A count that is older than the last one is ignored;
    one from before `now_ms` holds from then on. Raises ValueError for a negative count.
    """
    _check(replicas)
    if state.settled is None:
        return _settle_at_once(state, at_ms, replicas)
    if at_ms < state.observed_ms:
        return state, []
    state, changes = advance(replace(state, observed_ms=at_ms), windows, at_ms)
    last, at_ms = state.seen[-1], max(at_ms, state.now_ms)
    if replicas == last.replicas:
        return state, changes
    # Two counts of one moment: the later one is what holds from then on.
    earlier = state.seen[:-1] if at_ms == last.at_ms else state.seen
    return replace(state, seen=(*earlier, Seen(at_ms, replicas))), changes


def advance(state: State, windows: Windows, now_ms: int) -> tuple[State, list[Change]]:
    """The state at this moment, and the changes that have settled up to then, in order, each at its own time."""
    changes: list[Change] = []
    while (due_ms := next_due_ms(state, windows)) is not None and due_ms <= now_ms:
        state, change = _settle(state, windows, due_ms)
        changes.append(change)
    return _forget(state, windows, now_ms), changes


def resynced(state: State, at_ms: int, replicas: int) -> tuple[State, list[Change]]:
    """The state after a silent source reports again: what has changed meanwhile settles at once."""
    _check(replicas)
    at_ms = max(at_ms, state.now_ms)
    if state.settled == replicas:
        return State.restored(replicas, state.revision, at_ms), []
    return _settle_at_once(state, at_ms, replicas)


def _settle_at_once(state: State, at_ms: int, replicas: int) -> tuple[State, list[Change]]:
    change = Change(state.settled, replicas, "resync", at_ms, at_ms, state.revision + 1)
    return State.restored(replicas, change.revision, at_ms), [change]


def _check(replicas: int) -> None:
    if replicas < 0:
        raise ValueError(f"{replicas} replicas: a count can't be negative")


def next_due_ms(state: State, windows: Windows) -> int | None:
    """When the next change settles if no other count comes; None without a pending change."""
    return min((due.at_ms for due in _due(state, windows)), default=None)


@dataclass(frozen=True)
class _Due:
    """A change that settles at a moment."""

    at_ms: int
    replicas: int
    first_seen_ms: int


def _settle(state: State, windows: Windows, at_ms: int) -> tuple[State, Change]:
    due = next(due for due in _due(state, windows) if due.at_ms == at_ms)
    direction: Cause = "scale_up" if due.replicas > (state.settled or 0) else "scale_down"
    cause: Cause = "flapping" if _reversals(state, at_ms - windows.up_ms) >= FLAPS else direction
    change = Change(state.settled, due.replicas, cause, due.first_seen_ms, at_ms, state.revision + 1)
    return replace(state, settled=due.replicas, revision=change.revision, now_ms=at_ms), change


def _reversals(state: State, after_ms: int) -> int:
    """The number of raw changes after this moment, where several in one direction count once."""
    directions = [
        count.replicas > before.replicas for before, count in pairwise(state.seen) if count.at_ms > after_ms
    ]
    return sum(1 for _ in groupby(directions))


def _due(state: State, windows: Windows) -> Iterator[_Due]:
    """The changes that settle after `now_ms` if the current count holds and nothing else settles before."""
    if state.settled is None:
        return
    for index, start in enumerate(state.seen):
        for window_ms, crosses, extreme in ((windows.down_ms, _below, max), (windows.up_ms, _above, min)):
            at_ms = start.at_ms + window_ms
            within = [start, *(seen for seen in state.seen[index + 1 :] if seen.at_ms < at_ms)]
            replicas = extreme(seen.replicas for seen in within)
            if at_ms > state.now_ms and crosses(replicas, state.settled):
                yield _Due(at_ms, replicas, start.at_ms)


def _below(replicas: int, settled: int) -> bool:
    return replicas < settled


def _above(replicas: int, settled: int) -> bool:
    return replicas > settled


def _forget(state: State, windows: Windows, now_ms: int) -> State:
    """The state without counts that no window reaches any more; the one at the window's beginning stays."""
    horizon_ms = now_ms - max(windows.up_ms, windows.down_ms)
    kept = [
        seen
        for index, seen in enumerate(state.seen)
        if index == len(state.seen) - 1 or state.seen[index + 1].at_ms > horizon_ms
    ]
    return replace(state, seen=tuple(kept), now_ms=max(state.now_ms, now_ms))
