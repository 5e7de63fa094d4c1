"""The EnvoyFilter of a gateway: what is put comes back, others' limits stay, older revisions are refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tidegate.jobs.logic.istio.objects import is_ours
from tidegate.jobs.logic.istio.rate_limits import (
    GatewayPlace,
    envoy_filter,
    limits_in_force,
    listener_patch,
    put,
)
from tidegate.jobs.logic.limits.envoy_limits import FILTER, Limit, LimitedAnswer, TaskKey
from tidegate.jobs.logic.limits.rate_limits import TokenBucket

PLACE = GatewayPlace("vision-gateway", "istio-ingress", {"istio": "vision-gateway"})
BUCKET = TokenBucket(20, 10, 1000)


def limit(task: str = "chat", revision: int = 1, bucket: TokenBucket = BUCKET, **more: Any) -> Limit:
    key = TaskKey("vision", task)
    return Limit(**{"key": key, "route": task, "revision": revision, "bucket": bucket} | more)


def live_with(*limits: Limit) -> dict[str, Any]:
    return envoy_filter(PLACE, put(None, PLACE, limits).patches)


buckets = st.builds(
    TokenBucket,
    max_tokens=st.integers(1, 10**6),
    tokens_per_fill=st.integers(1, 10**6),
    fill_interval_ms=st.integers(50, 10**6),
)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_", min_size=1, max_size=12)
limits = st.builds(
    lambda name, revision, bucket, client, clients: Limit(
        TaskKey("vision", name), f"route-{name}", revision, bucket, client, clients
    ),
    names,
    st.integers(1, 2**40),
    buckets,
    st.none() | buckets,
    st.dictionaries(names, buckets, max_size=3),
)
limit_lists = st.lists(limits, max_size=8, unique_by=lambda one: one.key)


@given(limit_lists)
def test_what_is_put_is_what_is_read(wanted: list[Limit]) -> None:
    live = json.loads(json.dumps(live_with(*wanted)))
    assert is_ours(live)
    assert limits_in_force(live, PLACE) == {one.key: one for one in wanted}
    again = put(live, PLACE, wanted)
    assert not again.changed
    assert not again.written
    assert not again.refused


@given(limit_lists, limit_lists)
def test_a_second_put_keeps_what_it_does_not_name_and_never_goes_back(
    first: list[Limit], second: list[Limit]
) -> None:
    live = live_with(*first)
    change = put(live, PLACE, second)
    held = limits_in_force(envoy_filter(PLACE, change.patches), PLACE)
    before = {one.key: one for one in first}
    for one in second:
        old = before.get(one.key)
        if old is None or one.revision > old.revision or one == old:
            assert held[one.key] == one
        else:
            assert held[one.key] == old
            assert change.refused[one.key].revision == old.revision
    named = {one.key for one in second}
    assert all(held[key] == one for key, one in before.items() if key not in named)


@given(st.permutations([limit(task) for task in "abcdef"]))
def test_the_object_does_not_depend_on_the_order_of_its_limits(shuffled: list[Limit]) -> None:
    one_by_one = None
    for one in shuffled:
        one_by_one = envoy_filter(PLACE, put(one_by_one, PLACE, [one]).patches)
    assert one_by_one == live_with(*(limit(task) for task in "abcdef"))


def test_a_change_of_one_task_is_a_change_of_its_patch_alone() -> None:
    before = live_with(limit("chat"), limit("embed"), limit("rank"))
    change = put(before, PLACE, [limit("embed", 2, TokenBucket(5, 5, 1000))])
    pairs = list(zip(before["spec"]["configPatches"], change.patches, strict=True))
    differing = [
        new["match"]["routeConfiguration"]["vhost"]["route"]["name"] for old, new in pairs if old != new
    ]
    assert differing == ["embed"]
    assert change.written == {TaskKey("vision", "embed")}
    assert change.patches[0] == listener_patch()


def test_the_listener_part_is_before_the_router_and_limits_nothing() -> None:
    patch = listener_patch()
    assert patch["patch"]["operation"] == "INSERT_BEFORE"
    assert (
        patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"]
        == "envoy.filters.http.router"
    )
    assert "token_bucket" not in patch["patch"]["value"]["typed_config"]


def test_an_older_revision_is_refused_with_the_one_that_is_held() -> None:
    change = put(live_with(limit(revision=7)), PLACE, [limit(revision=6)])
    assert change.refused[TaskKey("vision", "chat")].revision == 7
    assert not change.changed


def test_another_limit_of_the_same_revision_is_refused() -> None:
    change = put(live_with(limit(revision=7)), PLACE, [limit(revision=7, bucket=TokenBucket(1, 1, 1000))])
    assert change.refused[TaskKey("vision", "chat")].revision == 7
    assert not change.changed


def test_an_edited_bucket_is_reported_as_it_is_and_a_newer_revision_puts_it_right() -> None:
    live = live_with(limit(revision=7), limit("embed"))
    _value(live, 1)["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]["token_bucket"][
        "max_tokens"
    ] = 999
    assert limits_in_force(live, PLACE)[TaskKey("vision", "chat")].bucket.max_tokens == 999
    change = put(live, PLACE, [limit(revision=8)])
    assert limits_in_force(envoy_filter(PLACE, change.patches), PLACE)[TaskKey("vision", "chat")] == limit(
        revision=8
    )


def _value(live: dict[str, Any], number: int) -> dict[str, Any]:
    value: dict[str, Any] = live["spec"]["configPatches"][number]["patch"]["value"]
    return value


def _disable(live: dict[str, Any]) -> None:
    config = _value(live, 1)["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]
    config["filter_enforced"]["default_value"] = {"numerator": 0, "denominator": "HUNDRED"}


def _add_a_route_action(live: dict[str, Any]) -> None:
    _value(live, 1)["route"] = {"timeout": "1s"}


def _remove_the_marks(live: dict[str, Any]) -> None:
    del _value(live, 1)["metadata"]


def _remove_the_patch(live: dict[str, Any]) -> None:
    del live["spec"]["configPatches"][1]


def _remove_the_listener_part(live: dict[str, Any]) -> None:
    del live["spec"]["configPatches"][0]


def _select_other_pods(live: dict[str, Any]) -> None:
    live["spec"]["workloadSelector"]["labels"] = {"istio": "another"}


def _change_the_route_once_more(live: dict[str, Any]) -> None:
    more = copy.deepcopy(live["spec"]["configPatches"][1])
    more["patch"]["value"] = {"typed_per_filter_config": {}}
    live["spec"]["configPatches"].append(more)


def _change_every_route(live: dict[str, Any]) -> None:
    patch = {"operation": "MERGE", "value": {"typed_per_filter_config": {}}}
    live["spec"]["configPatches"].append({"applyTo": "HTTP_ROUTE", "patch": patch})


def _turn_the_patch_into_a_removal(live: dict[str, Any]) -> None:
    live["spec"]["configPatches"][1]["patch"]["operation"] = "REMOVE"


def _empty_the_spec(live: dict[str, Any]) -> None:
    live["spec"] = {}


@pytest.mark.parametrize(
    "edit",
    [
        _disable,
        _add_a_route_action,
        _remove_the_marks,
        _remove_the_patch,
        _remove_the_listener_part,
        _select_other_pods,
        _change_the_route_once_more,
        _change_every_route,
        _turn_the_patch_into_a_removal,
        _empty_the_spec,
    ],
)
def test_a_limit_that_an_edit_has_put_out_of_force_is_not_reported_and_the_same_limit_puts_it_right(
    edit: Any,
) -> None:
    live = live_with(limit(revision=7))
    edit(live)
    assert limits_in_force(live, PLACE) == {}
    change = put(live, PLACE, [limit(revision=7)])
    assert not change.refused
    assert change.changed
    assert envoy_filter(PLACE, change.patches) == live_with(limit(revision=7))


def test_a_task_whose_marks_are_lost_keeps_its_limit_while_another_is_written() -> None:
    live = live_with(limit("chat"))
    _remove_the_marks(live)
    lost = live["spec"]["configPatches"][1]
    change = put(live, PLACE, [limit("embed")])
    assert lost in change.patches
    assert lost not in put(live, PLACE, [limit("chat")]).patches


def test_a_task_with_another_route_has_one_patch_still() -> None:
    live = live_with(limit(revision=1))
    change = put(live, PLACE, [limit(revision=2, route="chat-v2")])
    assert len(change.patches) == 2
    assert (
        limits_in_force(envoy_filter(PLACE, change.patches), PLACE)[TaskKey("vision", "chat")].route
        == "chat-v2"
    )


def test_fields_of_others_stay_in_the_listener_and_in_the_route_and_are_no_drift() -> None:
    live = live_with(limit(revision=1))
    field = {"response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}]}
    listener, route = live["spec"]["configPatches"]
    listener["patch"]["value"]["typed_config"] |= field
    config = route["patch"]["value"]["typed_per_filter_config"][FILTER]
    config |= field
    assert limits_in_force(live, PLACE) == {TaskKey("vision", "chat"): limit(revision=1)}
    assert not put(live, PLACE, [limit(revision=1)]).changed
    change = put(live, PLACE, [limit(revision=2)])
    assert change.patches[0] == listener
    after = change.patches[1]["patch"]["value"]["typed_per_filter_config"][FILTER]
    assert after["response_headers_to_add"] == field["response_headers_to_add"]


def test_a_body_is_a_patch_of_the_connection_manager_and_its_edit_is_drift() -> None:
    answer = LimitedAnswer(body='{"error": "too many requests"}')
    live = envoy_filter(PLACE, put(None, PLACE, [limit()], answer).patches)
    assert [patch["applyTo"] for patch in live["spec"]["configPatches"]] == [
        "HTTP_FILTER",
        "NETWORK_FILTER",
        "HTTP_ROUTE",
    ]
    assert limits_in_force(live, PLACE, answer) == {TaskKey("vision", "chat"): limit()}
    assert limits_in_force(live, PLACE) == {}, "without a body in the settings it has to go"
    assert envoy_filter(PLACE, put(live, PLACE, [limit()]).patches) == live_with(limit())
    del live["spec"]["configPatches"][1]
    assert limits_in_force(live, PLACE, answer) == {}
    assert put(live, PLACE, [limit()], answer).changed


@pytest.mark.parametrize(
    "spec", [None, [], {"configPatches": [None, 3, {}]}, {"configPatches": [{"patch": {"value": 3}}]}]
)
def test_an_object_of_another_shape_holds_no_limits_and_is_put_right(spec: Any) -> None:
    live = live_with(limit()) | {"spec": spec}
    assert limits_in_force(live, PLACE) == {}
    assert envoy_filter(PLACE, put(live, PLACE, [limit()]).patches) == live_with(limit())


def test_an_object_without_our_label_is_not_ours() -> None:
    live = live_with(limit())
    live["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    assert not is_ours(live)
    del live["metadata"]["labels"]
    assert not is_ours(live)


def test_the_example_for_readers_is_what_is_made() -> None:
    example = yaml.safe_load(Path("deploy/istio/rate-limit-example.yaml").read_text())
    limits = limits_in_force(example, PLACE)
    assert {str(key): one.revision for key, one in limits.items()} == {"vision/chat": 7, "vision/embed": 3}
    assert set(limits[TaskKey("vision", "chat")].clients) == {"batch"}
    assert example == live_with(*limits.values())
