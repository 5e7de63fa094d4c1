"""A limit on a route of Envoy's, and back: what is put is what is read, edits show, and the rest of the route stays."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.jobs.logic.limits.envoy_limits import (
    FILTER,
    MARKS,
    Limit,
    LimitedAnswer,
    TaskKey,
    marks_of,
    read_route,
    routes_of,
    with_limit,
)
from tidegate.jobs.logic.limits.rate_limits import TokenBucket

KEY = TaskKey("vision", "chat")

buckets = st.builds(
    TokenBucket,
    max_tokens=st.integers(1, 10**6),
    tokens_per_fill=st.integers(1, 10**6),
    fill_interval_ms=st.integers(50, 10**6),
)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-_", min_size=1, max_size=12)
limits = st.builds(
    Limit,
    key=st.builds(TaskKey, names, names),
    route=names,
    revision=st.integers(0, 2**52),
    bucket=buckets,
    client=st.none() | buckets,
    clients=st.dictionaries(names, buckets, max_size=3),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def routes(draw: st.DrawFn) -> dict[str, Any]:
    """A route as a platform may have written it."""
    route: dict[str, Any] = {"match": {"prefix": "/"}, "route": {"cluster": draw(names)}}
    if draw(st.booleans()):
        route["metadata"] = {"filter_metadata": draw(st.dictionaries(names, json_values, max_size=2))}
    if draw(st.booleans()):
        route["typed_per_filter_config"] = draw(st.dictionaries(names, json_values, max_size=2))
    if draw(st.booleans()):
        route["decorator"] = draw(json_values)
    return route


def limit(**fields: Any) -> Limit:
    values: dict[str, Any] = {
        "key": KEY,
        "route": "chat",
        "revision": 3,
        "bucket": TokenBucket(20, 10, 1000),
        "client": TokenBucket(4, 2, 1000),
        "clients": {"batch": TokenBucket(10, 5, 1000)},
    }
    return Limit(**values | fields)


def route(one: Limit | None = None) -> dict[str, Any]:
    one = one or limit()
    return with_limit({"name": one.route, "match": {"prefix": "/"}, "route": {"cluster": "c"}}, one)


@settings(deadline=None)
@given(routes(), limits)
def test_what_is_put_is_what_is_read(before: dict[str, Any], one: Limit) -> None:
    named = before | {"name": one.route}
    assert read_route(with_limit(named, one)) == one
    assert read_route(json.loads(json.dumps(with_limit(named, one)))) == one


@settings(deadline=None)
@given(routes(), limits, limits)
def test_the_last_limit_counts_and_everything_else_of_the_route_stays(
    before: dict[str, Any], first: Limit, second: Limit
) -> None:
    named = before | {"name": second.route}
    untouched = copy.deepcopy(named)
    after = with_limit(with_limit(named, first), second)
    assert read_route(after) == second
    assert named == untouched, "what is given isn't changed"
    assert after["typed_per_filter_config"].pop(FILTER)
    assert after["metadata"]["filter_metadata"].pop(MARKS)
    for part, empty in (("typed_per_filter_config", {}), ("metadata", {"filter_metadata": {}})):
        assert after.pop(part) == named.get(part, empty)
    assert after == {
        name: value for name, value in named.items() if name not in ("typed_per_filter_config", "metadata")
    }


@settings(deadline=None)
@given(routes())
def test_a_route_of_others_has_no_limit_of_ours(before: dict[str, Any]) -> None:
    assert read_route(before) is None
    assert marks_of(before) is None


def test_as_envoy_tells_it_the_limit_is_the_same() -> None:
    """Its config_dump leaves out defaults, and writes durations in its own way."""
    one = limit(bucket=TokenBucket(20, 1, 1000))
    reported = json.loads(
        json.dumps(route(one)).replace('"1.000s"', '"1s"').replace('"denominator": "HUNDRED"', '"x": 0')
    )
    for part in ("filter_enabled", "filter_enforced"):
        del reported["typed_per_filter_config"][FILTER][part]["default_value"]["x"]
    del reported["typed_per_filter_config"][FILTER]["token_bucket"]["tokens_per_fill"]
    assert read_route(reported) == one


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("token_bucket", "max_tokens"), 999, "bucket"),
        (("token_bucket", "tokens_per_fill"), 999, "bucket"),
        (("token_bucket", "fill_interval"), "0.5s", "bucket"),
        (("descriptors", 0, "token_bucket", "max_tokens"), 999, "clients"),
        (("descriptors", 1, "token_bucket", "max_tokens"), 999, "client"),
        (("descriptors", 0, "entries", 0, "value"), "another", "clients"),
    ],
)
def test_an_edit_of_a_bucket_is_reported_as_it_is(
    path: tuple[str | int, ...], value: object, field: str
) -> None:
    edited = route()
    set_at(edited["typed_per_filter_config"][FILTER], path, value)
    found = read_route(edited)
    assert found is not None
    assert found != limit()
    assert getattr(found, field) != getattr(limit(), field)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("filter_enabled", "default_value", "numerator"), 99),
        (("filter_enabled", "runtime_key"), "off"),
        (("filter_enforced", "default_value", "numerator"), 0),
        (("filter_enforced", "default_value", "denominator"), "MILLION"),
        (("token_bucket",), None),
        (("token_bucket", "fill_interval"), "soon"),
        (("token_bucket", "fill_interval"), "-1s"),
        (("token_bucket", "fill_interval"), "infs"),
        (("token_bucket", "max_tokens"), "many"),
        (("descriptors", 0, "entries"), []),
        (("descriptors", 0, "entries"), [{"key": "client"}, {"key": "path"}]),
        (("rate_limits",), []),
        (("rate_limits", 0, "actions", 0, "request_headers", "header_name"), "x-other"),
        (("always_consume_default_token_bucket",), False),
        (("local_rate_limit_per_downstream_connection",), True),
        (("local_cluster_rate_limit",), {}),
        (("stage",), 1),
        (("rate_limited_as_resource_exhausted",), False),
        (("status",), {"code": 503}),
        (("status",), 503),
        (("enable_x_ratelimit_headers",), "DRAFT_VERSION_03"),
    ],
)
def test_an_edit_that_puts_it_out_of_force_is_no_limit_any_more(
    path: tuple[str | int, ...], value: object
) -> None:
    edited = route()
    set_at(edited["typed_per_filter_config"][FILTER], path, value)
    assert read_route(edited) is None
    assert marks_of(edited) == (KEY, 3), "whose it is can still be read"


def test_a_field_that_is_not_tidegates_is_no_drift_and_stays() -> None:
    edited = route()
    headers = [{"header": {"key": "retry-after", "value": "1"}}]
    edited["typed_per_filter_config"][FILTER]["response_headers_to_add"] = headers
    assert read_route(edited) == limit()
    after = with_limit(edited, limit(revision=4))
    assert after["typed_per_filter_config"][FILTER]["response_headers_to_add"] == headers
    assert read_route(after) == limit(revision=4)


def test_a_field_that_changes_what_the_bucket_admits_is_removed() -> None:
    edited = route()
    edited["typed_per_filter_config"][FILTER] |= {"stage": 1, "local_cluster_rate_limit": {}}
    assert with_limit(edited, limit()) == route()


@pytest.mark.parametrize(
    "answer",
    [
        LimitedAnswer(status=503),
        LimitedAnswer(x_ratelimit_headers=True),
        LimitedAnswer(grpc_resource_exhausted=False),
    ],
)
def test_another_answer_is_drift_and_is_written(answer: LimitedAnswer) -> None:
    assert read_route(route(), answer) is None
    after = with_limit(route(), limit(), answer)
    assert read_route(after, answer) == limit()
    assert read_route(after) is None


def test_a_status_is_read_as_envoy_names_it() -> None:
    written = with_limit(route(), limit(), LimitedAnswer(status=503))
    written["typed_per_filter_config"][FILTER]["status"] = {"code": "ServiceUnavailable"}
    assert read_route(written, LimitedAnswer(status=503)) == limit()


@pytest.mark.parametrize("marks", [None, [], {}, {"department": "a", "task": "b"}, {"revision": "x"}])
def test_marks_that_are_none_are_not_ours(marks: object) -> None:
    edited = route()
    edited["metadata"]["filter_metadata"][MARKS] = marks
    assert marks_of(edited) is None
    assert read_route(edited) is None


def test_all_routes_of_all_hosts_are_there_to_be_changed() -> None:
    content: dict[str, Any] = {
        "virtual_hosts": [{"routes": [{"name": "a"}]}, {"name": "none"}, {"routes": [{"name": "b"}]}]
    }
    for one in routes_of(content):
        one["name"] += "!"
    assert [one["name"] for one in routes_of(content)] == ["a!", "b!"]
    assert list(routes_of({})) == []


def set_at(content: Any, path: tuple[str | int, ...], value: object) -> None:
    for part in path[:-1]:
        content = content[part]
    content[path[-1]] = value
