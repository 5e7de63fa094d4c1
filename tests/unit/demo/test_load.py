"""The load's books, and how it reads the gateway's answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import h11
import pytest

from tidegate.demo.load import Connection, Ledger, outcome_of
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


class Gateway(asyncio.Transport):
    """A transport that keeps what is written, and answers as a test asks."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.written = b""
        self.closing = False
        self._connection = connection
        connection.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def answer(self, *parts: bytes) -> None:
        for part in parts:
            self._connection.data_received(part)


def test_one_connection_takes_one_request_after_another() -> None:
    async def talk() -> None:
        connection = Connection()
        gateway = Gateway(connection)
        first = connection.send(request())
        gateway.answer(b"HTTP/1.1 200 OK\r\nContent-Len", b"gth: 5\r\n\r\n..")
        assert not first.done()
        gateway.answer(b"...")
        assert await first == 200
        second = connection.send(request())
        gateway.answer(
            b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n2\r\n..\r\n0\r\n\r\n"
        )
        assert await second == 503
        assert connection.usable

    asyncio.run(talk())


def test_a_connection_that_the_gateway_closes_is_recognised() -> None:
    async def talk() -> None:
        connection = Connection()
        gateway = Gateway(connection)
        answer = connection.send(request())
        gateway.answer(
            b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 18\r\nConnection: close\r\n\r\n" + b"." * 18
        )
        assert await answer == 429
        assert not connection.usable

    asyncio.run(talk())


@pytest.mark.parametrize("text", [b"220 mail.example ESMTP\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n"])
def test_an_answer_that_is_not_http_breaks_the_request(text: bytes) -> None:
    async def talk() -> None:
        connection = Connection()
        gateway = Gateway(connection)
        answer = connection.send(request())
        gateway.answer(text)
        with pytest.raises(ConnectionAbortedError, match="not HTTP"):
            await answer
        assert not connection.usable

    asyncio.run(talk())


def test_a_lost_connection_breaks_the_request() -> None:
    async def talk() -> None:
        connection = Connection()
        Gateway(connection)
        answer = connection.send(request())
        connection.connection_lost(None)
        with pytest.raises(ConnectionResetError, match="closed the connection"):
            await answer

    asyncio.run(talk())


def test_a_request_on_the_wire_has_the_length_that_it_announces() -> None:
    head, body = request().encode(h11.Connection(h11.CLIENT)).split(b"\r\n\r\n", 1)
    assert head.startswith(b"POST /v1/infer HTTP/1.1\r\nhost: inference.internal\r\n")
    assert b"content-length: 10" in head
    assert len(body) == 10
