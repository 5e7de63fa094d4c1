"""The demo's clients: a bounded, open load on the gateway, loopback only.

`python -m tidegate.demo.load SCENARIO REPORT PORT SECONDS` plays one day in SECONDS and keeps REPORT up to
date. When every request has ended it goes on with a few closing requests a second, since event time only
moves when requests do, and the day's last windows would never close. It ends on SIGTERM, and by itself after
CLOSING_SECONDS.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import cast

import h11

from tidegate.demo.load_report import LoadReport, Outcome, Phase, TaskReport
from tidegate.demo.scenario import Scenario
from tidegate.demo.traffic import Request, Traffic

CLOSING_SECONDS = 60.0
_CLOSING_QPS = 12.0
_DRAIN_SECONDS = 40.0
_INTERRUPTED_DRAIN_SECONDS = 3.0
_REPORT_SECONDS = 0.5


class Connection(asyncio.Protocol):
    """One keep-alive connection to the gateway, for one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._status = 0
        self._answer: asyncio.Future[int] | None = None

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._fail(exc or ConnectionResetError("the gateway closed the connection"))

    def send(self, request: Request) -> asyncio.Future[int]:
        """Send one request; the future is its status code, once the whole answer has come."""
        if self._transport is None:
            raise ConnectionResetError("the connection is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request.encode(self._http))
        return self._answer

    def leave(self) -> None:
        """Close the connection, with or without an answer."""
        self._answer = None
        if self._transport:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            return
        try:
            self._http.receive_data(data)
            while (event := self._http.next_event()) is not h11.NEED_DATA:
                if isinstance(event, h11.Response):
                    self._status = event.status_code
                elif isinstance(event, h11.EndOfMessage):
                    self._end(self._answer)
                    return
        except h11.RemoteProtocolError as error:
            self._fail(ConnectionAbortedError(f"the gateway's answer is not HTTP/1.1: {error}"))
            self.leave()

    def _end(self, answer: asyncio.Future[int]) -> None:
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        elif self._transport:
            # Envoy hangs up after an answer that it gave before it had read the request's body (429, 404).
            self._transport.close()
        answer.set_result(self._status)

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)


def outcome_of(status: int) -> Outcome:
    """The outcome of a status code."""
    if status == 429:
        return "limited"
    if status == 404:
        return "lost"
    return "failed" if status >= 500 else "answered"


class Ledger:
    """Counts the requests of the day, without the closing requests."""

    def __init__(self, scenario: Scenario) -> None:
        self._departments = {task.name: task.department for task in scenario.tasks}
        self._sent: Counter[tuple[str, str]] = Counter()
        self._outcomes: dict[tuple[str, str], Counter[Outcome]] = {}
        self.skipped = 0

    def sent(self, request: Request) -> None:
        self._sent[request.department, request.task] += 1

    def ended(self, request: Request, outcome: Outcome) -> None:
        self._outcomes.setdefault((request.department, request.task), Counter())[outcome] += 1

    def report(self, phase: Phase, fraction: float, cut_off_ms: int | None) -> LoadReport:
        """The counts so far."""
        tasks = []
        for (department, task), sent in sorted(self._sent.items()):
            ended: Counter[Outcome] = self._outcomes.get((department, task), Counter())
            tasks.append(
                TaskReport(
                    department,
                    task,
                    sent,
                    answered=ended["answered"],
                    limited=ended["limited"],
                    failed=ended["failed"],
                    lost=ended["lost"],
                    gave_up=ended["gave_up"],
                    broken=ended["broken"],
                )
            )
        return LoadReport(phase, fraction, tuple(tasks), self.skipped, cut_off_ms)


class Load:
    """Sends a scenario's traffic to one port of 127.0.0.1."""

    def __init__(self, scenario: Scenario, port: int, report_file: Path, day_seconds: float) -> None:
        self._scenario = scenario
        self._port = port
        self._report_file = report_file
        self._day_seconds = day_seconds
        self._traffic = Traffic(scenario, day_seconds)
        self._ledger = Ledger(scenario)
        self._idle: list[Connection] = []
        self._open: set[asyncio.Task[None]] = set()
        self._phase: Phase = "day"
        self._fraction = 0.0
        self._cut_off_ms: int | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Play the day, wait for the last answers, then close. `stop` ends any of it early."""
        reporter = asyncio.create_task(self._keep_reporting())
        try:
            await self._play_day(stop)
            self._phase = "draining"
            await self._drain(_INTERRUPTED_DRAIN_SECONDS if stop.is_set() else _DRAIN_SECONDS)
            if not self._open:
                # Half a second later no request of the day can end; then up to the next whole second.
                self._cut_off_ms = (int(time.time() * 1000) + 500) // 1000 * 1000 + 1000
            if not stop.is_set():
                self._phase = "closing"
                await self._close_windows(stop)
        finally:
            reporter.cancel()
            with suppress(asyncio.CancelledError):
                await reporter
            for request in self._open:
                request.cancel()
            for connection in self._idle:
                connection.leave()
            self._phase = "ended"
            self._write_report()

    async def _play_day(self, stop: asyncio.Event) -> None:
        start = time.monotonic()
        for moment, request in self._traffic.arrivals():
            wait = start + moment - time.monotonic()
            if wait > 0 and await _set_within(stop, wait):
                return
            if stop.is_set():
                return
            self._fraction = moment / self._day_seconds
            if len(self._open) >= self._scenario.in_flight:
                self._ledger.skipped += 1
                continue
            self._start(request, counted=True)
            if wait <= 0:
                await asyncio.sleep(0)
        self._fraction = 1.0

    async def _close_windows(self, stop: asyncio.Event) -> None:
        wait = (self._cut_off_ms or 0) / 1000 - time.time()
        if wait > 0 and await _set_within(stop, wait):
            return
        deadline = time.monotonic() + CLOSING_SECONDS
        for request in self._traffic.closing():
            if time.monotonic() > deadline or await _set_within(stop, 1 / _CLOSING_QPS):
                break
            self._start(request, counted=False)
        await self._drain(_INTERRUPTED_DRAIN_SECONDS)

    def _start(self, request: Request, counted: bool) -> None:
        task = asyncio.create_task(self._send(request, counted))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _send(self, request: Request, counted: bool) -> None:
        try:
            connection = await self._connection()
            answer = connection.send(request)
        except OSError:
            return  # it never reached the gateway, so it isn't counted
        if counted:
            self._ledger.sent(request)
        outcome: Outcome
        try:
            patience = None if request.patience_ms is None else request.patience_ms / 1000
            async with asyncio.timeout(patience):
                outcome = outcome_of(await answer)
            self._idle.append(connection)
        except TimeoutError:
            connection.leave()
            outcome = "gave_up"
        except OSError:
            outcome = "broken"
        if counted:
            self._ledger.ended(request, outcome)

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        return connection

    async def _drain(self, seconds: float) -> None:
        if self._open:
            await asyncio.wait(self._open, timeout=seconds)

    async def _keep_reporting(self) -> None:
        while True:
            self._write_report()
            await asyncio.sleep(_REPORT_SECONDS)

    def _write_report(self) -> None:
        self._ledger.report(self._phase, self._fraction, self._cut_off_ms).write(self._report_file)


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def _main(scenario: Scenario, report_file: Path, port: int, seconds: float) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    await Load(scenario, port, report_file, seconds).run(stop)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python -m tidegate.demo.load SCENARIO REPORT PORT SECONDS")
    asyncio.run(
        _main(Scenario.read(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    )
