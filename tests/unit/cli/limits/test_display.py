"""How limits, a timeline and the catalog look."""

from __future__ import annotations

import pytest

from tests.support.limit_events import GATEWAY, task
from tests.unit.jobs.logic.limits.test_timeline import at, limit
from tidegate.cli.limits.display import (
    LIMIT_COLUMNS,
    TASK_COLUMNS,
    catalog_line,
    entry_line,
    heading,
    limit_cells,
    limits_table,
    print_table,
    task_cells,
)
from tidegate.jobs.logic.limits.timeline import Lag, Second
from tidegate.schemas.catalog import Catalog, ClientLimits, Gateway
from tidegate.schemas.timestamps import to_text


def test_a_limit_has_one_cell_a_column_and_dashes_for_what_is_unknown() -> None:
    row = limit(12.5, 3, decided=1, applied=2, replicas=None, gateways=None, reason="why")
    shown = dict(zip(LIMIT_COLUMNS, limit_cells(row), strict=True))
    assert shown["limit qps"] == "12.5"
    assert shown["replicas"] == shown["gateways"] == "-"
    assert (shown["since"], shown["reason"]) == (to_text(at(2)), "why")
    waiting = dict(zip(LIMIT_COLUMNS, limit_cells(limit(12.5, 3, decided=1)), strict=True))
    assert (waiting["state"], waiting["since"]) == ("decided", to_text(at(1)))


def test_a_task_has_one_cell_a_column() -> None:
    one = task(owner="ann", ceiling_qps=50.0, clients=ClientLimits(limit_qps=5.0, named={"batch": 1.0}))
    shown = dict(zip(TASK_COLUMNS, task_cells(one), strict=True))
    assert (shown["ceiling"], shown["owner"], shown["clients"]) == ("50", "ann", "5 +1")
    assert dict(zip(TASK_COLUMNS, task_cells(task()), strict=True))["ceiling"] == "-"
    catalog = Catalog({("vision", "chat"): one}, {GATEWAY: Gateway()})
    assert catalog_line(catalog) == "1 task of 1 department, 1 gateway"


def test_a_table_goes_whole_into_a_pipe_and_brackets_are_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    reason = (
        "[bold]a reason that is much longer than any narrow window would ever hold in one of its lines[/bold]"
    )
    print_table(limits_table([limit(20, 5, decided=1, applied=2, reason=reason)]))
    output = capsys.readouterr().out
    assert reason in output
    assert all(name in output for name in LIMIT_COLUMNS)


def test_a_seconds_numbers_stand_under_their_headings() -> None:
    second = Second(
        at=at(0),
        offered=1234,
        admitted=1200,
        rate_limited=34,
        latency_p99_ms=None,
        replicas_seen=2,
        replicas=None,
        limit_qps=1200.5,
    )
    head, line = heading(), entry_line(second)
    assert len(head) == len(line)
    assert head.index("offered") + len("offered") == line.index(" 1234 ") + 5
    assert line.split() == [to_text(at(0)), "1234", "1200", "34", "-", "1200.5", "-", "2"]


def lag(**fields: object) -> Lag:
    values: dict[str, object] = {
        "at": at(14),
        "revision": 5,
        "direction": "cut",
        "from_qps": 40.0,
        "to_qps": 20.0,
        "change_id": "vision|chat|7",
        "ready_at": at(10),
        "settled_at": at(12),
        "decided_at": at(12.1),
        "applied_at": at(12.6),
        "shown_at": at(13),
    }
    return Lag.model_validate(values | fields)


def test_a_lag_is_reported_step_by_step() -> None:
    assert entry_line(lag()).endswith(
        "  revision 5, cut 40 -> 20 qps: readiness -> settled +2.00 s, decided +0.10 s, applied +0.50 s, "
        "first refused request +0.40 s; in force 2.60 s after the readiness"
    )
    unseen = lag(
        direction="raise", from_qps=10.0, shown_at=None, ready_at=None, settled_at=None, change_id=None
    )
    assert entry_line(unseen).endswith(
        "revision 5, raise 10 -> 20 qps: decided -> applied +0.50 s, first request over the old limit: not seen"
    )
    assert "still 20 qps: decided -> applied +0.50 s" in entry_line(lag(direction="same", ready_at=None))
    assert "first limit, 20 qps" in entry_line(lag(direction="first", from_qps=None))
