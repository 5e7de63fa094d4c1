"""The limit controller while its Kafka is killed and comes back."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from tests.support.limit_bad_days import first_route, routes, started, states
from tests.support.limit_world import World
from tests.support.waiting import until
from tidegate.demo.envoy_config import replace
from tidegate.jobs.logic.limits.envoy_limits import FILTER
from tidegate.schemas.settings import Kafka
from tidegate.stack.local import LocalStack

pytestmark = pytest.mark.timeout(240)


def test_kafka_away_leaves_the_limits_alone_and_loses_nothing(
    own_kafka: Kafka, own_stack: LocalStack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(own_kafka, tmp_path)
    try:
        controller = started(world)
        own_stack.kill("kafka")
        edited = routes(world)
        first_route(edited)["typed_per_filter_config"][FILTER]["token_bucket"]["max_tokens"] = 999
        replace(world.routes, edited)
        process = psutil.Process(controller.pid)
        before = sum(process.cpu_times()[:2])
        time.sleep(10)
        used = sum(process.cpu_times()[:2]) - before
        with capsys.disabled():
            print(f"\nKafka away for 10 s: the controller used {used:.2f} s of a core")  # noqa: T201
        assert used < 5, "it goes round and round"
        limit = world.in_file()
        assert limit is not None
        assert (limit.revision, limit.bucket.max_tokens) == (1, 999), "what can't be published isn't made"
        own_stack.up(["kafka"])
        until(lambda: world.in_file() != limit, "the edit is put right")
        world.publish_counts()
        world.change(2)
        world.until_applied(20)
        assert states(world) == [
            *(("decided", 1), ("applied", 1)),
            *(("decided", 2), ("applied", 2)),
            *(("decided", 3), ("applied", 3)),
        ]
        assert "drift: the limit was changed by hand" in world.rows()[3].reason
        assert controller.process.poll() is None
    finally:
        world.end()


@pytest.mark.slow
def test_a_controller_ends_when_reported_to_though_kafka_is_away(
    own_kafka: Kafka, own_stack: LocalStack, tmp_path: Path
) -> None:
    world = World(own_kafka, tmp_path)
    try:
        first = started(world)
        own_stack.kill("kafka")
        time.sleep(1)
        assert first.end(20) == 0
        assert world.qps_in_file() == 40
        own_stack.up(["kafka"])
        second = world.controller()
        own_stack.kill("kafka")
        time.sleep(9)  # its place in the group is lost by now
        assert second.end(20) == 0
    finally:
        world.end()
