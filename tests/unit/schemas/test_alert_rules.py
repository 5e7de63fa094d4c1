"""Alert rules: what is refused, each rule that is shipped at work, and an alert's life as a timeline."""

from __future__ import annotations

from datetime import datetime

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.support.paths import ROOT
from tidegate.jobs.logic.alerts import replay as alert_replay
from tidegate.jobs.logic.alerts.states import FORGOTTEN_MS, AlertState, Durations, advance
from tidegate.schemas import alert_fixture
from tidegate.schemas.alert_rules import SHIPPED, RulesError, Silence, load, parse

FIXTURE = ROOT / "tests" / "fixtures" / "alerts" / "shipped.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
RULE = """
rules:
  - name: slow
    level: interface
    source: service-metrics.1m
    when: {field: latency_p99_ms, op: ">", value: 800}
    message: "p99 of {task} is {value:.0f}"
"""


@pytest.mark.parametrize("test", alert_fixture.load(FIXTURE).tests, ids=lambda test: test.name)
def test_the_shipped_rules_do_what_they_are_for(test: alert_fixture.Test) -> None:
    assert alert_replay.unknown_fields(test) == []
    assert alert_replay.differences(load(SHIPPED), test) == []


def test_every_shipped_rule_has_a_test_in_which_it_fires_and_a_runbook() -> None:
    rules = load(SHIPPED)
    names = {rule.name for rule in rules.rules} | {rate.name for rate in rules.burn_rates}
    fired = {
        alert.rule
        for test in alert_fixture.load(FIXTURE).tests
        for expectation in test.expect
        for alert in expectation.alerts
        if alert.state == "firing"
    }
    assert names == fired
    headings = {
        line.lstrip("# ").strip() for line in RUNBOOKS.read_text().splitlines() if line.startswith("#")
    }
    for entry in (*rules.rules, *rules.burn_rates):
        assert entry.runbook_url is not None
        assert entry.runbook_url.partition("#")[2] in headings, entry.name


def test_an_expectation_that_is_wrong_is_reported() -> None:
    (test,) = alert_fixture.Fixture.model_validate(
        yaml.safe_load(
            """
            tests:
              - name: wrong
                input: [{source: service-metrics.1m, task: chat,
                         fields: {latency_p99_ms: "900x2", latency_count: "100"}}]
                expect:
                  - {after_seconds: 60, alerts: []}
                  - {after_seconds: 120, alerts: [{rule: slow, state: pending}]}
            """
        )
    ).tests
    wrong = alert_replay.differences(parse(RULE, "r"), test)
    assert len(wrong) == 3
    assert "after 60 s: slow firing of default/chat is not expected: p99 of chat is 900" in wrong[0]
    assert "after 120 s: slow pending is missing" in wrong[1]


@pytest.mark.parametrize(
    ("old", "new", "reported"),
    [
        (
            "latency_p99_ms",
            "p99",
            "rules.0.when.field: 'p99' is not a number of service-metrics.1m; there are",
        ),
        ("latency_p99_ms", "response_flags", "'response_flags' is not a number"),
        ("{task}", "{taks}", "rules.0.message: {taks} is unknown; there are"),
        ("{task}", "{task", "rules.0.message:"),
        ("{value:.0f}", "{task:.0f}", "rules.0.message:"),
        ("value: 800", "value: .nan", "rules.0.when.value"),
        ("value: 800", "value: slo.p98", "rules.0.when.value"),
        ("value: 800", "value: yes", "rules.0.when.value"),
        ('op: ">"', 'op: "=>"', "rules.0.when.op"),
        ("service-metrics.1m", "service-metrics.5m", "rules.0.source"),
        ("service-metrics.1m", "line-counts", "rules.0.when.field"),
        ("name: slow", "name: Slow One", "rules.0.name"),
        ("level: interface", "level: interface\n    row_level: pod", "rules.0.row_level"),
        (
            "level: interface",
            "level: interface\n    resolve_value: 900",
            "resolve_value: 900 is on the wrong side",
        ),
        ("level: interface", "level: interface\n    level: hardware", "the key 'level' stands twice"),
        ("level: interface", "level: interface\n    for: 5m", "rules.0.for: Extra inputs"),
    ],
)
def test_a_rule_that_is_wrong_is_refused_with_its_place(old: str, new: str, reported: str) -> None:
    with pytest.raises(RulesError, match=r"(?s)^rules\.yaml: ") as refused:
        parse(RULE.replace(old, new), "rules.yaml")
    assert reported in str(refused.value)


def test_all_that_is_wrong_is_reported_at_once() -> None:
    twice = RULE + RULE.replace("rules:\n", "").replace("latency_p99_ms", "p99")
    with pytest.raises(RulesError) as refused:
        parse(twice, "rules.yaml")
    lines = str(refused.value).splitlines()
    assert any("rules.1.name: 'slow' is the name of rules.0 already" in line for line in lines)
    assert any("rules.1.when.field" in line for line in lines)


@pytest.mark.parametrize(
    ("moment", "silent"),
    [
        ("2026-11-27T22:30:00+08:00", False),  # a Friday
        ("2026-11-28T21:59:59+08:00", False),
        ("2026-11-28T22:00:00+08:00", True),
        ("2026-11-29T05:59:59+08:00", True),
        ("2026-11-29T06:00:00+08:00", False),
        ("2026-11-29T23:00:00+08:00", False),
    ],
)
def test_a_weekly_silence_is_of_its_zone_and_goes_over_midnight(moment: str, silent: bool) -> None:
    silence = Silence(days=["sat"], begin="22:00", end="06:00", zone="Asia/Shanghai", reason="batch")
    assert silence.covers("slow", "vision", "chat", datetime.fromisoformat(moment)) is silent


@pytest.mark.parametrize(
    "wrong",
    [
        {"begin": "22:00"},
        {"begin": "22:00", "end": "06:00", "zone": "Mars/Olympus"},
        {"begin": "25:00", "end": "06:00"},
        {"since": "2026-11-28T10:00:00", "until": "2026-11-28T11:00:00Z"},
        {},
    ],
)
def test_a_silence_that_is_none_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(RulesError, match="silences"):
        parse(yaml.safe_dump({"silences": [{"reason": "x", **wrong}]}), "rules.yaml")


def lives(verdicts: list[tuple[int, bool | None]], durations: Durations) -> list[tuple[int, str]]:
    """What is said at which second."""
    state, said = AlertState(), []
    for second, verdict in verdicts:
        done = advance(state, verdict, (second + 1) * 1000, durations)
        state = done.state
        if done.published:
            said.append((second, done.published))
    return said


def test_it_fires_after_for_and_ends_once_it_was_well_for_long_enough() -> None:
    verdicts: list[tuple[int, bool | None]] = [(second, 5 <= second < 20) for second in range(40)]
    assert lives(verdicts, Durations(10_000, 4000)) == [(5, "pending"), (15, "firing"), (24, "resolved")]


def test_rows_without_a_verdict_neither_begin_nor_end_it() -> None:
    verdicts: list[tuple[int, bool | None]] = [
        (0, True),
        (1, None),
        (2, True),
        (3, None),
        (4, None),
        (5, False),
    ]
    assert lives(verdicts, Durations(2000)) == [(0, "pending"), (2, "firing"), (5, "resolved")]
    assert lives([(0, None), (1, None)], Durations(0)) == []


def test_after_a_long_silence_it_has_ended_and_another_begins() -> None:
    later = FORGOTTEN_MS // 1000 + 10
    said = lives([(0, True), (later, True), (later + 1, True)], Durations(0))
    assert said == [(0, "firing"), (later, "resolved"), (later + 1, "firing")]


def test_a_series_that_flips_every_ten_seconds_is_one_alert_with_hysteresis() -> None:
    flips: list[tuple[int, bool | None]] = [(second, second // 10 % 2 == 0) for second in range(600)]
    without = lives(flips, Durations(5000))
    held = lives(flips, Durations(5000, 30_000))
    assert len([one for one in without if one[1] == "firing"]) == 30
    assert [reported for _, reported in held if reported != "firing"] == ["pending"]
    assert len([one for one in held if one[1] == "firing"]) <= 10  # the first, and again each minute


@given(st.lists(st.sampled_from([True, False, None]), max_size=200), st.integers(0, 20), st.integers(0, 20))
def test_firing_follows_pending_and_resolved_follows_either(
    verdicts: list[bool | None], for_seconds: int, keep_seconds: int
) -> None:
    said = lives(list(enumerate(verdicts)), Durations(for_seconds * 1000, keep_seconds * 1000))
    there = False
    for _, reported in said:
        if reported == "resolved":
            assert there
        there = reported != "resolved"


@given(st.lists(st.booleans(), max_size=100))
def test_the_same_rows_again_say_nothing(verdicts: list[bool]) -> None:
    state = AlertState()
    rows = list(enumerate(verdicts))
    for second, verdict in rows:
        state = advance(state, verdict, (second + 1) * 1000, Durations(3000)).state
    for second, verdict in rows:
        done = advance(state, verdict, (second + 1) * 1000, Durations(3000))
        assert (done.published, done.state) == (None, state)
