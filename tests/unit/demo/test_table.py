"""The demo's table and its summary, as text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from tidegate.demo.board import Counts, Line, ReplicaLine, StreamLine
from tidegate.demo.load_report import LoadReport, TaskReport
from tidegate.demo.measures import Measures, Stored, compare
from tidegate.demo.measures import render as render_measures
from tidegate.demo.table import Totals, render
from tidegate.schemas.rows.service_metrics import UNROUTED

LINE = Line(
    department="search",
    task="ranking",
    version=None,
    qps=41.25,
    p50_ms=38.2,
    p99_ms=1204.0,
    errors_percent=0.0,
    limited_percent=12.5,
    aborted=3,
    replicas=3,
    apdex=0.987,
    newest_age_seconds=2.4,
)
TOTALS = Totals("the clients' day is half over", sent=1200, counted=1100, late=1, documents=5000)
GIB = 1 << 30


def text_of(renderable: RenderableType, width: int = 140) -> str:
    console = Console(width=width, file=None, record=True, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def row_with(text: str, word: str) -> list[str]:
    return next(line for line in text.splitlines() if word in line).split()


def test_a_task_is_one_line_with_all_that_was_asked_for() -> None:
    text = text_of(render([LINE], TOTALS))
    assert row_with(text, "ranking") == [
        "ranking", "41.2", "38.2", "1,204", "-", "12.5", "3", "3", "0.99", "2.4", "s",
    ]  # fmt: skip
    for heading in ("qps", "p50", "p99", "errors", "limited", "left", "apdex", "newest"):
        assert heading in text


def test_the_totals_say_how_many_requests_are_still_on_their_way() -> None:
    text = text_of(render([LINE], TOTALS))
    assert "1,200 sent, 1,100 counted (+ 99 on the way), 1 late" in text
    assert "5,000 documents" in text


def test_a_silent_elasticsearch_is_said_and_not_shown_as_zero() -> None:
    assert "Elasticsearch: not answering" in text_of(render([LINE], replace(TOTALS, documents=None)))


def test_before_the_first_row_the_table_says_that_there_are_none() -> None:
    assert "No rows yet" in text_of(render([], TOTALS))


def test_departments_tasks_and_versions_are_indented_below_each_other() -> None:
    lines = [replace(LINE, task=None), LINE, replace(LINE, version="v1"), replace(LINE, task="spelling")]
    text = text_of(render(lines, TOTALS))
    shown = [line.rstrip() for line in text.splitlines() if "41.2" in line]
    assert [line.split("41.2")[0].rstrip() for line in shown] == [
        "search",
        "  ranking",
        "    version v1",
        "  spelling",
    ]


def test_the_table_and_the_summary_fit_a_terminal_of_80_columns() -> None:
    line = replace(LINE, task="click-prediction", qps=112.34, p99_ms=12_345.0, errors_percent=100.0)
    found = measures(report(sent=123_456, answered=123_456), Counts(requests=123_456))
    for shown in (render([line], TOTALS), render_measures(found)):
        text = text_of(shown, width=80)
        assert "…" not in text
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 80


def test_what_nothing_was_routed_for_is_one_line_and_not_two() -> None:
    lines = [replace(LINE, department=UNROUTED, task=task) for task in (None, UNROUTED)]
    assert text_of(render(lines, TOTALS)).count(UNROUTED) == 1


def test_what_is_unknown_is_a_dash() -> None:
    text = text_of(render([replace(LINE, p50_ms=None, p99_ms=None, apdex=None, replicas=0)], TOTALS))
    assert row_with(text, "ranking")[2:4] == ["-", "-"]


def test_a_replica_that_stands_out_is_compared_with_its_task() -> None:
    slow = ReplicaLine("search", "ranking", "127.0.0.1:7003", 190.0, 41.0, 0.0)
    text = text_of(render([LINE], TOTALS, [slow]))
    assert "ranking 127.0.0.1:7003: p50 190 ms, all 41.0 ms" in text


def test_a_streaming_model_has_its_first_byte_and_its_tokens() -> None:
    text = text_of(render([LINE], TOTALS, streams=[StreamLine("assistants", "chat", 212.0, 640.0, 1234.5)]))
    assert "chat: first byte p50 212 ms, p99 640 ms, 1,234 tokens/s" in text


def report(**counts: int) -> LoadReport:
    return LoadReport("ended", 1.0, (TaskReport("search", "ranking", **counts),), cut_off_ms=1)


def measures(load: LoadReport, counted: Counts, late: int = 0, whole: bool = True) -> Measures:
    group = ("search", "ranking")
    return Measures(
        whole=whole,
        comparisons=compare(load, {group: counted}, {group: late} if late else {}),
        skipped_requests=load.skipped,
        broken_requests=0,
        line_kinds={"counted": counted.requests, "late": late},
        ages_ms=[1000.0, 2000.0, 3000.0],
        rows={"1s": 60, "1m": 1},
        stored=[Stored("rows of a second", 60, 60)],
        memory_bytes={"kafka": GIB, "flink": 2 * GIB},
    )


def test_equal_counts_agree() -> None:
    found = measures(report(sent=100, answered=90, limited=10), Counts(requests=100, rate_limited=10))
    assert found.agrees
    assert "Every request that the clients sent is accounted for." in text_of(render_measures(found))


def test_one_uncounted_request_is_reported() -> None:
    found = measures(report(sent=100, answered=100), Counts(requests=99))
    assert not found.agrees
    text = text_of(render_measures(found))
    assert "differs" in text
    assert "they should not" in text


def test_a_late_line_accounts_for_its_request() -> None:
    assert measures(report(sent=100, answered=100), Counts(requests=99), late=1).agrees
    assert not measures(report(sent=100, answered=100), Counts(requests=98), late=1).agrees


def test_a_task_that_only_tidegate_knows_disagrees() -> None:
    found = compare(report(sent=1, answered=1), {("x", "forged"): Counts(requests=1)}, {})
    assert [(line.task, line.agrees) for line in found] == [("ranking", False), ("forged", False)]


def test_a_client_that_leaves_at_the_moment_of_the_answer_is_no_difference() -> None:
    assert measures(report(sent=10, answered=9, gave_up=1), Counts(requests=10)).agrees


def test_documents_that_are_missing_disagree() -> None:
    found = measures(report(sent=1, answered=1), Counts(requests=1))
    found = replace(found, stored=[Stored("rows of a second", 59, 60)])
    assert not found.agrees
    assert "59 rows of a second (of 60)" in text_of(render_measures(found))


def test_an_interrupted_demo_says_that_not_all_was_counted_yet() -> None:
    text = text_of(render_measures(measures(report(sent=9), Counts(requests=5), whole=False)))
    assert "incomplete" in text
    assert "ended early" in text


def test_the_summary_has_the_age_of_rows_and_the_memory_against_its_limit() -> None:
    text = text_of(render_measures(measures(report(sent=1), Counts(requests=1))))
    assert "p50 2.0 s, p95 3.0 s" in text
    assert "3.00 GiB, within the 6 GiB" in text
    assert "60 of 1s" in text


def shown_tasks(height: int | None) -> list[str]:
    """What is in the first column at this height, replicas that stand out included."""
    lines = [replace(LINE, task=None), LINE, replace(LINE, version="v1"), replace(LINE, task="spelling")]
    slow = ReplicaLine("search", "ranking", "127.0.0.1:7003", 190.0, 41.0, 0.0)
    text = text_of(render(lines, TOTALS, [slow], height))
    return [line.split()[0] for line in text.splitlines() if "41.2" in line or "7003" in line]


def test_in_a_low_terminal_replicas_go_first_then_versions_then_tasks() -> None:
    everything = ["search", "ranking", "version", "spelling", "ranking"]
    assert shown_tasks(None) == shown_tasks(15) == everything
    assert shown_tasks(14) == shown_tasks(12) == everything[:4]
    assert shown_tasks(11) == ["search", "ranking", "spelling"]
    assert shown_tasks(10) == ["search"]


def test_what_a_low_terminal_hides_is_said() -> None:
    lines = [replace(LINE, task=None), LINE, replace(LINE, version="v1")]
    assert "more in a higher terminal" in text_of(render(lines, TOTALS, height=10))
    assert "higher terminal" not in text_of(render(lines, TOTALS))


@pytest.mark.parametrize("height", [10, 11, 12, 14, 15])
def test_the_table_is_no_higher_than_the_terminal(height: int) -> None:
    lines = [replace(LINE, task=None), LINE, replace(LINE, version="v1"), replace(LINE, task="spelling")]
    slow = ReplicaLine("search", "ranking", "127.0.0.1:7003", 190.0, 41.0, 0.0)
    stream = StreamLine("assistants", "chat", 212.0, 640.0, 1234.5)
    for streams in ((), (stream,)):
        text = text_of(render(lines, TOTALS, [slow], height, streams), width=80)
        assert len(text.splitlines()) <= height
