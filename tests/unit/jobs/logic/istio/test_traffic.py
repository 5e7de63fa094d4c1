"""A task's traffic settings: what is built is read back, what can't be is refused with the reason."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from tidegate.jobs.logic.istio.objects import duration, duration_ms, is_ours
from tidegate.jobs.logic.istio.task_settings import (
    ASPECTS,
    CircuitBreakerSetting,
    ConnectionPool,
    GatewaySetting,
    Held,
    OutlierDetection,
    RetriesSetting,
    RouteSetting,
    Setting,
    TimeoutSetting,
    Version,
    VersionsSetting,
)
from tidegate.jobs.logic.istio.traffic import (
    IncompatibleSettings,
    TaskPlace,
    check_together,
    destination_rule,
    same_spec,
    settings_of,
    subsets_of,
    virtual_service,
)
from tidegate.jobs.logic.istio.traffic_read import read_destination_rule, read_virtual_service

PLACE = TaskPlace("vision", "chat", "vision", "service-chat")
GATEWAY = GatewaySetting(gateway="vision-gateway", namespace="istio-ingress")

ms = st.integers(1, 86_400_000)
counts = st.integers(1, 2**29)
labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)


@st.composite
def versions(draw: st.DrawFn) -> VersionsSetting:
    chosen = draw(st.lists(labels, max_size=5, unique=True))
    cuts = sorted(draw(st.integers(0, 100)) for _ in chosen[1:])
    bounds = [0, *cuts, 100]
    weights = [after - before for before, after in pairwise(bounds)]
    return VersionsSetting(
        versions=tuple(
            Version(name=name, weight=weight) for name, weight in zip(chosen, weights, strict=False)
        )
    )


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


SETTINGS = {
    "timeout": st.builds(TimeoutSetting, timeout_ms=optional(ms)),
    "retries": st.builds(
        RetriesSetting,
        attempts=st.integers(1, 10),
        per_try_timeout_ms=optional(ms),
        retry_on=st.lists(st.sampled_from(("5xx", "reset", "gateway-error")), min_size=1, unique=True).map(
            tuple
        ),
    )
    | st.just(RetriesSetting(attempts=0)),
    "versions": versions(),
    "route": st.builds(
        RouteSetting,
        taskid=optional(st.sampled_from(("a", "B.c_d"))),
        name=optional(st.sampled_from(("r-1", "other"))),
        path_prefix=optional(st.sampled_from(("/v1/", "/"))),
        port=optional(st.integers(1, 65535)),
    ),
    "circuit-breaker": st.builds(
        CircuitBreakerSetting,
        outlier_detection=optional(
            st.builds(
                OutlierDetection,
                consecutive_5xx_errors=st.integers(1, 10_000),
                interval_ms=ms,
                max_ejection_percent=st.integers(0, 100),
            )
        ),
        connection_pool=optional(
            st.builds(
                ConnectionPool,
                max_connections=counts,
                max_requests=optional(counts),
                connect_timeout_ms=optional(ms),
                idle_timeout_ms=optional(ms),
            )
        ),
    ),
}
held_settings = st.fixed_dictionaries(
    {},
    optional={
        aspect: st.builds(Held, revision=st.integers(1, 2**40), setting=setting)
        for aspect, setting in SETTINGS.items()
    },
).map(lambda held: held | {"gateway": Held(3, GATEWAY)})


@given(held_settings)
def test_what_is_built_says_what_was_set(held: dict[str, Held]) -> None:
    service = json.loads(json.dumps(virtual_service(PLACE, held)))
    rule = json.loads(json.dumps(destination_rule(PLACE, held)))
    assert is_ours(service)
    assert is_ours(rule)
    of_service = {name: one for name, one in held.items() if name != "circuit-breaker"}
    assert settings_of(service) == of_service
    assert settings_of(rule) == {
        name: one for name, one in held.items() if name in ("circuit-breaker", "versions")
    }
    in_force = read_virtual_service(service, PLACE) | read_destination_rule(rule, PLACE)
    for name, one in held.items():
        assert in_force[name] == one.setting
    assert same_spec(virtual_service(PLACE, held), service)
    assert same_spec(destination_rule(PLACE, held), rule)


@given(held_settings)
def test_every_version_that_gets_requests_has_its_labels(held: dict[str, Held]) -> None:
    routed = virtual_service(PLACE, held)["spec"]["http"][0]["route"]
    used = {route["destination"]["subset"] for route in routed if "subset" in route["destination"]}
    assert used <= subsets_of(destination_rule(PLACE, held)).keys()


def test_a_gray_release_is_weights_of_subsets_behind_the_tasks_header() -> None:
    weights = VersionsSetting(versions=(Version(name="v1", weight=90), Version(name="v2", weight=10)))
    held = {
        "gateway": Held(1, GATEWAY),
        "versions": Held(4, weights),
        "timeout": Held(2, TimeoutSetting(timeout_ms=1500)),
    }
    service = virtual_service(PLACE, held)
    host = "service-chat.vision.svc.cluster.local"
    assert service["metadata"]["name"] == "tidegate-service-chat"
    assert service["spec"] == {
        "hosts": ["*"],
        "gateways": ["istio-ingress/vision-gateway"],
        "http": [
            {
                "name": "chat",
                "match": [{"headers": {"taskid": {"exact": "chat"}}}],
                "timeout": "1.5s",
                "route": [
                    {"destination": {"host": host, "subset": "v1"}, "weight": 90},
                    {"destination": {"host": host, "subset": "v2"}, "weight": 10},
                ],
            }
        ],
    }
    assert destination_rule(PLACE, held)["spec"]["subsets"] == [
        {"name": "v1", "labels": {"version": "v1"}},
        {"name": "v2", "labels": {"version": "v2"}},
    ]


def test_a_task_without_a_gateway_has_no_virtual_service() -> None:
    with pytest.raises(IncompatibleSettings, match="vision/chat has no gateway yet; set it first"):
        virtual_service(PLACE, {"timeout": Held(1, TimeoutSetting(timeout_ms=5))})


def test_a_try_longer_than_the_whole_is_refused() -> None:
    held = {
        "timeout": Held(1, TimeoutSetting(timeout_ms=1000)),
        "retries": Held(1, RetriesSetting(attempts=2, per_try_timeout_ms=1001)),
    }
    with pytest.raises(IncompatibleSettings, match="per_try_timeout_ms: 1001 is above timeout_ms, 1000"):
        check_together(held)
    check_together(held | {"timeout": Held(2, TimeoutSetting(timeout_ms=None))})


@pytest.mark.parametrize(
    ("aspect", "body", "reported"),
    [
        ("timeout", {"timeout_ms": 0}, "greater than or equal to 1"),
        ("timeout", {"timeout_ms": -5}, "greater than or equal to 1"),
        ("timeout", {"timeout_ms": "5"}, "valid integer"),
        ("timeout", {"timeout_ms": float("nan")}, "valid integer"),
        ("timeout", {}, "Field required"),
        ("timeout", {"timeout_ms": 5, "timeout_s": 5}, "Extra inputs are not permitted"),
        ("retries", {"attempts": 11}, "less than or equal to 10"),
        ("retries", {"attempts": -1}, "greater than or equal to 0"),
        ("retries", {"attempts": 1, "retry_on": []}, "no request would be retried"),
        ("retries", {"attempts": 1, "retry_on": ["sometimes"]}, "Input should be '5xx'"),
        ("versions", {"versions": [{"name": "v1", "weight": 99}]}, "sum to 99 instead of 100"),
        (
            "versions",
            {"versions": [{"name": "v1", "weight": 50}, {"name": "v1", "weight": 50}]},
            "v1 is given twice",
        ),
        ("versions", {"versions": [{"name": "V 1", "weight": 100}]}, "should match pattern"),
        ("versions", {"versions": [{"name": "v1", "weight": 101}]}, "less than or equal to 100"),
        ("route", {"taskid": "a b"}, "should match pattern"),
        ("route", {"path_prefix": "v1"}, "should match pattern"),
        ("route", {"port": 0}, "greater than or equal to 1"),
        ("gateway", {"gateway": "g", "hosts": []}, "hosts: empty"),
        ("gateway", {"gateway": "g", "hosts": ["not a host"]}, "should match pattern"),
        (
            "circuit-breaker",
            {"outlier_detection": {"consecutive_5xx_errors": 0}},
            "no error counts",
        ),
        (
            "circuit-breaker",
            {"outlier_detection": {"max_ejection_percent": 101}},
            "less than or equal to 100",
        ),
        ("circuit-breaker", {"connection_pool": {}}, "connection_pool: empty"),
        ("circuit-breaker", {"connection_pool": {"max_connections": 0}}, "greater than or equal to 1"),
    ],
)
def test_a_setting_that_can_not_be_is_refused_with_its_reason(
    aspect: str, body: dict[str, Any], reported: str
) -> None:
    with pytest.raises(ValidationError, match=reported):
        ASPECTS[aspect].model_validate(body)


@pytest.mark.parametrize(
    ("text", "wanted"), [("1.5s", 1500), ("300ms", 300), ("1m30s", 90_000), ("1h", 3_600_000), ("0s", 0)]
)
def test_every_form_of_a_duration_is_read(text: str, wanted: int) -> None:
    assert duration_ms(text) == wanted


@pytest.mark.parametrize("text", ["", "5", "s", "1.5", "-1s", "1s ", "1d", None, 3])
def test_what_is_no_duration_is_an_error(text: object) -> None:
    with pytest.raises(ValueError, match="is not a valid duration"):
        duration_ms(text)


@given(ms)
def test_a_duration_comes_back_to_the_millisecond(value: int) -> None:
    assert duration_ms(duration(value)) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.sampled_from(("timeout", "retries", "route", "match", "name")), json_values)
def test_an_edited_object_is_read_without_an_error_and_its_edit_is_seen(part: str, value: Any) -> None:
    held: dict[str, Held] = {
        "gateway": Held(1, GATEWAY),
        "timeout": Held(1, TimeoutSetting(timeout_ms=5)),
        "retries": Held(1, RetriesSetting(attempts=1)),
    }
    service = virtual_service(PLACE, held)
    edited = json.loads(json.dumps(service))
    assume(edited["spec"]["http"][0].get(part) != value)
    edited["spec"]["http"][0][part] = value
    read: dict[str, Setting] = read_virtual_service(edited, PLACE)
    assert read["gateway"] == GATEWAY
    assert not same_spec(service, edited)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[]",
        "3",
        '{"timeout": 3}',
        '{"timeout": {"revision": "x"}}',
        '{"timeout": {"revision": 1}}',
    ],
)
def test_a_damaged_annotation_is_as_if_nothing_had_been_set(text: str) -> None:
    assert settings_of({"metadata": {"annotations": {"tidegate.io/settings": text}}}) == {}
