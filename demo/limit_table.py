"""Renders limits that follow replicas, for the live table and for the summary."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tidegate.demo.limit_board import NEWEST_SECONDS, Followed, LimitLine
from tidegate.schemas.settings.limits import ReplicaChanges

SHOWN_EVENTS = 3


def render(lines: Sequence[LimitLine], followed: Sequence[Followed]) -> RenderableType:
    """Each task's limit and requests, and the last moves with their effects. Fits 80 columns."""
    parts: list[RenderableType] = [Text("\nLimits that follow the ready replicas", "bold"), _limits(lines)]
    parts += [Text(f"  {line.task}: {line.trouble}", "red") for line in lines if line.trouble]
    if followed:
        parts.append(_events(followed[-SHOWN_EVENTS:]))
    return Group(*parts)


def height(lines: Sequence[LimitLine], followed: Sequence[Followed]) -> int:
    """About how many lines of a terminal `render` takes, at 80 columns."""
    return (
        5
        + len(lines)
        + sum(line.trouble is not None for line in lines)
        + 2 * min(len(followed), SHOWN_EVENTS)
    )


def summary(followed: Sequence[Followed], pushes: int, end_ms: int) -> RenderableType:
    """A line for each move: how long it took, and what was admitted before and after. Fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("seconds after", no_wrap=True, vertical="bottom")
    for heading in ("seen", "settled", "decided", "in\nforce", "limit\nqps", "before\n%", "after\n%"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in followed:
        steps = (one.seen_s, one.settled_s, one.decided_s, one.applied_s)
        limit = Text("late", "red") if one.overdue(end_ms) else Text(_limit(one))
        shares = (one.admitted_before, one.admitted_after)
        table.add_row(
            f"{one.moved.task}: {one.moved.replicas} {one.moved.what.removeprefix('became ')}",
            *("-" if step is None else f"{step:.1f}" for step in steps),
            limit,
            *("-" if share is None else f"{100 * share:.1f}" for share in shares),
        )
    pushed = "one push" if pushes == 1 else f"{pushes} pushes"
    legend = (
        "Before and after: admitted requests in % of the limit in force.\n"
        f"The gateway received {pushed}, including the first limit."
    )
    return Group(Text("\nLimits that followed the ready replicas", "bold"), table, Text(legend))


def _limits(lines: Sequence[LimitLine]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(f"newest {NEWEST_SECONDS} s", no_wrap=True, vertical="bottom")
    for heading in ("ready", "starting", "limit\nqps", "offered\nqps", "admitted\nqps", "limited\nqps"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(
            f"  {line.task}",
            "-" if line.ready is None else str(line.ready),
            Text(str(line.starting), "yellow") if line.starting else Text("-", "dim"),
            Text("-" if line.limit_qps is None else f"{line.limit_qps:g}", "bold"),
            f"{line.offered_qps:.1f}",
            f"{line.admitted_qps:.1f}",
            Text(f"{line.limited_qps:.1f}", "yellow") if line.limited_qps else Text("-", "dim"),
        )
    return table


def _events(followed: Sequence[Followed]) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for one in followed:
        moved = one.moved
        noun = "replica" if moved.replicas == 1 else "replicas"
        grid.add_row(f"  {moved.replicas} {noun} of {moved.task} {moved.what}:", effect(one))
    return grid


def effect(one: Followed) -> str:
    """The effect of a move, as text."""
    if one.moved.what == "joined":
        return "warming up; they count once they are ready"
    if one.seen_s is None or one.settled_s is None:
        return f"waiting {_window_seconds(one):g} s for it to settle"
    settled = f"settled after {one.settled_s:.1f} s, "
    if one.applied_s is None:
        return settled + (
            "no new limit yet" if one.decided_s is None else f"limit {one.to_qps:g} qps decided"
        )
    return f"{settled}limit {_limit(one)} qps in force after {one.applied_s:.1f} s"


def _window_seconds(one: Followed) -> float:
    windows = ReplicaChanges()
    return windows.down_window_seconds if one.moved.what == "left" else windows.up_window_seconds


def _limit(one: Followed) -> str:
    if one.applied_s is None or one.to_qps is None:
        return "-"
    return f"{one.to_qps:g}" if one.from_qps is None else f"{one.from_qps:g} -> {one.to_qps:g}"
