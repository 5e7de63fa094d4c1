"""Which rows a watcher tells, and when once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tidegate.adapters.watching.publisher import PublishedRows
from tidegate.schemas.rows.limits import GatewayRow, ReplicasRow

T0 = datetime(2026, 11, 24, 10, tzinfo=UTC)


def replicas(second: float, ready: int, task: str = "chat") -> ReplicasRow:
    return ReplicasRow(
        id=f"vision|{task}|kubernetes",
        department="vision",
        task=task,
        workload=f"vision/service-{task}",
        source="kubernetes",
        replicas_ready=ready,
        replicas_starting=0,
        replicas_terminating=0,
        replicas=(),
        observed_at=T0 + timedelta(seconds=second),
    )


def test_a_row_is_reported_on_each_change_and_when_it_was_not_reported_for_the_time() -> None:
    published = PublishedRows(refresh_seconds=30)
    timeline = [(0, 4), (1, 4), (2, 3), (31.9, 3), (32, 3), (33, 3), (34, 4)]
    assert [published.due(replicas(second, ready)) for second, ready in timeline] == [
        *(True, False, True, False, True, False, True)
    ]


def test_each_row_has_its_own_time() -> None:
    published = PublishedRows(refresh_seconds=30)
    assert published.due(replicas(0, 4, "chat"))
    assert published.due(replicas(20, 4, "embed"))
    assert published.due(replicas(30, 4, "chat"))
    assert not published.due(replicas(30, 4, "embed"))


def test_what_comes_out_of_order_is_not_reported() -> None:
    published = PublishedRows(refresh_seconds=30)
    assert published.due(replicas(10, 4))
    assert not published.due(replicas(9, 3))
    assert published.due(replicas(10, 3))


def test_a_forgotten_row_is_reported_when_it_comes_anew() -> None:
    published = PublishedRows(refresh_seconds=30)
    row = GatewayRow(
        id="edge|kubernetes",
        gateway="edge",
        source="kubernetes",
        gateways_ready=1,
        gateways=("a",),
        observed_at=T0,
    )
    assert published.due(row)
    assert published.last(row.id) == row
    published.forget(row.id)
    assert published.last(row.id) is None
    assert published.due(row)
