"""The manager's bodies: a limit goes there and back, and what is wrong is named by its field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tidegate.adapters.manager.tasks import place_of
from tidegate.jobs.logic.istio.limit_bodies import LimitBody, LimitsBody, answer_of, body_of, limit_of
from tidegate.jobs.logic.istio.traffic import IncompatibleSettings
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import TokenBucket
from tidegate.schemas.settings import AccessLog

BUCKET = {"max_tokens": 20, "tokens_per_fill": 10, "fill_interval_ms": 1000}
BODY = {"revision": 1, "route": "chat", "bucket": BUCKET}

buckets = st.builds(
    TokenBucket,
    max_tokens=st.integers(1, 2**32 - 1),
    tokens_per_fill=st.integers(1, 2**32 - 1),
    fill_interval_ms=st.integers(50, 86_400_000),
)
limits = st.builds(
    Limit,
    key=st.builds(TaskKey, st.sampled_from(("a", "B.b_b")), st.sampled_from(("t", "t-1"))),
    route=st.sampled_from(("r", "r.2")),
    revision=st.integers(1, 2**53),
    bucket=buckets,
    client=st.none() | buckets,
    clients=st.dictionaries(st.text("abc", min_size=1), buckets, max_size=3),
)


@given(limits)
def test_a_limit_comes_back_as_it_went(limit: Limit) -> None:
    sent = json.loads(json.dumps({"limits": [body_of(limit)]}))
    (taken,) = LimitsBody.model_validate(sent).limits
    assert taken.limit(taken.key) == limit
    assert limit_of(json.loads(answer_of(limit).model_dump_json())) == limit


def test_an_edited_limit_out_of_our_bounds_is_shown_as_it_is() -> None:
    limit = Limit(TaskKey("a", "t"), "r", 0, TokenBucket(0, 10**12, 1))
    assert limit_of(json.loads(answer_of(limit).model_dump_json())) == limit


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"revision": 0}, "revision"),
        ({"revision": "1"}, "revision"),
        ({"revision": True}, "revision"),
        ({"revision": None}, "revision"),
        ({"route": ""}, "route"),
        ({"route": "a b"}, "route"),
        ({"bucket": BUCKET | {"max_tokens": 0}}, "bucket.max_tokens"),
        ({"bucket": BUCKET | {"max_tokens": float("nan")}}, "bucket.max_tokens"),
        ({"bucket": BUCKET | {"max_tokens": float("inf")}}, "bucket.max_tokens"),
        ({"bucket": BUCKET | {"tokens_per_fill": -1}}, "bucket.tokens_per_fill"),
        ({"bucket": BUCKET | {"tokens_per_fill": 2**32}}, "bucket.tokens_per_fill"),
        ({"bucket": BUCKET | {"fill_interval_ms": 49}}, "bucket.fill_interval_ms"),
        ({"clients": {"": BUCKET}}, "clients..[key]"),
        ({"limit_qps": 5}, "limit_qps"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        LimitBody.model_validate(BODY | change)
    assert [".".join(map(str, item["loc"])) for item in error.value.errors()] == [field]


def test_a_task_that_stands_twice_in_a_batch_is_refused() -> None:
    one = BODY | {"department": "vision", "task": "chat"}
    with pytest.raises(ValidationError, match="vision/chat is given twice"):
        LimitsBody.model_validate({"limits": [one, one]})


MAPPED = AccessLog(departments={"prod-vision": "vision", "a": "many", "b": "many", "search": "other"})


@pytest.mark.parametrize(
    ("department", "namespace", "wanted"),
    [
        ("ads", None, "ads"),
        ("vision", None, "prod-vision"),
        ("many", "b", "b"),
        ("other", None, "search"),
    ],
)
def test_a_tasks_namespace_is_the_one_that_the_log_reads_as_its_department(
    department: str, namespace: str | None, wanted: str
) -> None:
    place = place_of(department, "chat", namespace, MAPPED, "cluster.local")
    assert place.host == f"service-chat.{wanted}.svc.cluster.local"


@pytest.mark.parametrize(
    ("department", "namespace", "reported"),
    [
        ("many", None, "has the namespaces a, b"),
        ("many", "c", "namespace c does not belong to department many"),
        ("ads", "prod-vision", "namespace prod-vision does not belong to department ads"),
        ("search", None, "department search has no namespace"),
    ],
)
def test_a_namespace_of_another_department_is_refused(
    department: str, namespace: str | None, reported: str
) -> None:
    with pytest.raises(IncompatibleSettings, match=reported):
        place_of(department, "chat", namespace, MAPPED, "cluster.local")
