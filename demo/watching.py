"""Reads the rows that tidegate computes from the load, shows them live, and measures."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError
from rich.console import Group as Together
from rich.console import RenderableType

from tidegate.demo import limit_table, profile_table, table
from tidegate.demo import measures as measuring
from tidegate.demo.board import Board, Counts, Group
from tidegate.demo.failure import DemoFailed
from tidegate.demo.feed import Feed, documents, late_lines
from tidegate.demo.limit_board import LimitBoard
from tidegate.demo.load_report import LoadReport
from tidegate.demo.measures import Measures, Stored
from tidegate.demo.moves import Moves
from tidegate.demo.parts import Clients
from tidegate.demo.profile_board import ProfileBoard
from tidegate.demo.progress import Progress
from tidegate.demo.scenario import Scenario
from tidegate.demo.staging import Staging
from tidegate.demo.workspace import Workspace
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.rows.service_metrics import UNROUTED, ServiceMetricsRow
from tidegate.schemas.rows.signals import AlertRow
from tidegate.schemas.topics import (
    ACCESS_LOGS,
    INFERENCE_LOGS,
    RATE_LIMITS,
    REPLICA_CHANGES,
    SERVICE_METRICS_1M,
    SERVICE_METRICS_1S,
    Topic,
)

_REFRESH_SECONDS = 0.5
_SLOW_SECONDS = 3.0
_CLOSING_SECONDS = 55.0
"""How long the last seconds' rows may take; shorter than the clients' closing requests last."""
_SETTLING_SECONDS = 5.0
_INDEXING_SECONDS = 30.0
_FLUSH_SECONDS = 2.0
"""The time after which the gateway's log is on disk."""
_REPORT_AGE_MS = 1000
_STORED: dict[str, Topic] = {
    "log lines": ACCESS_LOGS,
    "models' log records": INFERENCE_LOGS,
    "rows of a second": SERVICE_METRICS_1S,
    "rows of a minute": SERVICE_METRICS_1M,
    "replica changes": REPLICA_CHANGES,
    "limit rows": RATE_LIMITS,
}


class Watch:
    """The observations of one demo."""

    def __init__(self, staging: Staging, scenario: Scenario, workspace: Workspace, seconds: float) -> None:
        self._staging = staging
        self._scenario = scenario
        self._clients = workspace.folder / Clients.name
        self._access_log = workspace.access_log
        self._model_logs = workspace.model_logs
        self._seconds = seconds
        self._board = Board()
        self._limits = LimitBoard([(task.department, task.name) for task in scenario.limited_tasks()])
        self._profiles = ProfileBoard([(task.department, task.name) for task in scenario.tasks])
        self._load_end_ms = 0
        self._line_kinds: Counter[str] = Counter()
        self._memory: dict[str, int] = {}
        self._documents: int | None = None
        self._whole = False

    def until_over(self, progress: Progress) -> None:
        """Show the table until the day is over and its last second is counted.

        Raises DemoFailed if a component ends, or a row doesn't match the contract.
        """
        slow_at = 0.0
        closing_since: float | None = None
        settled_since: float | None = None
        moves = Moves(self._scenario, self._staging.director())
        with Feed(self._staging.settings.kafka) as feed, progress.table() as show:
            while True:
                self._read(feed, _REFRESH_SECONDS)
                now = time.monotonic()
                if now >= slow_at:
                    slow_at = now + _SLOW_SECONDS
                    self._look_around()
                report = self._report()
                self._move(moves, report)
                show(self._table(report, progress.height))
                if report.cut_off_ms is None:
                    continue
                closing_since = closing_since or now
                if self._board.newest_start_ms >= report.cut_off_ms:
                    settled_since = settled_since or now
                missing = report.sent - self._counted(report).requests - self._line_kinds["late"]
                patience_over = settled_since is not None and now - settled_since > _SETTLING_SECONDS
                if settled_since is not None and (missing <= 0 or patience_over):
                    break
                if now - closing_since > _CLOSING_SECONDS:
                    break
        self._whole = True

    def settle(self) -> None:
        """Read the last rows after the last request, and wait until all of them are indexed."""
        flushed = time.monotonic() + _FLUSH_SECONDS
        deadline = flushed + _INDEXING_SECONDS
        with Feed(self._staging.settings.kafka) as feed:
            while True:
                self._read(feed, _REFRESH_SECONDS)
                self._staging.check()
                now = time.monotonic()
                if now > deadline or (now > flushed and all(stored.whole for stored in self._stored())):
                    return

    def measures(self) -> Measures:
        """The measures so far. Queries the servers, which must still be up."""
        report = self._report()
        counted = self._board.counted(report.cut_off_ms)
        return Measures(
            whole=self._whole,
            comparisons=measuring.compare(report, counted, self._late(report)),
            skipped_requests=report.skipped,
            broken_requests=sum(task.broken for task in report.tasks),
            line_kinds=dict(self._line_kinds),
            ages_ms=self._board.ages_ms(report.cut_off_ms),
            rows=dict(self._board.rows),
            stored=self._stored(),
            memory_bytes=dict(self._memory),
            followed=self._limits.followed(self._board.seconds(), self._load_end_ms),
            pushes=self._limits.pushes,
            load_end_ms=self._load_end_ms,
            profiles=self._profiles.profiles(),
            alerts=self._profiles.alerts,
        )

    def _read(self, feed: Feed, seconds: float) -> None:
        try:
            for row, now_ms in feed.news(seconds):
                if isinstance(row, ServiceMetricsRow):
                    self._board.add(row, now_ms)
                elif isinstance(row, TaskProfile | AlertRow):
                    self._profiles.add(row, now_ms)
                else:
                    self._limits.add(row)
        except ValidationError as error:
            raise DemoFailed(f"a row doesn't match the contract: {error}") from error
        self._line_kinds = Counter({str(kind): count for kind, count in feed.lines().items()})

    def _move(self, moves: Moves, report: LoadReport) -> None:
        now_ms = _now_ms()
        self._limits.add_moves(moves.step(report.fraction, now_ms))
        if report.phase == "day":
            # The report may be half a second old, so the day may have ended since.
            self._load_end_ms = now_ms - _REPORT_AGE_MS

    def _look_around(self) -> None:
        self._staging.check()
        memory = self._staging.memory_bytes()
        if sum(memory.values()) > sum(self._memory.values()):
            self._memory = memory
        self._documents = documents(self._staging.settings.elasticsearch, tuple(_STORED.values()))

    def _report(self) -> LoadReport:
        return Clients.report(self._clients) or LoadReport("day", 0.0, ())

    def _counted(self, report: LoadReport) -> Counts:
        return sum(self._board.counted(report.cut_off_ms).values(), Counts())

    def _table(self, report: LoadReport, height: int | None) -> RenderableType:
        totals = table.Totals(
            doing=doing(report, self._seconds),
            sent=report.sent,
            counted=self._counted(report).requests,
            late=self._line_kinds["late"],
            dead=self._line_kinds["dead"],
            documents=self._documents,
            memory_bytes=sum(self._memory.values()),
        )
        now_ms = _now_ms()
        seconds = self._board.seconds()
        limits = (self._limits.lines(seconds), self._limits.followed(seconds, now_ms))
        limited = {(task.department, task.name) for task in self._scenario.limited_tasks()}
        profiles = [
            profile for profile in self._profiles.profiles() if (profile.department, profile.task) in limited
        ]
        known = (profiles, self._profiles.alerts)
        below = (limit_table.render(*limits), profile_table.render(*known))
        rest = None
        if height is not None:
            rest = height - limit_table.height(*limits) - profile_table.height(*known)
        return Together(
            table.render(
                self._board.lines(now_ms), totals, self._board.standing_out(), rest, self._board.streams()
            ),
            *below,
        )

    def _stored(self) -> list[Stored]:
        wanted = {
            "rows of a second": self._board.rows.get("1s", 0),
            "rows of a minute": self._board.rows.get("1m", 0),
            "log lines": _count_lines(self._access_log),
            "models' log records": sum(map(count_records, self._model_logs.rglob("*.log"))),
            "replica changes": self._limits.changes,
            "limit rows": self._limits.limits,
        }
        elasticsearch = self._staging.settings.elasticsearch
        return [
            Stored(what, documents(elasticsearch, (topic,)), wanted[what]) for what, topic in _STORED.items()
        ]

    def _late(self, report: LoadReport) -> dict[Group, int]:
        """Late lines of the day by department and task."""
        if not self._line_kinds["late"]:
            return {}
        groups: dict[str | None, Group] = {
            task.cluster(version): (task.department, task.name)
            for task in self._scenario.tasks
            for version in task.versions
        }
        late: Counter[Group] = Counter()
        for line in late_lines(self._staging.settings.kafka):
            fields = json.loads(line)
            ended_ms = datetime.fromisoformat(fields["start_time"]).timestamp() * 1000 + fields["duration"]
            if report.cut_off_ms is None or ended_ms < report.cut_off_ms:
                late[groups.get(fields["upstream_cluster"], (UNROUTED, UNROUTED))] += 1
        return dict(late)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def count_records(path: Path) -> int:
    """The records of a model's log. A record starts with its time or a brace; a line of a stack trace with neither."""
    with path.open("rb") as file:
        return sum(line.startswith((b"2", b"{")) for line in file)


def doing(report: LoadReport, seconds: float) -> str:
    """The clients' current activity, as text."""
    match report.phase:
        case "day":
            left = round((1 - report.fraction) * seconds)
            return f"the simulated day is {report.fraction:.0%} over, {left // 60} min {left % 60:02d} s left"
        case "draining":
            return "the day is over; waiting for the last responses"
        case "closing":
            return "the day is over; a few more requests close the last windows"
    return "the clients have ended"
