"""The closed loop on real parts: Envoy's health checks, Kafka, the job on Flink, the controller, Envoy's limits."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from benchmarks.loop import GATEWAY, REPLICAS, Load, Loop, closed_loop
from tests.support.waiting import until
from tidegate.schemas.settings import Kafka

pytestmark = [pytest.mark.timeout(300), pytest.mark.alone]


@pytest.fixture(scope="module")
def loop(kafka_server: Kafka, flink_cluster: str) -> Iterator[Loop]:
    """One Envoy, four ready replicas of 10 qps."""
    mine = kafka_server.model_copy(update={"topic_prefix": f"t{uuid.uuid4().hex[:8]}."})
    with closed_loop(mine, flink_cluster, settings="raises_together_seconds = 1") as running:
        assert limit_qps(running) == 40
        yield running


def limit_qps(loop: Loop) -> float | None:
    found = loop.in_force()
    return None if found is None else round(found.bucket.qps, 6)


def test_admitted_requests_follow_the_ready_replicas_down_and_up(loop: Loop) -> None:
    with Load(loop.ports(), qps=60) as load:
        time.sleep(6)
        now = time.time()
        assert load.admitted_qps(now - 4, now) == pytest.approx(40, rel=0.05)
        loop.director.leave(*REPLICAS[2:4])
        until(lambda: limit_qps(loop) == 20, "the cut")
        cut = time.time()
        time.sleep(8)
        # A new bucket begins full: one burst, a second's worth, is admitted beside the rate.
        assert load.admitted_qps(cut + 2, cut + 8) == pytest.approx(20, rel=0.05)
        loop.director.join(*REPLICAS[2:4])
        time.sleep(3)
        assert limit_qps(loop) == 20, "replicas that warm up don't count"
        loop.director.ready(*REPLICAS[2:4])
        until(lambda: limit_qps(loop) == 40, "the raise")
        raised = time.time()
        time.sleep(8)
        assert load.admitted_qps(raised + 2, raised + 8) == pytest.approx(40, rel=0.05)
    rows = [row for row in loop.limits() if row.state == "applied"]
    limits = [(row.replicas, row.limit_qps) for row in rows]
    # Two replicas that become ready a moment apart may be two changes, and so two raises.
    assert [limit for limit in limits if limit != (3, 30)] == [(4, 40), (2, 20), (4, 40)]
    ids = {change.id: change for change in loop.changes()}
    for row in rows:
        assert row.change_id in ids
        assert row.gateway == GATEWAY
        assert row.target == "envoy-file"
        assert row.applied_at is not None
        assert row.applied_at >= row.decided_at >= ids[row.change_id].settled_at
