"""The limit controller while its route file is broken or edited, and while its sources are silent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.limit_bad_days import first_route, ready, routes, started, states
from tests.support.limit_world import World, routes_of
from tests.support.waiting import until
from tidegate.demo.envoy_config import replace
from tidegate.jobs.logic.limits.envoy_limits import FILTER
from tidegate.schemas.settings import Kafka

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def world(kafka: Kafka, tmp_path: Path) -> Iterator[World]:
    """One task behind a route file that no Envoy reads; nothing said yet."""
    one = World(kafka, tmp_path)
    try:
        yield one
    finally:
        one.end()


def test_a_file_that_is_not_there_is_reported_once_and_gets_its_limit_when_it_comes(world: World) -> None:
    content = routes(world)
    world.routes.unlink()
    ready(world)
    world.controller()
    until(lambda: states(world) == [("failed", 0)], "it is reported")
    (failed,) = world.rows()
    assert f"{world.routes}: can't be read" in failed.reason
    assert failed.limit_qps is None
    time.sleep(3)
    assert states(world) == [("failed", 0)], "and not again with each try"
    replace(world.routes, content)
    world.until_applied(40)
    assert states(world)[1:] == [("decided", 1), ("applied", 1)]


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (None, "can't be read"),
        (
            '{"resources": []}',
            "no route named 'chat'",
        ),  # more contents: tests/unit/adapters/limiting/test_target_file.py
    ],
)
def test_a_file_that_is_gone_or_broken_is_left_as_it_is_and_reported_once(
    world: World, content: str | None, reported: str
) -> None:
    started(world)
    good = routes(world)
    if content is None:
        world.routes.unlink()
    else:
        draft = world.routes.with_name("draft")
        draft.write_text(content)
        draft.replace(world.routes)
    world.change(2)
    until(lambda: states(world)[-1] == ("failed", 2), "it is reported")
    assert reported in world.rows()[-1].reason
    time.sleep(3)
    assert states(world).count(("failed", 2)) == 1
    assert (world.routes.read_text() if world.routes.exists() else None) == content
    replace(world.routes, good)
    world.until_applied(20, timeout_seconds=40)
    assert world.qps_in_file() == 20


def test_a_route_that_is_not_there_is_reported_and_the_others_get_their_limits(
    kafka: Kafka, tmp_path: Path
) -> None:
    world = World(kafka, tmp_path, {"chat": "qps_per_replica: 10", "ocr": "qps_per_replica: 10"})
    try:
        replace(world.routes, routes_of(["chat"]))
        started(world)
        until(lambda: bool(world.rows("ocr")) and world.rows("ocr")[-1].state == "failed", "ocr is reported")
        assert "the file has no route named 'ocr'" in world.rows("ocr")[-1].reason
        with_ocr = routes(world)
        with_ocr["resources"][0]["virtual_hosts"][0]["routes"] += routes_of(["ocr"])["resources"][0][
            "virtual_hosts"
        ][0]["routes"]
        replace(world.routes, with_ocr)
        world.until_applied(40, "ocr")
        assert [row.state for row in world.rows("ocr")] == ["decided", "failed", "applied"]
    finally:
        world.end()


def test_a_push_to_a_route_that_is_not_there_goes_to_the_right_one_when_the_catalog_says_so(
    world: World,
) -> None:
    world.write_catalog({"chat": "qps_per_replica: 10, route: wrong"})
    ready(world)
    world.controller()
    until(lambda: bool(world.rows()) and world.rows()[-1].state == "failed", "it is reported")
    world.write_catalog({"chat": "qps_per_replica: 10"})
    world.until_applied(40)
    limit = world.in_file()
    assert limit is not None
    assert limit.route == "chat"
    assert "route is now 'chat'" in world.rows()[-1].reason


def test_what_the_platform_writes_stays_and_our_limit_comes_back(world: World) -> None:
    started(world)
    theirs = routes_of(["chat", "another"])
    first_route(theirs)["direct_response"]["status"] = 203
    first_route(theirs)["typed_per_filter_config"] = {"envoy.filters.http.other": {"@type": "x", "a": 1}}
    first_route(theirs)["metadata"] = {"filter_metadata": {"platform": {"team": "vision"}}}
    replace(world.routes, theirs)
    until(lambda: states(world)[-1] == ("applied", 2), "it is put right")
    assert "drift: the limit of revision 1 was gone" in world.rows()[-1].reason
    assert world.qps_in_file() == 40
    now = routes(world)
    route = first_route(now)
    del route["typed_per_filter_config"][FILTER]
    del route["metadata"]["filter_metadata"]["tidegate"]
    assert now == theirs


def test_a_limit_that_somebody_has_edited_is_put_right_and_reported(world: World) -> None:
    started(world)
    edited = routes(world)
    first_route(edited)["typed_per_filter_config"][FILTER]["token_bucket"]["max_tokens"] = 999
    replace(world.routes, edited)
    until(lambda: states(world)[-1] == ("applied", 2), "it is put right")
    limit = world.in_file()
    assert limit is not None
    assert limit.bucket.max_tokens == 40
    assert "the limit was changed by hand to 40 qps, burst 999" in world.rows()[-1].reason
    time.sleep(2.5)
    assert states(world)[-1] == ("applied", 2), "once"


def test_a_cut_over_an_edit_tells_of_both(world: World) -> None:
    started(world)
    world.limits += "\n"
    edited = routes(world)
    first_route(edited)["typed_per_filter_config"][FILTER]["token_bucket"]["max_tokens"] = 999
    world.control(paused=True)
    until(lambda: states(world)[-1][0] == "held", "paused")
    replace(world.routes, edited)
    time.sleep(2.5)
    assert states(world)[-1][0] == "held", "a pause is a pause"
    world.change(2)
    world.control(paused=False)
    world.until_applied(20)
    assert "cut from 40 to 20" in world.rows()[-1].reason
    assert "drift: the limit was changed by hand" in world.rows()[-1].reason


# Silence


@pytest.mark.slow
def test_a_silent_source_holds_the_limit_and_when_it_speaks_again_it_goes_on(
    kafka: Kafka, tmp_path: Path
) -> None:
    world = World(kafka, tmp_path, limits="silent_seconds = 3\nraise_every_seconds = 1")
    try:
        controller = started(world)
        until(lambda: states(world)[-1] == ("held", 1), "the silence is reported")
        held = world.rows()[-1]
        assert held.limit_qps == 40
        assert "has been silent since" in held.reason
        world.change(8)
        time.sleep(3)
        assert world.qps_in_file() == 40, "nothing rises in silence"
        assert states(world).count(("held", 1)) == 1
        controller.kill()
        world.controller()
        time.sleep(5)
        assert world.qps_in_file() == 40
        current = world.current()
        assert current is not None
        assert current.state == "held"
        world.publish_counts(replicas=8)
        world.until_applied(80)
        assert {limit for _, _, limit in world.reported()} == {40, 80}, "never lower, never zero"
    finally:
        world.end()


def test_the_newest_row_is_not_held_any_longer_when_the_silence_is_over(kafka: Kafka, tmp_path: Path) -> None:
    world = World(kafka, tmp_path, limits="silent_seconds = 4")
    try:
        started(world)
        until(lambda: states(world)[-1] == ("held", 1), "the silence is reported")
        before = world.rows()[1]
        world.publish_counts()
        until(lambda: states(world)[-1] == ("applied", 1), "the end of it is reported")
        assert world.rows()[-1] == before, "the same row again, so that its document stays one"
        newest = before.model_copy(update={"id": "vision/chat"})
        # It goes on speaking, or it would soon be silent again.
        until(lambda: world.current() == newest, "the newest row says so too", step=world.publish_counts)
    finally:
        world.end()
