"""The demo's measures, and whether the counts agree. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tidegate.demo import limit_table, profile_table
from tidegate.demo.board import Counts, nearest_rank
from tidegate.demo.board import Group as TaskGroup
from tidegate.demo.limit_board import Followed
from tidegate.demo.load_report import LoadReport
from tidegate.demo.profile_board import AlertLine
from tidegate.demo.table import GIB, MEMORY_LIMIT_BYTES
from tidegate.schemas.rows.resources import TaskProfile


@dataclass(frozen=True)
class Comparison:
    """One task: the clients' counts, and tidegate's. `late`: lines of windows already closed."""

    department: str
    task: str
    sent: Counts
    counted: Counts
    late: int

    @property
    def agrees(self) -> bool:
        """Every request sent is counted or late, and both counted the same number of rate-limited ones.

        A client that leaves at the moment of the answer may see another outcome than the gateway, so the number
        of early disconnects may differ by a few.
        """
        if self.late:
            return self.sent.requests == self.counted.requests + self.late
        return (self.sent.requests, self.sent.rate_limited) == (
            self.counted.requests,
            self.counted.rate_limited,
        )


@dataclass(frozen=True)
class Stored:
    """The number of documents of one kind in Elasticsearch (None: it doesn't answer), and the expected number."""

    what: str
    documents: int | None
    wanted: int

    @property
    def whole(self) -> bool:
        return self.documents == self.wanted

    def __str__(self) -> str:
        count = "?" if self.documents is None else f"{self.documents:,}"
        return f"{count} {self.what}" + ("" if self.whole else f" (of {self.wanted:,})")


@dataclass(frozen=True)
class Measures:
    """The content of the summary.

    whole: the day was played to its end and its last window has closed, so that the counts must agree.
    rows: distinct rows by span. memory_bytes: by component, at the moment when their sum was largest.
    followed, pushes: the effects of each move of the replicas, and how many limits came into force by load_end_ms.
    """

    whole: bool
    comparisons: Sequence[Comparison]
    skipped_requests: int
    broken_requests: int
    line_kinds: Mapping[str, int]
    ages_ms: Sequence[float]
    rows: Mapping[str, int]
    stored: Sequence[Stored]
    memory_bytes: Mapping[str, int]
    followed: Sequence[Followed] = ()
    pushes: int = 0
    load_end_ms: int = 0
    profiles: Sequence[TaskProfile] = ()
    alerts: Sequence[AlertLine] = ()

    @property
    def agrees(self) -> bool:
        """Every request sent is accounted for, and all of it is in Elasticsearch."""
        return all(comparison.agrees for comparison in self.comparisons) and all(
            stored.whole for stored in self.stored
        )

    @property
    def overdue(self) -> Sequence[Followed]:
        """Moves that no limit has followed in time."""
        return [one for one in self.followed if one.overdue(self.load_end_ms)]


def compare(
    report: LoadReport, counted: Mapping[TaskGroup, Counts], late: Mapping[TaskGroup, int]
) -> list[Comparison]:
    """The counts of clients and tidegate side by side, including tasks that only one of them has."""
    sent = {
        (task.department, task.task): Counts(task.sent, task.lost, task.failed, task.gave_up, task.limited)
        for task in report.tasks
    }
    return [
        Comparison(*group, sent.get(group, Counts()), counted.get(group, Counts()), late.get(group, 0))
        for group in sorted({*sent, *(group for group, counts in counted.items() if counts.requests), *late})
    ]


def render(measures: Measures) -> RenderableType:
    """The summary."""
    parts: list[RenderableType] = [Text("\nMeasures", "bold"), _comparison_table(measures)]
    parts += [Text(line) for line in _verdict(measures)]
    if measures.followed:
        parts.append(limit_table.summary(measures.followed, measures.pushes, measures.load_end_ms))
    parts += [profile_table.summary(measures.profiles, measures.alerts), Text(""), _figures(measures)]
    return Group(*parts)


def _comparison_table(measures: Measures) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("department", no_wrap=True)
    table.add_column("task", no_wrap=True)
    for heading in ("sent", "counted", "5xx", "limited", "left\nearly", "4xx"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for line in measures.comparisons:
        task = "" if line.task == line.department else line.task
        table.add_row(line.department, task, *_pairs(line), _mark(line, measures.whole))
    sent = sum((line.sent for line in measures.comparisons), Counts())
    counted = sum((line.counted for line in measures.comparisons), Counts())
    late = sum(line.late for line in measures.comparisons)
    total = Comparison("all", "", sent, counted, late)
    table.add_section()
    table.add_row(total.department, total.task, *_pairs(total), _mark(total, measures.whole), style="bold")
    return table


def _pairs(line: Comparison) -> list[str]:
    sent, counted = line.sent, line.counted
    return [
        f"{sent.requests:,}",
        f"{counted.requests:,}",
        _pair(sent.errors_5xx, counted.errors_5xx),
        _pair(sent.rate_limited, counted.rate_limited),
        _pair(sent.aborted, counted.aborted),
        _pair(sent.errors_4xx, counted.errors_4xx),
    ]


def _pair(sent: int, counted: int) -> str:
    if sent == counted:
        return f"{sent:,}" if sent else "-"
    return f"{sent:,}/{counted:,}"


def _mark(line: Comparison, whole: bool) -> Text:
    late = f", {line.late:,} late" if line.late else ""
    if line.agrees:
        return Text("equal" + late, "green")
    return Text("differs" + late, "red") if whole else Text("incomplete", "yellow")


def _verdict(measures: Measures) -> list[str]:
    lines = []
    if not measures.whole:
        lines.append("The demo ended early: the requests of the last seconds are not counted yet.")
    elif all(comparison.agrees for comparison in measures.comparisons):
        lines.append("Every request that the clients sent is accounted for.")
    else:
        lines.append("The counts differ, and they should not. Pairs are: clients/tidegate.")
    if measures.whole and not all(stored.whole for stored in measures.stored):
        lines.append("Elasticsearch does not hold all rows of Kafka, and it should.")
    if measures.broken_requests:
        lines.append(
            f"{measures.broken_requests:,} requests got no answer: the gateway closed the connection."
        )
    if measures.skipped_requests:
        lines.append(
            f"{measures.skipped_requests:,} requests were not sent: too many were open (a slow machine)."
        )
    return lines


def _figures(measures: Measures) -> Table:
    table = Table.grid(padding=(0, 2))
    p50, p95 = nearest_rank(measures.ages_ms, 50), nearest_rank(measures.ages_ms, 95)
    age = (
        "no row observed" if p50 is None or p95 is None else f"p50 {p50 / 1000:.1f} s, p95 {p95 / 1000:.1f} s"
    )
    table.add_row("lag from a second's end to its rows", age)
    table.add_row("rows", ", ".join(f"{count:,} of {span}" for span, count in sorted(measures.rows.items())))
    table.add_row("lines by outcome", ", ".join(f"{n:,} {kind}" for kind, n in measures.line_kinds.items()))
    table.add_row("documents in Elasticsearch", ", ".join(str(stored) for stored in measures.stored))
    total = sum(measures.memory_bytes.values())
    within = "within" if total <= MEMORY_LIMIT_BYTES else "MORE THAN"
    table.add_row(
        "resident memory of all components",
        f"{total / GIB:.2f} GiB, {within} the {MEMORY_LIMIT_BYTES / GIB:.0f} GiB budget",
    )
    by_size = sorted(measures.memory_bytes.items(), key=lambda item: -item[1])
    table.add_row("", ", ".join(f"{name} {size >> 20} MiB" for name, size in by_size))
    return table
