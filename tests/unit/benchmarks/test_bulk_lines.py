"""The bulk generator writes the traffic that it promises, and the same again for the same seed."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lines import BLOCK_LINES, Shape, batches, cached, main, write
from tests.oracle import (
    OracleSettings,
    Request,
    late_by_a_watermark_after_every_line,
    raw_lines,
    read,
    recompute,
)
from tidegate.schemas.access_log import ACCESS_LOG_FORMAT

SMALL = Shape(tasks=20, departments=4, replicas=3, lines_per_second=5000)


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return [line for batch in batches(SMALL, 2 * BLOCK_LINES) for line in batch]


@pytest.fixture(scope="module")
def requests(lines: list[bytes]) -> list[Request]:
    found = [read(raw, OracleSettings()) for raw in raw_lines(lines)]
    return [request for request in found if isinstance(request, Request)]


def test_every_line_is_a_whole_access_log_line_that_counts(
    lines: list[bytes], requests: list[Request]
) -> None:
    assert len(requests) == len(lines) == 2 * BLOCK_LINES
    assert all(json.loads(line).keys() == ACCESS_LOG_FORMAT.keys() for line in lines[:500])


def test_lines_have_their_size(lines: list[bytes]) -> None:
    assert all(1480 <= len(line) <= 1520 for line in lines)
    assert all(
        3980 <= len(line) <= 4020 for batch in batches(replace(SMALL, line_bytes=4000), 500) for line in batch
    )


def test_all_tasks_replicas_departments_and_versions_have_traffic(requests: list[Request]) -> None:
    assert len({request.task for request in requests}) == 20
    assert len({request.department for request in requests}) == 4
    assert len({(request.task, request.replica) for request in requests if request.replica}) == 60
    assert {request.version for request in requests} == {None, "v1", "v2"}


def test_outcomes_have_their_shares(requests: list[Request]) -> None:
    found = Counter(request.outcome for request in requests)
    wanted = {"errors_4xx": 0.02, "errors_5xx": 0.01, "rate_limited": 0.01, "aborted": 0.005, "ok": 0.955}
    assert {kind: round(count / len(requests), 2) for kind, count in found.items()} == {
        kind: pytest.approx(share, abs=0.006) for kind, share in wanted.items()
    }


def test_what_was_rate_limited_reached_no_replica(requests: list[Request]) -> None:
    for request in requests:
        assert (request.replica is None) == (request.outcome == "rate_limited")


def test_lines_come_in_the_order_of_their_ends_within_the_disorder(
    lines: list[bytes], requests: list[Request]
) -> None:
    ends = [request.event_ms for request in requests]
    behind = [latest - end for latest, end in zip(accumulate(ends, max), ends, strict=True)]
    assert 500 < max(behind) <= SMALL.disorder_ms
    assert late_by_a_watermark_after_every_line(raw_lines(lines), OracleSettings()) == frozenset()


def test_a_second_of_event_time_holds_its_lines(requests: list[Request]) -> None:
    seconds = Counter(request.event_ms // 1000 for request in requests)
    whole = sorted(seconds)[1:-1]
    assert whole
    assert [seconds[second] for second in whole] == [pytest.approx(5000, rel=0.1)] * len(whole)


def test_latency_has_a_long_tail(requests: list[Request]) -> None:
    known = sorted(
        request.duration_us for request in requests if request.replica and request.duration_us is not None
    )
    assert known[len(known) * 99 // 100] > 5 * known[len(known) // 2]


def test_the_same_seed_gives_the_same_lines_and_another_others(lines: list[bytes]) -> None:
    again = [line for batch in batches(SMALL, 1500) for line in batch]
    assert again == lines[:1500]
    other = next(batches(replace(SMALL, seed=2), 1500))
    assert not set(other) & set(again)


def test_a_file_holds_the_lines_plain_or_compressed(lines: list[bytes], tmp_path: Path) -> None:
    write(tmp_path / "access.log", SMALL, 1200)
    write(tmp_path / "access.log.gz", SMALL, 1200)
    assert (tmp_path / "access.log").read_bytes().splitlines() == lines[:1200]
    assert gzip.decompress((tmp_path / "access.log.gz").read_bytes()).splitlines() == lines[:1200]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cached_file_is_made_once_for_each_shape(tmp_path: Path) -> None:
    first = cached(SMALL, 100, tmp_path)
    made = first.stat().st_mtime_ns
    assert cached(SMALL, 100, tmp_path) == first
    assert first.stat().st_mtime_ns == made
    assert cached(replace(SMALL, seed=2), 100, tmp_path) != first
    assert cached(SMALL, 101, tmp_path) != first


def test_the_command_line_writes_a_file_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(tmp_path / "out.log"), "--lines", "50", "--tasks", "2", "--start", "2026-01-01T00:00:00+00:00"])
    assert "50 lines" in capsys.readouterr().out
    requests = [
        read(raw, OracleSettings()) for raw in raw_lines((tmp_path / "out.log").read_bytes().splitlines())
    ]
    assert {request.task for request in requests if isinstance(request, Request)} == {
        "model-0000",
        "model-0001",
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"tasks": 0},
        {"lines_per_second": -1},
        {"aborted_share": 0.99},
        {"limited_share": -0.1},
        {"disorder_ms": -1},
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(SMALL, **wrong)


def test_the_oracle_takes_the_bulk(lines: list[bytes]) -> None:
    expected = recompute(raw_lines(lines))
    assert sum(
        row["requests"] for row in expected.rows.values() if row["id"].startswith("1m|department")
    ) == len(lines)
