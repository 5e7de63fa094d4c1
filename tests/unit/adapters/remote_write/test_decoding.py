"""Which series are taken, how a sample is written, and which of several Prometheus is elected."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from datetime import datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.remote_write.decoding import InvalidRemoteWrite, series_of, size_of
from tidegate.jobs.logic.resources.ha_election import Elections
from tidegate.jobs.logic.resources.prometheus_samples import (
    BadSeries,
    Wanted,
    labels_of,
    message_of,
    number_text,
)
from tidegate.schemas.settings.signals import RemoteWrite


@given(st.floats(), st.integers(0, 4_102_444_800_000))
def test_a_sample_is_read_back_as_it_was(value: float, at_ms: int) -> None:
    sample = json.loads(message_of({"__name__": "up"}, value, at_ms))
    read = float(sample["value"])
    assert read == value or (math.isnan(read) and math.isnan(value))
    assert round(datetime.fromisoformat(sample["timestamp"]).timestamp() * 1000) == at_ms


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (3.0, "3"), (-0.0, "0"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN")],
)
def test_numbers_are_written_as_prometheus_writes_them(value: float, text: str) -> None:
    assert number_text(value) == text


def test_a_moment_that_can_not_be_written_is_refused() -> None:
    for at_ms in (-1, 1 << 62):
        with pytest.raises(BadSeries, match="timestamp"):
            message_of({"__name__": "up"}, 1.0, at_ms)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("job", "x")],
        [("__name__", "")],
        [("__name__", "up"), ("", "x")],
        [("__name__", "up"), ("a-b", "x")],
        [("__name__", "up"), ("job", "x"), ("job", "y")],
    ],
)
def test_labels_that_no_prometheus_sends_are_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(BadSeries):
        labels_of(pairs)


def test_names_are_globs_and_dropped_labels_whole_expressions() -> None:
    wanted = Wanted(["container_cpu_*", "up"], ["secret_.*", "id"])
    assert wanted.takes("container_cpu_usage_seconds_total")
    assert not wanted.takes("my_container_cpu_x")
    assert not wanted.takes("upper")
    kept = wanted.kept({"__name__": "up", "id": "1", "uid": "2", "secret_key": "3"})
    assert kept == {"__name__": "up", "uid": "2"}
    assert not Wanted([], []).takes("up")
    assert Wanted(["*"], [".*"]).kept({"__name__": "up", "job": "x"}) == {"__name__": "up"}


def test_by_default_what_tidegate_reads_is_taken() -> None:
    wanted = Wanted(RemoteWrite().names, RemoteWrite().drop_labels)
    assert wanted.takes("DCGM_FI_DEV_GPU_UTIL")
    assert not wanted.takes("go_goroutines")


def test_the_first_replica_is_elected_and_the_next_when_it_was_silent() -> None:
    elections = Elections(30_000)
    timeline = [
        (0, "a", True),
        (1, "b", False),
        (15, "a", True),
        (45, "b", False),  # thirty seconds are not over
        (46, "b", True),
        (47, "a", False),
        (48, "b", True),
    ]
    for second, replica, taken in timeline:
        assert elections.takes("eu", replica, 1000 * second) is taken, second
    assert elections.takes("us", "a", 47_000), "another cluster's is another election"


@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from("ab")), max_size=60))
def test_at_no_time_two_replicas_are_taken(steps: list[tuple[int, str]]) -> None:
    elections, now, taken = Elections(10_000), 0, list[tuple[int, str]]()
    for wait, replica in steps:
        now += wait * 1000
        if elections.takes("eu", replica, now):
            taken.append((now, replica))
    for (before, one), (after, other) in pairwise(taken):
        assert one == other or after - before > 10_000


@given(st.binary(max_size=200))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    for message in ("prometheus.WriteRequest", "io.prometheus.write.v2.Request"):
        with suppress(InvalidRemoteWrite):
            if size_of(body) < 100_000:
                list(series_of(body, message))
