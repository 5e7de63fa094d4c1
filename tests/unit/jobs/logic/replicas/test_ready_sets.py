"""Who counts as a ready replica: cases of EndpointSlices and pods, and laws."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.kubernetes_objects import Condition, endpoint, slice_body
from tidegate.jobs.logic.identity import Identity
from tidegate.jobs.logic.replicas.ready_sets import (
    Slice,
    gateway_pod_of,
    gateway_row,
    replicas_of,
    replicas_row,
    slice_of,
)
from tidegate.schemas.rows.limits import Replica

T0 = datetime(2026, 11, 24, 10, tzinfo=UTC)


def read(*endpoints: dict[str, Any], **fields: Any) -> Slice:
    found = slice_of(slice_body("vision", "service-chat", endpoints, **fields))
    assert found is not None
    return found


def counts(*slices: Slice) -> tuple[int, int, int]:
    row = replicas_row(Identity("vision", "chat"), "vision/service-chat", slices, T0)
    assert row.replicas_ready + row.replicas_starting + row.replicas_terminating == len(row.replicas)
    return row.replicas_ready, row.replicas_starting, row.replicas_terminating


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("ready", (1, 0, 0)),
        ("starting", (0, 1, 0)),
        ("terminating", (0, 0, 1)),
        ("draining", (0, 0, 1)),
        ("unsaid", (1, 0, 0)),
        ("ready though starting", (0, 1, 0)),
    ],
)
def test_what_an_endpoints_conditions_mean(condition: Condition, wanted: tuple[int, int, int]) -> None:
    assert counts(read(endpoint("a", "10.1.0.1", condition))) == wanted


def test_null_is_what_the_api_says_that_null_is() -> None:
    unsaid = endpoint("a", "10.1.0.1") | {"conditions": {"ready": None, "serving": None, "terminating": None}}
    assert counts(read(unsaid)) == (1, 0, 0)
    assert counts(read({**endpoint("a", "10.1.0.1"), "conditions": None})) == (1, 0, 0)


def test_a_pod_in_slices_of_both_families_is_one_replica_with_its_ipv4_address() -> None:
    four = read(endpoint("a", "10.1.0.1"), name="four")
    six = read(endpoint("a", "fd00::1"), name="six", family="IPv6")
    assert replicas_of([six, four]) == (Replica(name="a", address="10.1.0.1:8080", state="ready"),)
    assert replicas_of([six]) == (Replica(name="a", address="[fd00::1]:8080", state="ready"),)


def test_endpoints_without_pods_count_in_one_family() -> None:
    four = read(endpoint(None, "10.1.0.1"), endpoint(None, "10.1.0.2"), name="four")
    six = read(endpoint(None, "fd00::1"), endpoint(None, "fd00::2"), name="six", family="IPv6")
    assert [replica.name for replica in replicas_of([six, four])] == ["10.1.0.1:8080", "10.1.0.2:8080"]
    assert counts(six) == (2, 0, 0)


def test_of_two_words_on_one_pod_the_lesser_is_believed() -> None:
    old, new = read(endpoint("a", "10.1.0.1", "ready")), read(endpoint("a", "10.1.0.1", "starting"))
    gone = read(endpoint("a", "10.1.0.1", "draining"))
    assert counts(old, new) == (0, 1, 0)
    assert counts(old, new, gone) == (0, 0, 1)


def test_a_pod_that_came_back_under_its_name_is_another_replica() -> None:
    before = endpoint("chat-0", "10.1.0.1", "terminating", uid="first")
    after = endpoint("chat-0", "10.1.0.9", "starting", uid="second")
    assert counts(read(before, after)) == (0, 1, 1)


@pytest.mark.parametrize(
    ("ports", "wanted"),
    [
        pytest.param(
            [{"name": "metrics", "port": 9090}, {"name": "http-api", "port": 8000}], 8000, id="name"
        ),
        pytest.param(
            [{"name": "a", "port": 1}, {"appProtocol": "kubernetes.io/h2c", "port": 2}], 2, id="protocol"
        ),
        pytest.param([{"name": "a", "port": 1}, {"name": "b", "port": 2}], 1, id="the first"),
        pytest.param([{"name": "http"}, {"name": "b", "port": 2}], 2, id="one that is said"),
        pytest.param([], None, id="none"),
        pytest.param(None, None, id="null"),
    ],
)
def test_the_port_of_an_address(ports: Any, wanted: int | None) -> None:
    raw = slice_body("vision", "service-chat", [endpoint("a", "10.1.0.1")]) | {"ports": ports}
    found = slice_of(raw)
    assert found is not None
    assert [replica.address for replica in replicas_of([found])] == [wanted and f"10.1.0.1:{wanted}"]


def test_what_is_no_services_slice_and_what_has_no_address_is_left_out() -> None:
    raw = slice_body("vision", "service-chat", [endpoint("a", "10.1.0.1")])
    raw["metadata"]["labels"] = None
    assert slice_of(raw) is None
    empty = slice_of({**slice_body("vision", "service-chat", []), "endpoints": None})
    assert empty is not None
    assert counts(empty) == (0, 0, 0)
    assert counts(read({"addresses": [], "conditions": {}})) == (0, 0, 0)


def test_without_a_slice_a_task_has_no_replica() -> None:
    assert counts() == (0, 0, 0)


def test_a_gateways_pods_count_when_they_run_and_are_ready_and_stay() -> None:
    def pod(name: str, phase: str = "Running", ready: str = "True", **metadata: Any) -> dict[str, Any]:
        status = {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}
        return {"metadata": {"name": name, **metadata}, "status": status}

    pods = [
        pod("b"),
        pod("a"),
        pod("warming", ready="False"),
        pod("done", phase="Succeeded"),
        pod("leaving", deletionTimestamp="2026-11-24T10:00:00Z"),
        {"metadata": {"name": "new"}},
    ]
    row = gateway_row("edge", map(gateway_pod_of, pods), T0)
    assert (row.gateways_ready, row.gateways) == (2, ("a", "b"))
    assert gateway_row("edge", (), T0).gateways_ready == 0


conditions: st.SearchStrategy[Condition] = st.sampled_from(get_args(Condition))
pods = st.dictionaries(st.sampled_from([f"pod-{n}" for n in range(12)]), conditions, max_size=12)


def mention(pod: str, condition: Condition, family: str = "IPv4") -> Slice:
    number = int(pod.rpartition("-")[2])
    host = f"10.1.0.{number}" if family == "IPv4" else f"fd00::{number}"
    return read(endpoint(pod, host, condition), family=family)


@given(pods=pods, data=st.data())
def test_how_pods_are_spread_over_slices_changes_nothing(
    pods: dict[str, Condition], data: st.DataObject
) -> None:
    one = read(*(endpoint(pod, f"10.1.0.{pod.rpartition('-')[2]}", state) for pod, state in pods.items()))
    single = [mention(pod, condition) for pod, condition in pods.items()]
    doubled = [*single, *(mention(pod, condition, "IPv6") for pod, condition in pods.items()), *single]
    assert replicas_of([one]) == replicas_of(single)
    assert replicas_of(data.draw(st.permutations(doubled))) == replicas_of(single)
    assert len(replicas_of(doubled)) == len(pods)


@given(pods=pods, more=st.lists(st.tuples(st.sampled_from([f"pod-{n}" for n in range(12)]), conditions)))
def test_a_pod_is_ready_only_where_every_word_on_it_says_so(
    pods: dict[str, Condition], more: list[tuple[str, Condition]]
) -> None:
    words = [*pods.items(), *more]
    ready = {
        replica.name
        for replica in replicas_of([mention(*word) for word in words])
        if replica.state == "ready"
    }
    assert ready == {
        pod for pod, _ in words if all(state in {"ready", "unsaid"} for other, state in words if other == pod)
    }
