"""The lifecycle of an alert: pending -> firing -> resolved, in event time.

An alert is pending while its condition holds and `for` has not elapsed, then fires, and is resolved once the condition
has been false for keep_firing. A row without a verdict (null, too few samples) neither begins nor ends an alert. An
alert without any other row for FORGOTTEN_MS ends, as in Prometheus when its series ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

FORGOTTEN_MS = 5 * 60_000
AGAIN_MS = 60_000
"""The interval at which a firing alert is published again, with its newest value."""

PublishedState = Literal["pending", "firing", "resolved"]


@dataclass(frozen=True)
class Durations:
    """How long the condition must hold before the alert fires, and be false before it is resolved, in ms."""

    for_ms: int
    keep_firing_ms: int = 0


@dataclass(frozen=True)
class AlertState:
    """The state of an alert. began_ms None: its condition doesn't hold. Event times, in epoch ms."""

    began_ms: int | None = None
    fired_ms: int | None = None
    false_since_ms: int | None = None
    published_ms: int = 0
    seen_ms: int = 0
    was_otherwise: bool = False

    @property
    def firing(self) -> bool:
        """Whether it has fired and is not resolved."""
        return self.fired_ms is not None


@dataclass(frozen=True)
class Transition:
    """An alert's new state. published: the state to publish as of at_ms, if any, with its began_ms and fired_ms."""

    state: AlertState
    published: PublishedState | None = None
    at_ms: int = 0
    began_ms: int | None = None
    fired_ms: int | None = None


def advance(state: AlertState, verdict: bool | None, at_ms: int, durations: Durations) -> Transition:
    """The transition by one more row. verdict: whether the condition holds, or a firing alert continues; None: unknown.

    A row that isn't newer than the newest one has no effect: at a replay the same rows give the same alerts.
    """
    if at_ms <= state.seen_ms:
        return Transition(state)
    forgotten = state.began_ms is not None and at_ms - state.seen_ms > FORGOTTEN_MS
    if forgotten:
        ended = expire(state, at_ms)
        return ended if verdict is None else _after(ended, advance(ended.state, verdict, at_ms, durations))
    if verdict is None:
        return Transition(state)
    state = replace(state, seen_ms=at_ms)
    return _holds(state, at_ms, durations) if verdict else _fails(state, at_ms, durations)


def expire(state: AlertState, at_ms: int) -> Transition:
    """The end of an alert whose rows have stopped."""
    if state.began_ms is None:
        return Transition(state)
    return _ended(state, at_ms)


def _holds(state: AlertState, at_ms: int, durations: Durations) -> Transition:
    began_ms = at_ms if state.began_ms is None else state.began_ms
    state = replace(state, began_ms=began_ms, false_since_ms=None)
    if state.fired_ms is not None:
        if at_ms - state.published_ms < AGAIN_MS:
            return Transition(state)
        state = replace(state, published_ms=at_ms)
        return Transition(state, "firing", at_ms, began_ms, state.fired_ms)
    if at_ms - began_ms >= durations.for_ms:
        state = replace(state, fired_ms=at_ms, published_ms=at_ms)
        return Transition(state, "firing", at_ms, began_ms, at_ms)
    if began_ms == at_ms:
        return Transition(state, "pending", at_ms, began_ms)
    return Transition(state)


def _fails(state: AlertState, at_ms: int, durations: Durations) -> Transition:
    state = replace(state, was_otherwise=True)
    if state.began_ms is None:
        return Transition(state)
    if state.fired_ms is None:
        return _ended(state, at_ms)
    false_since_ms = at_ms if state.false_since_ms is None else state.false_since_ms
    if at_ms - false_since_ms < durations.keep_firing_ms:
        return Transition(replace(state, false_since_ms=false_since_ms))
    return _ended(state, at_ms)


def _ended(state: AlertState, at_ms: int) -> Transition:
    after = AlertState(seen_ms=state.seen_ms, was_otherwise=state.was_otherwise)
    return Transition(after, "resolved", at_ms, state.began_ms, state.fired_ms)


def _after(ended: Transition, begun: Transition) -> Transition:
    """A forgotten alert ends before the next begins: the end is published now, the new alert with its next row."""
    return replace(ended, state=replace(begun.state, published_ms=0))
