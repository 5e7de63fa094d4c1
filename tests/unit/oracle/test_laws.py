"""Laws that hold for any lines: what a job's rows are held against must obey them itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.oracle import (
    OracleSettings,
    RawLine,
    Request,
    compare,
    groups_that_differ_from_their_children,
    late_by_a_watermark_after_every_line,
    merged,
    minutes_that_differ_from_their_seconds,
    raw_lines,
    read,
    recompute,
    unlawful_lateness,
)
from tests.oracle.comparing import differences
from tests.oracle.histogram import bucket_of
from tests.oracle.merging import LATENCY_FIELDS
from tests.support.examples import examples
from tests.support.lines import at, line
from tests.support.strategies import any_lines, broken_lines, odd_lines, ordinary_lines, streams
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow

laws = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
SETTINGS = OracleSettings(max_tasks_per_department=4)


@laws
@given(any_lines())
@example(b"[" * 1_000_000)
@example(b'{"start_time":"2026-11-24T10:00:00Z","duration":' + b"9" * 100_000 + b"}")
def test_every_line_has_one_fate(value: bytes) -> None:
    expected = recompute(raw_lines([value]))
    assert sum(expected.counts().values()) == 1
    assert bool(expected.rows) == (expected.counts()["counted"] == 1)


@laws
@given(ordinary_lines())
def test_an_ordinary_line_counts(value: bytes) -> None:
    assert recompute(raw_lines([value])).counts()["counted"] == 1


@laws
@given(streams())
def test_every_row_keeps_the_contract_and_has_the_id_of_its_fields(stream: list[RawLine]) -> None:
    for name, row in recompute(stream, SETTINGS).rows.items():
        assert ServiceMetricsRow.model_validate(row).expected_id() == name == row["id"]


@laws
@given(streams())
def test_a_minute_is_the_merge_of_its_seconds(stream: list[RawLine]) -> None:
    assert minutes_that_differ_from_their_seconds(recompute(stream, SETTINGS).rows) == []


@laws
@given(streams())
def test_a_department_is_its_tasks_and_a_tasks_latency_its_replicas(stream: list[RawLine]) -> None:
    assert groups_that_differ_from_their_children(recompute(stream, SETTINGS).rows) == []


def reached_none(raw: RawLine) -> bool:
    found = read(raw, OracleSettings())
    return isinstance(found, Request) and found.replica is None


@laws
@given(streams())
def test_a_task_is_its_replicas_and_what_reached_none(stream: list[RawLine]) -> None:
    rows = recompute(stream).rows
    unreached = recompute([raw for raw in stream if reached_none(raw)]).rows
    for name, task in rows.items():
        if task["level"] != "task":
            continue
        same_window = [
            row
            for row in rows.values()
            if row["level"] == "replica"
            and all(row[field] == task[field] for field in ("span", "window_start", "department", "task"))
        ]
        parts = same_window + ([unreached[name]] if name in unreached else [])
        assert differences(name, task, merged(parts)) == []
        if not same_window:
            assert [task[field] for field in LATENCY_FIELDS[:2]] == [0, None]


@laws
@given(streams(), st.randoms(use_true_random=False))
def test_the_order_of_lines_changes_nothing(stream: list[RawLine], random: Random) -> None:
    shuffled = list(stream)
    random.shuffle(shuffled)
    first, second = recompute(stream, SETTINGS), recompute(shuffled, SETTINGS)
    assert compare(second.rows.values(), first.rows) == []
    assert second.rows == first.rows
    assert second.fates == first.fates


@laws
@given(streams(lines=ordinary_lines()))
def test_lines_are_counted_once_at_department_level_in_both_spans(stream: list[RawLine]) -> None:
    requests: Counter[str] = Counter()
    for row in recompute(stream).rows.values():
        if row["level"] == "department":
            requests[row["span"]] += row["requests"]
    assert requests["1s"] == requests["1m"] == len(stream)


@laws
@given(streams())
def test_what_may_be_late_moves_from_counted_to_late_and_nothing_else(stream: list[RawLine]) -> None:
    late = late_by_a_watermark_after_every_line(stream, SETTINGS)
    before, after = recompute(stream, SETTINGS).counts(), recompute(stream, SETTINGS, late=late).counts()
    assert after == before | {"counted": before["counted"] - len(late), "late": len(late)}
    assert unlawful_lateness(stream, late, SETTINGS) == []


def in_order(seconds: Sequence[float]) -> list[RawLine]:
    return raw_lines([line(start_time=at(second), duration=0) for second in seconds])


@laws
@given(st.lists(st.integers(0, 100_000), max_size=20), st.integers(0, 1999))
def test_lines_within_the_delay_are_never_late(starts_ms: list[int], jitter_ms: int) -> None:
    jittered = [ms - (jitter_ms if index % 2 else 0) for index, ms in enumerate(sorted(starts_ms))]
    stream = in_order([(ms + 2000) / 1000 for ms in jittered])
    assert late_by_a_watermark_after_every_line(stream, OracleSettings()) == frozenset()


@laws
@given(st.integers(1, 10**13))
def test_a_bucket_holds_its_durations(duration_us: int) -> None:
    index, value, unit = bucket_of(duration_us), duration_us**32, 1000**32
    low, high = (value << max(-bound, 0) for bound in (index, index + 1))
    assert unit << max(index, 0) < low
    assert high <= unit << max(index + 1, 0)


@laws
@given(st.integers(1, 10**13))
def test_half_a_bucket_is_within_the_percentiles_error(duration_us: int) -> None:
    middle = 1000 * 2 ** ((bucket_of(duration_us) + 0.5) / 32)
    assert abs(middle - duration_us) <= 0.011 * duration_us


@laws
@given(st.lists(st.one_of(odd_lines(), broken_lines()), max_size=10))
def test_odd_lines_leave_the_others_rows_alone(odd: list[bytes]) -> None:
    """Dead and skipped lines among ordinary ones move no number."""
    ordinary = raw_lines([line(), line(duration=3)], partition=9)
    refused = [raw for raw in raw_lines(odd) if not isinstance(read(raw, OracleSettings()), Request)]
    assert recompute(ordinary + refused).rows == recompute(ordinary).rows
