"""Ready replicas from kube-state-metrics' samples: what counts, what is left out, and what comes to nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.prometheus_samples import deployment, pod, sample
from tidegate.jobs.logic.identity import of_service
from tidegate.jobs.logic.replicas.ready_samples import ReadySamples, Sample, sample_of
from tidegate.jobs.logic.resources.raw_samples import BadSample
from tidegate.schemas.rows.limits import ReplicasRow
from tidegate.schemas.settings import AccessLog

T0 = datetime(2026, 11, 24, 10, tzinfo=UTC)
CHAT = ("vision", "service-chat")
A, B, C = (f"service-chat-6c5d8f7b9d-{suffix}" for suffix in ("bbbbb", "ccccc", "ddddd"))


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def book() -> ReadySamples:
    return ReadySamples(partial(of_service, settings=AccessLog()), stale_ms=90_000)


def put(samples: ReadySamples, *raws: dict[str, Any]) -> list[bool]:
    """For each, whether it held something new."""
    read = [sample_of(raw) for raw in raws]
    return [one is not None and samples.put(one) is not None for one in read]


def seen(row: ReplicasRow) -> tuple[int, int, list[str]]:
    return row.replicas_ready, row.replicas_starting, [replica.name for replica in row.replicas]


def test_a_deployment_is_the_task_that_a_service_of_its_name_would_be() -> None:
    samples = book()
    assert put(samples, deployment(T0, "3")) == [True]
    row = samples.row(CHAT)
    assert (row.id, row.workload, row.source) == (
        "vision|chat|prometheus",
        "vision/service-chat",
        "prometheus",
    )
    assert (row.replicas_ready, row.observed_at) == (3, T0)


def test_duplicates_disorder_and_no_numbers_tell_nothing() -> None:
    samples = book()
    raws = [
        deployment(at(30), "3"),
        deployment(at(30), "3"),
        deployment(at(30), "2"),
        deployment(at(15), "2"),
        deployment(at(45), "NaN"),
        deployment(at(45), "+Inf"),
        deployment(at(45), "-1"),
        deployment(at(60), "2"),
    ]
    assert put(samples, *raws) == [True, *([False] * 6), True]
    assert (samples.row(CHAT).replicas_ready, samples.row(CHAT).observed_at) == (2, at(60))


def test_zero_is_zero_and_a_series_that_ends_is_nothing() -> None:
    samples = book()
    assert put(samples, deployment(T0, "3"), deployment(at(15), "0"), deployment(at(30), "NaN")) == [
        True,
        True,
        False,
    ]
    assert samples.row(CHAT).replicas_ready == 0


def test_pods_are_reported_where_as_many_are_ready_as_the_deployment_says() -> None:
    samples = book()
    assert put(samples, pod(T0, A), pod(T0, B), pod(T0, C, "0"), deployment(T0, "2")) == [
        False,
        False,
        False,
        True,
    ]
    assert seen(samples.row(CHAT)) == (2, 1, [A, B, C])
    assert put(samples, deployment(at(15), "3")) == [True]
    assert seen(samples.row(CHAT)) == (3, 0, [])
    assert put(samples, pod(at(15), C)) == [True]
    assert seen(samples.row(CHAT)) == (3, 0, [A, B, C])


def test_a_pod_that_nobody_tells_of_any_more_has_gone() -> None:
    samples = book()
    put(samples, pod(T0, A), pod(T0, B), deployment(T0, "2"))
    put(samples, pod(at(100), A), deployment(at(100), "1"))
    assert seen(samples.row(CHAT)) == (1, 0, [A])


def test_deployments_that_fold_to_one_task_count_together_while_both_are_reported_of() -> None:
    samples = book()
    put(samples, deployment(T0, "2"), deployment(T0, "3", name="chat"))
    assert samples.row(CHAT).replicas_ready == 5
    put(samples, deployment(at(100), "3", name="chat"))
    row = samples.row(("vision", "chat"))
    assert (row.replicas_ready, row.workload) == (3, "vision/chat")


def test_a_gateway_is_a_deployment_too() -> None:
    samples = book()
    name = "edge-6c5d8f7b9d-bbbbb"
    put(samples, pod(T0, name, namespace="ingress"), deployment(T0, "1", name="edge", namespace="ingress"))
    row = samples.gateway_row("public", ("ingress", "edge"))
    assert (row.id, row.gateways_ready, row.gateways) == ("public|prometheus", 1, (name,))


def test_what_nobody_has_reported_of_for_a_day_is_forgotten() -> None:
    samples = book()
    put(samples, deployment(T0, "2"), pod(T0, A))
    put(samples, deployment(T0 + timedelta(hours=25), "1", name="service-embed"))
    assert put(samples, pod(T0 + timedelta(hours=25), A)) == [False]  # of a deployment that isn't known


@pytest.mark.parametrize(
    "raw",
    [
        sample("container_cpu_usage_seconds_total", T0, "1"),
        pod(T0, A, condition="false"),
        pod(T0, "database-0"),
        pod(T0, "chat-6c5d8f7b9d-aeiou"),
    ],
)
def test_what_does_not_matter_is_left_out(raw: dict[str, Any]) -> None:
    assert sample_of(raw) is None


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([1], "not an object"),
        ({"name": "kube_pod_status_ready", "labels": 3}, "not an object with labels"),
        (sample("kube_deployment_status_replicas_ready", T0, "1", deployment="d"), "no label namespace"),
        (sample("kube_deployment_status_replicas_ready", T0, "1", namespace="n"), "no label deployment"),
        (deployment(T0, "many"), "value 'many' is not a number"),
        (deployment(T0, "1") | {"timestamp": "today"}, "timestamp 'today' is not an ISO 8601 timestamp"),
        (deployment(T0, "1") | {"timestamp": "2026-11-24T10:00:00"}, "timestamp"),
    ],
)
def test_what_is_no_sample_is_refused_with_its_reason(raw: Any, reason: str) -> None:
    with pytest.raises(BadSample, match=reason):
        sample_of(raw)


counted = st.lists(
    st.builds(
        lambda second, value: Sample("vision", "service-chat", None, value, second * 1000),
        st.integers(0, 20),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=20,
    unique_by=lambda one: one.at_ms,
)


@given(samples=counted, data=st.data())
def test_in_any_order_and_however_often_the_newest_sample_is_what_counts(
    samples: list[Sample], data: st.DataObject
) -> None:
    known = book()
    for one in data.draw(st.permutations(samples * 2)):
        known.put(one)
    newest = max(samples, key=lambda one: one.at_ms)
    row = known.row(CHAT)
    assert (row.replicas_ready, row.observed_at.timestamp()) == (newest.value, newest.at_ms / 1000)
