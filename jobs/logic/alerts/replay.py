"""Evaluates rules over a fixture's rows, as the job does, and reports differences from the expected alerts."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from tidegate.jobs.logic.alerts.evaluation import Evaluation
from tidegate.schemas.alert_fixture import Expectation, Expected, Series, Test, fields_of
from tidegate.schemas.alert_rules import ROWS, RulesFile
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.timestamps import from_epoch_ms, to_text

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z, a Thursday."""

Event = tuple[int, int, Series, dict[str, Any]]


def differences(rules: RulesFile, test: Test) -> list[str]:
    """One line for each missing or unexpected alert."""
    known: dict[tuple[str, str], Evaluation] = {}
    newest: dict[str, AlertRow] = {}
    wrong: list[str] = []
    waiting = sorted(test.expect, key=lambda one: one.after_seconds)
    for at_ms, _, series, row in _events(test):
        while waiting and START_MS + 1000 * waiting[0].after_seconds < at_ms:
            wrong += _compare(waiting.pop(0), newest)
        evaluation = known.setdefault((series.department, series.task or series.kind or ""), Evaluation())
        for alert in evaluation.observe(
            rules, series.source, row, at_ms + round(1000 * series.delay_seconds)
        ):
            newest[alert.alert_key] = alert
    for expectation in waiting:
        wrong += _compare(expectation, newest)
    return wrong


def unknown_fields(test: Test) -> list[str]:
    """Errors for fields of a series that its source does not have."""
    return [
        f"{test.name}: {series.source} has no field {name!r}"
        for series in test.input
        for name in series.fields
        if name not in fields_of(series.source)
    ]


def _events(test: Test) -> Iterator[Event]:
    """All rows in order of time."""
    return heapq.merge(*(_of(index, series) for index, series in enumerate(test.input)))


def _of(index: int, series: Series) -> Iterator[Event]:
    for step, values in enumerate(series.rows()):
        if values is None:
            continue
        end_ms = START_MS + round(1000 * (series.begin_seconds + (step + 1) * series.step))
        yield end_ms, index, series, _row(series, values, end_ms)


def _row(series: Series, values: dict[str, float], end_ms: int) -> dict[str, Any]:
    """A row with the given values: other counts are 0, other fields null."""
    moment = to_text(from_epoch_ms(end_ms))
    row: dict[str, Any] = dict.fromkeys(ROWS[series.source].model_fields)
    counts = ("requests", "errors_5xx", "aborted", "rate_limited", "lines")
    row |= {name: 0 for name in counts if name in row}
    labels = {
        "department": series.department,
        "task": series.task,
        "replica": series.replica,
        "level": series.row_level,
        "kind": series.kind,
        "window_end": moment,
        "computed_at": moment,
        "updated_at": moment,
    }
    return row | {name: value for name, value in labels.items() if name in row} | values


def _compare(expectation: Expectation, newest: dict[str, AlertRow]) -> Iterator[str]:
    after = f"after {expectation.after_seconds:g} s"
    there = [row for row in newest.values() if row.state != "resolved"]
    for wanted in expectation.alerts:
        if not any(_is(row, wanted) for row in newest.values()):
            current = ", ".join(_named(row) for row in newest.values()) or "nothing"
            yield f"{after}: {_wanted(wanted)} is missing; there is {current}"
    for row in there:
        if not any(_is(row, wanted) for wanted in expectation.alerts):
            yield f"{after}: {_named(row)} is not expected: {row.message}"


def _is(row: AlertRow, wanted: Expected) -> bool:
    return (row.rule, row.state) == (wanted.rule, wanted.state) and all(
        getattr(wanted, name) in (None, getattr(row, name)) for name in ("department", "task", "replica")
    )


def _named(row: AlertRow) -> str:
    subject = "/".join(part for part in (row.department, row.task, row.replica) if part)
    return f"{row.rule} {row.state}{f' of {subject}' if subject else ''}"


def _wanted(wanted: Expected) -> str:
    subject = "/".join(part for part in (wanted.department, wanted.task, wanted.replica) if part)
    return f"{wanted.rule} {wanted.state}{f' of {subject}' if subject else ''}"
