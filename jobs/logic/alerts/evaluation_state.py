"""The stored state of the job alerts: one message key's alerts (evaluation.py), and whether a timer is set."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from tidegate.jobs.logic.alerts.evaluation import Evaluation
from tidegate.jobs.logic.alerts.states import AlertState
from tidegate.jobs.logic.state_format import StateFormat, StoredForm
from tidegate.schemas.rows.signals import AlertRow


@dataclass
class EvaluatedKey:
    """A message key in memory. timer: one is set."""

    known: Evaluation
    timer: bool = False


@dataclass(frozen=True)
class StoredAlert(StoredForm):
    """One alert's life so far."""

    key: str
    began_ms: int | None
    fired_ms: int | None
    false_since_ms: int | None
    published_ms: int
    seen_ms: int
    was_otherwise: bool


@dataclass(frozen=True)
class StoredKey(StoredForm):
    """Version 1. Field names are the stored form.

    newest: the newest row of each alert that has begun. slo, minutes (start, requests, failed), lines (moment, count):
    the figures are as the rows have them.
    """

    alerts: tuple[StoredAlert, ...]
    newest: tuple[AlertRow, ...]
    slo: dict[str, JsonValue]
    minutes: tuple[tuple[int, JsonValue, JsonValue], ...]
    lines: tuple[tuple[int, JsonValue], ...]
    observed_ms: int
    arrived_ms: int
    timer: bool


def _store(one: EvaluatedKey) -> StoredKey:
    known = one.known
    return StoredKey(
        alerts=tuple(
            StoredAlert(
                key,
                state.began_ms,
                state.fired_ms,
                state.false_since_ms,
                state.published_ms,
                state.seen_ms,
                state.was_otherwise,
            )
            for key, state in known.states.items()
        ),
        newest=tuple(known.newest.values()),
        slo=dict(known.slo),
        minutes=tuple((start_ms, *counts) for start_ms, counts in known.minutes.items()),
        lines=tuple(known.lines),
        observed_ms=known.observed_ms,
        arrived_ms=known.arrived_ms,
        timer=one.timer,
    )


def _restore(stored: StoredKey) -> EvaluatedKey:
    known = Evaluation(
        states={
            alert.key: AlertState(
                alert.began_ms,
                alert.fired_ms,
                alert.false_since_ms,
                alert.published_ms,
                alert.seen_ms,
                alert.was_otherwise,
            )
            for alert in stored.alerts
        },
        newest={row.alert_key: row for row in stored.newest},
        slo=stored.slo,  # type: ignore[arg-type]
        minutes={start_ms: (requests, bad) for start_ms, requests, bad in stored.minutes},  # type: ignore[misc]
        lines=list(stored.lines),  # type: ignore[arg-type]
        observed_ms=stored.observed_ms,
        arrived_ms=stored.arrived_ms,
    )
    return EvaluatedKey(known, stored.timer)


FORMAT = StateFormat("alerts", 1, StoredKey, _store, _restore)
