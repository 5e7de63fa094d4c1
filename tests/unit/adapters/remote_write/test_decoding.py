"""Which series are taken, how a sample is written, and which of several Prometheus is elected."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from datetime import datetime
from itertools import pairwise

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.adapters.remote_write.decoding import V1, V2, InvalidRemoteWrite, series_of, size_of
from tidegate.adapters.remote_write.proto import remote_write_pb2, remote_write_v2_pb2
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
        [("__name__", "up"), ("job", "x"), ("job", "y")],
    ],
)
def test_labels_that_no_prometheus_sends_are_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(BadSeries):
        labels_of([(name.encode(), value.encode()) for name, value in pairs], lambda _: True)


def test_names_of_prometheus_3_are_taken_and_what_is_dropped_is_not_checked() -> None:
    keeps = Wanted(["*"], ["bad.*"]).keeps
    pairs = [(b"__name__", b"up"), (b"k8s.pod-name", b"x"), ("größe".encode(), b"1"), (b"bad\xff", b"\xff")]
    pairs += [(b"bad", b"1"), (b"bad", b"2")]
    assert labels_of(pairs, keeps) == {"__name__": "up", "k8s.pod-name": "x", "größe": "1"}
    for pair in ((b"x\xff", b""), (b"x", b"\xff")):
        with pytest.raises(BadSeries, match="not valid UTF-8"):
            labels_of([*pairs, pair], keeps)
    with pytest.raises(BadSeries, match="labels_refs"):
        labels_of(None, keeps)


def test_a_bad_label_spoils_its_own_series_only() -> None:
    request = remote_write_pb2.WriteRequest()
    for name in (b"\xff", b"pod"):
        request.timeseries.add().labels.add(name=name, value=b"x")
    body = bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
    assert [one.pairs for one in series_of(body, V1)] == [[(b"\xff", b"x")], [(b"pod", b"x")]]
    newer = remote_write_v2_pb2.Request(symbols=[b"", b"\xff", b"x"])
    for refs in ([1, 2], [1], [1, 9], [2, 1]):
        newer.timeseries.add(labels_refs=refs)
    body = bytes(cramjam.snappy.compress_raw(newer.SerializeToString()))
    found = [one.pairs for one in series_of(body, V2)]
    assert found == [[(b"\xff", b"x")], None, None, [(b"x", b"\xff")]]


def test_names_are_globs_and_dropped_labels_whole_expressions() -> None:
    wanted = Wanted(["container_cpu_*", "up"], ["secret_.*", "id"])
    assert wanted.takes("container_cpu_usage_seconds_total")
    assert not wanted.takes("my_container_cpu_x")
    assert not wanted.takes("upper")
    kept = [name for name in ("__name__", "id", "uid", "secret_key") if wanted.keeps(name)]
    assert kept == ["__name__", "uid"]
    assert not Wanted([], []).takes("up")
    assert Wanted(["*"], [".*"]).keeps("__name__")
    assert not Wanted(["*"], [".*"]).keeps("job")


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
