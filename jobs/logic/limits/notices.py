"""Why a limit is held without a push: reasons that people should know, each published now and then."""

from __future__ import annotations

import re

from tidegate.jobs.logic.limits.controls import describe
from tidegate.jobs.logic.limits.inputs import GatewayState, Session, Situation, TaskState
from tidegate.schemas.rows.limits import LimitState
from tidegate.schemas.timestamps import from_epoch_ms, to_text

_VARYING = re.compile(r"0x[0-9a-f]+|\d+\.\d+")
"""The parts of a client's error message that differ from try to try: addresses of objects, remaining seconds."""


class NoticeLog:
    """When each reason was last published, by the row's state: a reason that lasts is due every `alarm_ms`."""

    def __init__(self, alarm_ms: int) -> None:
        self._alarm_ms = alarm_ms
        self._published_ms: dict[LimitState, dict[str, int]] = {}

    def publish_due(self, state: LimitState, reason: str, now_ms: int) -> bool:
        """Whether the reason is due; if it is, it is marked as published now."""
        published_ms = self._published_ms.get(state, {}).get(_VARYING.sub("#", reason))
        if published_ms is not None and now_ms - published_ms < self._alarm_ms:
            return False
        self.mark_published(state, reason, now_ms)
        return True

    def mark_published(self, state: LimitState, reason: str, at_ms: int) -> None:
        """Note that the reason was published at this moment."""
        self._published_ms.setdefault(state, {})[_VARYING.sub("#", reason)] = at_ms

    def end(self, state: LimitState) -> bool:
        """Forget the reasons of this state. Returns whether there was one."""
        return self._published_ms.pop(state, None) is not None

    def clear(self) -> None:
        """Forget all reasons."""
        self._published_ms.clear()


def hold_reason(state: TaskState, situation: Situation, session: Session) -> str | None:
    """Why the limit in force is held, where people should know it; None where there is nothing to report."""
    if situation.pause is not None:
        return describe(situation.pause)
    if state.pending is not None:
        return None
    gateway = situation.gateway
    if gateway.ready == 0:
        return f"gateway {gateway.name} has no ready pod: the last limit holds"
    return silence(state, situation, session) or _long_unreachable(gateway, situation.now_ms, session)


def silence(state: TaskState, situation: Situation, session: Session) -> str | None:
    """Which source is silent: that of the replicas or that of the gateway's pods; None where neither is."""
    gateway, replicas_ms = situation.gateway, state.replicas.observed_ms
    if _is_silent(replicas_ms, situation.now_ms, session):
        return f"the source of the task's replicas {_silent_since(replicas_ms)}: the last limit holds"
    if _is_silent(gateway.observed_ms, situation.now_ms, session):
        since = _silent_since(gateway.observed_ms)
        return f"the source of gateway {gateway.name}'s pods {since}: the last limit holds"
    return None


def _is_silent(observed_ms: int | None, now_ms: int, session: Session) -> bool:
    since_ms = session.started_ms if observed_ms is None else observed_ms
    return now_ms - since_ms > session.timing.silent_ms


def _silent_since(observed_ms: int | None) -> str:
    return (
        "has sent no heartbeat yet" if observed_ms is None else f"has been silent since {moment(observed_ms)}"
    )


def _long_unreachable(gateway: GatewayState, now_ms: int, session: Session) -> str | None:
    unreachable = gateway.unreachable
    if unreachable is None or now_ms - unreachable.since_ms <= session.timing.silent_ms:
        return None
    since = moment(unreachable.since_ms)
    return f"gateway {gateway.name} has been unreachable since {since}, the last limit holds: {unreachable.reason}"


def moment(at_ms: int | None) -> str:
    """A time as text."""
    return "an unknown time" if at_ms is None else to_text(from_epoch_ms(at_ms))
