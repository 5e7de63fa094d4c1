"""Renders the demo's live table, for a terminal or as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tidegate.demo.board import SHOWN_SECONDS, Line, ReplicaLine, StreamLine
from tidegate.schemas.rows.service_metrics import UNROUTED

GIB = 1 << 30
MEMORY_LIMIT_BYTES = 6 * GIB
STALE_SECONDS = 10.0
_FRAME_LINES = 8
"""Totals, an empty line, the table's head, and the note that there are more lines."""


@dataclass(frozen=True)
class Totals:
    """The totals above the table.

    doing: the load's current activity, as text. sent, counted: requests of the clients, and of the rows
    that were read. late, dead: lines that the job didn't count. documents: in Elasticsearch, None while it
    doesn't answer.
    """

    doing: str
    sent: int
    counted: int
    late: int = 0
    dead: int = 0
    documents: int | None = None
    memory_bytes: int = 0


def render(
    lines: Sequence[Line],
    totals: Totals,
    standing_out: Sequence[ReplicaLine] = (),
    height: int | None = None,
    streams: Sequence[StreamLine] = (),
) -> RenderableType:
    """The totals, the table, the streaming models, and the replicas that stand out. Fits 80 columns.

    height: of the terminal. If it is too small, first the replicas and streams are left out, then the versions, then
    the tasks.
    """
    lines = [line for line in lines if line.task != UNROUTED]  # its department's line shows the same
    if height is not None and _height(lines, standing_out, streams) > height:
        standing_out, streams = (), ()
    shown = lines if height is None else _that_fit(lines, height)
    parts: list[RenderableType] = [_title(totals), _counts(totals), _stores(totals)]
    parts += [Text(""), _table(shown) if shown else _no_rows_yet()]
    if len(shown) < len(lines):
        parts.append(Text("  (more in a higher terminal)", "dim"))
    if streams:
        parts.append(_streams(streams))
    if standing_out:
        parts.append(_standing_out(standing_out))
    return Group(*parts)


def _height(
    lines: Sequence[Line], standing_out: Sequence[ReplicaLine] = (), streams: Sequence[StreamLine] = ()
) -> int:
    below = sum(len(part) + 2 for part in (standing_out, streams) if part)
    return _FRAME_LINES + len(lines) + below


def _that_fit(lines: Sequence[Line], height: int) -> Sequence[Line]:
    if _height(lines) > height:
        lines = [line for line in lines if line.version is None]
    if _height(lines) > height:
        lines = [line for line in lines if line.task is None]
    return lines


def _title(totals: Totals) -> Text:
    return Text.assemble(("tidegate demo", "bold"), f"  {totals.doing}")


def _no_rows_yet() -> Text:
    return Text("\n  No rows yet: a second's rows appear about three seconds after it.\n", "dim")


def _table(lines: Sequence[Line]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column(f"newest {SHOWN_SECONDS} s", no_wrap=True)
    for heading in (
        "qps",
        "p50\nms",
        "p99\nms",
        "errors\n%",
        "limited\n%",
        "left\nearly",
        "replicas",
        "apdex",
        "newest\nrow",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        name, style = _name(line)
        table.add_row(name, *_figures(line), style=style)
    return table


def _name(line: Line) -> tuple[str, str]:
    if line.version is not None:
        return f"    version {line.version}", "dim"
    return (line.department, "bold") if line.task is None else (f"  {line.task}", "")


def _figures(line: Line) -> list[Text]:
    return [
        Text(f"{line.qps:.1f}"),
        Text(_ms(line.p50_ms)),
        Text(_ms(line.p99_ms)),
        _share(line.errors_percent, "red"),
        _share(line.limited_percent, "yellow"),
        Text(str(line.aborted) if line.aborted else "-", "magenta" if line.aborted else "dim"),
        Text(str(line.replicas) if line.replicas else "-"),
        Text("-" if line.apdex is None else f"{line.apdex:.2f}"),
        Text(
            f"{line.newest_age_seconds:.1f} s", "red" if line.newest_age_seconds > STALE_SECONDS else "green"
        ),
    ]


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _share(percent: float, style: str) -> Text:
    return Text(f"{percent:.1f}", style) if percent else Text("-", "dim")


def _counts(totals: Totals) -> Text:
    on_its_way = totals.sent - totals.counted - totals.late - totals.dead
    rest = f" (+ {on_its_way:,} on the way)" if on_its_way > 0 else ""
    return Text(
        f"requests: {totals.sent:,} sent, {totals.counted:,} counted{rest}, {totals.late:,} late, "
        f"{totals.dead:,} refused"
    )


def _stores(totals: Totals) -> Text:
    documents = "not answering" if totals.documents is None else f"{totals.documents:,} documents"
    return Text(
        f"Elasticsearch: {documents}; memory: {totals.memory_bytes / GIB:.1f} "
        f"of {MEMORY_LIMIT_BYTES / GIB:.0f} GiB"
    )


def _streams(streams: Sequence[StreamLine]) -> Text:
    texts = [
        f"  {line.task}: first byte p50 {_ms(line.first_byte_p50_ms)} ms, p99 {_ms(line.first_byte_p99_ms)} ms, "
        f"{line.output_tokens_per_second:,.0f} tokens/s"
        for line in streams
    ]
    return Text("\nStreaming models\n" + "\n".join(texts))


def _standing_out(replicas: Sequence[ReplicaLine]) -> Text:
    texts = []
    for line in replicas:
        what = f"p50 {_ms(line.p50_ms)} ms, all {_ms(line.task_p50_ms)} ms"
        if line.errors_percent >= 1:
            what += f", {line.errors_percent:.0f} % errors"
        texts.append(f"  {line.task} {line.replica}: {what}")
    return Text("\nReplicas that stand out\n" + "\n".join(texts))
