"""Evaluates alert rules: takes each row, and yields the alerts that it begins, continues or ends.

`Evaluation` is the state of one message key's alerts (of a task, a department, a count): one object in the job's keyed
state, another in `tidegate alerts test`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.jobs.logic.alerts.states import FORGOTTEN_MS, AlertState, Durations, Transition, advance, expire
from tidegate.schemas.alert_rules import BurnRate, Rule, RulesFile, Silence, Source
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.timestamps import from_epoch_ms, from_text, to_epoch_ms

_MINUTE_MS = 60_000
_REMEMBERED_MS = 24 * 60 * _MINUTE_MS
"""How long the state of a replica that has gone is kept: that its condition was false once."""
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}
_TIME_FIELDS: Mapping[Source, str] = {"task-profile": "computed_at", "line-counts": "updated_at"}
"""The field with a row's event time; for all other sources, the window's end."""


@dataclass(frozen=True)
class Subject:
    """The subject of an alert."""

    department: str | None
    task: str | None
    replica: str | None

    def key(self, rule: str) -> str:
        """The alert's key."""
        return "|".join((rule, self.department or "", self.task or "", self.replica or ""))


@dataclass
class Evaluation:
    """The state of one message key's alerts. slo: the task's SLO, from its profile."""

    states: dict[str, AlertState] = field(default_factory=dict)
    newest: dict[str, AlertRow] = field(default_factory=dict)
    slo: dict[str, float | None] = field(default_factory=dict)
    minutes: dict[int, tuple[int, int]] = field(default_factory=dict)
    lines: list[tuple[int, int]] = field(default_factory=list)
    observed_ms: int = 0
    arrived_ms: int = 0

    def restore(self, row: AlertRow) -> None:
        """Continue an alert that was published before this state began."""
        if row.state == "resolved":
            return
        began_ms, seen_ms = to_epoch_ms(row.started_at), to_epoch_ms(row.observed_at)
        fired_ms = None if row.fired_at is None else to_epoch_ms(row.fired_at)
        self.states[row.alert_key] = AlertState(began_ms, fired_ms, None, seen_ms, seen_ms)
        self.newest[row.alert_key] = row

    def observe(
        self, rules: RulesFile, source: Source, row: Mapping[str, Any], now_ms: int
    ) -> Iterator[AlertRow]:
        """Take a row, as parsed JSON. now_ms: when Kafka received it.

        Raises KeyError, TypeError or ValueError for an invalid row.
        """
        moment = row[_TIME_FIELDS.get(source, "window_end")]
        at_ms = to_epoch_ms(from_text(moment))
        yield from self._without_rule(rules, at_ms)
        self.observed_ms = max(self.observed_ms, at_ms)
        self.arrived_ms = max(self.arrived_ms, now_ms)
        if source == "task-profile":
            self.slo = {"slo.p99_ms": row["slo_p99_ms"], "slo.error_rate": row["slo_error_rate"]}
        computed = {"age_seconds": max(0.0, (now_ms - at_ms) / 1000)}
        if source == "line-counts":
            computed["lines_per_minute"] = self._lines_per_minute(at_ms, row["lines"])
        row = {**row, **computed}
        for rule in rules.rules:
            if rule.source == source and _takes(rule, row):
                yield from self._rule(rule, rules.silences, row, at_ms)
        if source == "service-metrics.1m" and row["level"] == "task" and rules.burn_rates:
            bad = row["errors_5xx"] + row["aborted"]
            self.minutes[at_ms - _MINUTE_MS] = (row["requests"], bad)
            longest = max(rate.long_minutes for rate in rules.burn_rates)
            since_ms = self.observed_ms - longest * _MINUTE_MS
            self.minutes = {start: counts for start, counts in self.minutes.items() if start >= since_ms}
            for rate in rules.burn_rates:
                if rate.select.takes(row["department"], row["task"], None):
                    yield from self._burn_rate(rate, rules.silences, row, at_ms)

    def _without_rule(self, rules: RulesFile, at_ms: int) -> Iterator[AlertRow]:
        """End the alerts of removed rules, with the first row after the removal."""
        if not self.newest:
            return
        known = {rule.name for rule in rules.rules} | {rate.name for rate in rules.burn_rates}
        for key, row in list(self.newest.items()):
            if row.rule not in known:
                ended = expire(self.states.pop(key, AlertState()), at_ms)
                yield from self._rows(
                    ended, row, rules.silences, row.value, row.threshold, "the rule was removed"
                )

    def expire(self, rules: RulesFile, now_ms: int) -> Iterator[AlertRow]:
        """End the alerts without a row for FORGOTTEN_MS. now_ms: by the clock of `observe`."""
        self.states = {
            key: state
            for key, state in self.states.items()
            if state.began_ms is not None or state.seen_ms > self.observed_ms - _REMEMBERED_MS
        }
        if now_ms - self.arrived_ms <= FORGOTTEN_MS:
            return
        for key, state in list(self.states.items()):
            row = self.newest.get(key)
            if state.began_ms is None or row is None:
                continue
            ended = expire(state, state.seen_ms + FORGOTTEN_MS)
            self.states[key] = ended.state
            yield from self._rows(ended, row, rules.silences, row.value, row.threshold, row.message)

    @property
    def idle(self) -> bool:
        """Whether no alert has begun."""
        return all(state.began_ms is None for state in self.states.values())

    def _rule(
        self, rule: Rule, silences: Sequence[Silence], row: Mapping[str, Any], at_ms: int
    ) -> Iterator[AlertRow]:
        threshold = rule.when.value if isinstance(rule.when.value, float | int) else self._slo_threshold(rule)
        replica = row.get("replica") if rule.row_level == "replica" else row.get("version")
        subject = Subject(row.get("department"), row.get("task"), replica)
        key = subject.key(rule.name)
        state = self.states.get(key, AlertState())
        value = row.get(rule.when.field)  # a row of an earlier release lacks what came later
        verdict: bool | None = None
        if value is not None and threshold is not None and (row.get(rule.samples_field) or 0) >= rule.samples:
            limit = rule.resolve_value if state.firing and rule.resolve_value is not None else threshold
            verdict = _OPERATORS[rule.when.op](value, limit)
            if verdict and rule.only_after_other and not state.was_otherwise:
                verdict = None
        durations = Durations(round(rule.for_seconds * 1000), round(rule.keep_firing_seconds * 1000))
        done = advance(state, verdict, at_ms, durations)
        self._keep(key, done.state)
        if done.published:
            message = (
                rule.message.format(**{**row, "value": value, "threshold": threshold}) if verdict else ""
            )
            yield from self._rows(done, _draft(rule, subject, at_ms), silences, value, threshold, message)

    def _burn_rate(
        self, rate: BurnRate, silences: Sequence[Silence], row: Mapping[str, Any], at_ms: int
    ) -> Iterator[AlertRow]:
        subject = Subject(row["department"], row["task"], None)
        key = subject.key(rate.name)
        budget = rate.budget if rate.budget is not None else self.slo.get("slo.error_rate")
        long, _ = self._burn(rate.long_minutes, at_ms, budget)
        short, requests = self._burn(rate.short_minutes, at_ms, budget)
        verdict: bool | None = None
        if long is not None and short is not None and requests >= rate.min_requests:
            verdict = long >= rate.factor and short >= rate.factor
        done = advance(self.states.get(key, AlertState()), verdict, at_ms, Durations(0))
        self._keep(key, done.state)
        if done.published:
            fields = {**row, "value": long, "threshold": rate.factor, "long": long, "short": short}
            message = rate.message.format(**fields) if verdict else ""
            draft = _draft(rate, subject, at_ms)
            yield from self._rows(done, draft, silences, long, rate.factor, message)

    def _burn(self, minutes: int, at_ms: int, budget: float | None) -> tuple[float | None, int]:
        """The burn rate of the error budget over the minutes before, and their requests."""
        since_ms = at_ms - minutes * _MINUTE_MS
        counts = [self.minutes[start] for start in self.minutes if since_ms <= start < at_ms]
        requests, bad = sum(one for one, _ in counts), sum(one for _, one in counts)
        if not requests or not budget:
            return None, requests
        return bad / requests / budget, requests

    def _slo_threshold(self, rule: Rule) -> float | None:
        objective = self.slo.get(str(rule.when.value))
        return None if objective is None else objective * rule.when.factor

    def _keep(self, key: str, state: AlertState) -> None:
        self.states[key] = state

    def _rows(
        self,
        done: Transition,
        draft: AlertRow,
        silences: Sequence[Silence],
        value: float | None,
        threshold: float | None,
        message: str,
    ) -> Iterator[AlertRow]:
        if done.published is None or done.began_ms is None:
            return
        key = draft.alert_key
        at_ms = done.at_ms
        before = self.newest.get(key)
        began = from_epoch_ms(done.began_ms)
        row = draft.model_copy(
            update={
                "id": f"{key}|{done.began_ms}|{done.published}",
                "state": done.published,
                "value": None if value is None else float(value),
                "threshold": None if threshold is None else float(threshold),
                "message": message or (before.message if before else f"{draft.rule}: resolved"),
                "silenced": any(
                    silence.covers(draft.rule, draft.department, draft.task, from_epoch_ms(at_ms))
                    for silence in silences
                ),
                "started_at": began,
                "fired_at": None if done.fired_ms is None else from_epoch_ms(done.fired_ms),
                "resolved_at": from_epoch_ms(at_ms) if done.published == "resolved" else None,
                "observed_at": from_epoch_ms(at_ms),
            }
        )
        if done.published == "resolved":
            self.newest.pop(key, None)
        else:
            self.newest[key] = row
        yield row

    def _lines_per_minute(self, at_ms: int, lines: int) -> float:
        """The growth over the last minute, or the observed part of it. A count that fell was reset."""
        if self.lines and lines < self.lines[-1][1]:
            self.lines = []
        self.lines.append((at_ms, lines))
        # The newest count that is a minute old stays: the growth is measured from it.
        while len(self.lines) > 2 and self.lines[1][0] <= at_ms - _MINUTE_MS:
            self.lines.pop(0)
        first_ms, first = self.lines[0]
        return (lines - first) * _MINUTE_MS / max(_MINUTE_MS, at_ms - first_ms)


def _takes(rule: Rule, row: Mapping[str, Any]) -> bool:
    if row.get("level", "task") != rule.row_level:
        return False
    return rule.select.takes(row.get("department"), row.get("task"), row.get("kind"))


def _draft(entry: Rule | BurnRate, subject: Subject, at_ms: int) -> AlertRow:
    """The fields of a row that don't depend on the alert's state."""
    moment = from_epoch_ms(at_ms)
    return AlertRow(
        id="",
        alert_key=subject.key(entry.name),
        rule=entry.name,
        level=entry.level,
        severity=entry.severity,
        state="pending",
        department=subject.department,
        task=subject.task,
        replica=subject.replica,
        value=None,
        threshold=None,
        message="",
        runbook_url=entry.runbook_url,
        labels=entry.labels,
        silenced=False,
        started_at=moment,
        fired_at=None,
        resolved_at=None,
        observed_at=moment,
    )
