"""The load's books, and how it reads the gateway's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.demo.load import Head, Ledger, outcome_of, read_head
from tidegate.demo.load_report import LoadReport, TaskReport
from tidegate.demo.scenario import DEMO
from tidegate.demo.traffic import Request
from tidegate.schemas.rows.service_metrics import UNROUTED


def request(task: str = "chat", department: str = "assistants") -> Request:
    return Request(department, task, "/v1/infer", task, "web", "0" * 32, 10)


def test_every_request_ends_in_one_way() -> None:
    ledger = Ledger(DEMO)
    for outcome in ("answered", "limited", "failed", "gave_up", "answered"):
        ledger.sent(request())
        ledger.ended(request(), outcome)
    ledger.sent(request(UNROUTED, UNROUTED))
    report = ledger.report("day", 0.5, None)
    assert report.tasks == (
        TaskReport(UNROUTED, UNROUTED, sent=1),
        TaskReport("assistants", "chat", sent=5, answered=2, limited=1, failed=1, gave_up=1),
    )
    assert report.sent == 6


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "answered"), (429, "limited"), (404, "lost"), (503, "failed")]
)
def test_a_status_counts_as(status: int, outcome: str) -> None:
    assert outcome_of(status) == outcome


def test_a_report_survives_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert LoadReport.read(path) is None
    report = LoadReport("closing", 1.0, (TaskReport("media", "tags", 3, answered=3),), 2, 1_790_000_000_000)
    report.write(path)
    assert LoadReport.read(path) == report


def test_a_connection_that_the_gateway_closes_is_recognised() -> None:
    head = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 18\r\nConnection: close"
    assert read_head(head) == Head(429, 18, closes=True)
    assert read_head(b"HTTP/1.1 200 OK\r\ncontent-length: 5") == Head(200, 5, closes=False)


def test_a_request_on_the_wire_has_the_length_that_it_announces() -> None:
    head, body = request().encode().split(b"\r\n\r\n", 1)
    assert b"content-length: 10" in head
    assert len(body) == 10
