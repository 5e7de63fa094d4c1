"""The task catalog as rows and back, and what to write so that those who follow the topic have another catalog."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.limit_events import GATEWAY, START_MS, task
from tidegate.adapters.catalog.topic import Change, differences, plan
from tidegate.jobs.logic.catalog_rows import RowCatalog, keys, rows_of
from tidegate.schemas.catalog import Catalog, ClientLimits, Gateway, Slo, Task, parse
from tidegate.schemas.rows.limits import TaskRow
from tidegate.schemas.timestamps import from_epoch_ms

NOW = from_epoch_ms(START_MS)
LATER = from_epoch_ms(START_MS + 1000)


def catalog(*tasks: Task) -> Catalog:
    gateways = {one.gateway: Gateway(labels={"istio": one.gateway}) for one in tasks}
    return Catalog({(one.department, one.name): one for one in tasks}, gateways)


def rows(*tasks: Task) -> dict[str, TaskRow]:
    return {row.id: row for row in rows_of(catalog(*tasks), NOW)}


def follow(steps: list[Change], before: dict[str, TaskRow]) -> RowCatalog:
    """Who follows the topic: refuses nothing of what is written."""
    made = RowCatalog()
    for key, row in before.items():
        assert made.put(key, row) is None
    for step in steps:
        assert made.put(step.key, step.row) is None
    return made


def test_a_catalog_goes_to_rows_and_back() -> None:
    written = parse(
        """
        gateways: {vision-gateway: {namespace: edge, labels: {app: envoy}}}
        defaults: {headroom: 0.9, ceiling_qps: 500}
        departments:
          vision:
            gateway: vision-gateway
            tasks:
              chat: {qps_per_replica: 12, owner: team, slo: {p99_ms: 800}, clients: {named: {batch: 5}}}
              ocr: {qps_per_replica: 3, route: read, burst_seconds: 2}
        """,
        "catalog",
    )
    made = RowCatalog()
    for row in rows_of(written, NOW):
        text = row.model_dump_json()
        assert made.put(row.id, TaskRow.model_validate_json(text)) is None
    assert made.catalog() == written
    assert keys(written.tasks.values()) == {"vision/chat", "vision/ocr"}


def test_a_row_that_cannot_be_used_changes_nothing() -> None:
    made = RowCatalog()
    (row,) = rows(task()).values()
    assert made.put(row.id, row) is None
    before = made.catalog()
    wrong: list[tuple[str, TaskRow, str]] = [
        ("vision/other", row, "must be department/task, and the message's key"),
        (row.id, row.model_copy(update={"ceiling_qps": 0.5}), "is below floor_qps"),
        (
            "vision/ocr",
            row.model_copy(update={"id": "vision/ocr", "task": "ocr"}),
            "is the route of vision/chat",
        ),
    ]
    for key, one, reason in wrong:
        assert reason in (made.put(key, one) or "")
        assert made.catalog() == before
    assert made.put(row.id, None) is None
    assert made.catalog() == Catalog({}, {}), "nor is its gateway followed any longer"


def test_what_is_there_already_is_not_written_again() -> None:
    held = rows(task(), task(name="ocr", route="ocr"))
    assert plan(held, catalog(task(), task(name="ocr", route="ocr")), LATER) == []
    (step,) = plan(held, catalog(task(), task(name="ocr", route="ocr", headroom=0.5)), LATER)
    assert step.key == "vision/ocr"
    assert step.row is not None
    assert step.row.published_at == LATER


def test_differences_say_what_comes_goes_and_changes() -> None:
    held = rows(task(), task(name="ocr", route="ocr"))
    wanted = catalog(task(qps_per_replica=12.5, owner="ann"), task(name="asr", route="asr"))
    assert list(differences(plan(held, wanted, LATER))) == [
        "+ vision/asr",
        "~ vision/chat: qps_per_replica 10 -> 12.5, owner None -> ann",
        "- vision/ocr",
    ]


def test_a_route_that_moves_is_free_before_another_task_takes_it() -> None:
    held = rows(task(name="a", route="1"), task(name="b", route="2"), task(name="c", route="3"))
    chain = catalog(task(name="a", route="2"), task(name="b", route="3"), task(name="c", route="4"))
    steps = plan(held, chain, LATER)
    assert [step.key for step in steps] == ["vision/c", "vision/b", "vision/a"]
    assert follow(steps, held).catalog().tasks == chain.tasks
    circle = catalog(task(name="a", route="2"), task(name="b", route="3"), task(name="c", route="1"))
    steps = plan(held, circle, LATER)
    assert sum(step.row is None for step in steps) == 1
    assert follow(steps, held).catalog().tasks == circle.tasks
    assert "- " not in "\n".join(differences(steps))


def test_what_nobody_can_use_is_written_over_or_removed() -> None:
    steps = plan({"vision/chat": None, "vision/gone": None}, catalog(task()), LATER)
    assert [(step.key, step.row is None) for step in steps] == [("vision/gone", True), ("vision/chat", False)]


NAMES = ["a", "b", "c", "d", "e"]


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    """Tasks at two gateways, each with a route that no other has there."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    routes = draw(st.permutations(range(len(NAMES))))
    made: list[Task] = []
    for name, route in zip(names, routes, strict=False):
        fields: dict[str, Any] = {
            "gateway": draw(st.sampled_from([GATEWAY, "other-gateway"])),
            "qps_per_replica": draw(st.sampled_from([1.0, 2.0])),
            "slo": Slo(p99_ms=draw(st.sampled_from([None, 100.0]))),
            "clients": ClientLimits(limit_qps=draw(st.sampled_from([None, 5.0]))),
        }
        made.append(task(name=name, route=str(route), **fields))
    return catalog(*made)


@given(catalogs(), catalogs())
@settings(max_examples=examples(500))
def test_from_any_catalog_to_any_other_those_who_follow_refuse_nothing(
    held: Catalog, wanted: Catalog
) -> None:
    before = {row.id: row for row in rows_of(held, NOW)}
    steps = plan(before, wanted, LATER)
    assert follow(steps, before).catalog().tasks == wanted.tasks
    after = before | {step.key: step.row for step in steps}
    assert plan({key: row for key, row in after.items() if row is not None}, wanted, LATER) == []
