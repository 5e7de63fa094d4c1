"""When a line may be late. Flink emits watermarks periodically, so which lines are late is not one answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tests.oracle.lines import Position, RawLine, Request, read
from tests.oracle.settings import OracleSettings

WINDOW_MS = 1000


def unlawful_lateness(
    lines: Sequence[RawLine], late: Collection[Position], settings: OracleSettings
) -> list[str]:
    """One text for every late line that could not have been late.

    A line's 1s window has closed only if some line that can have been read before it ended at least the
    watermark delay after the window's end. Before it are: lower offsets of its partition, and any line of
    other partitions (how far these are read is not known afterwards).
    Dead and skipped lines move no watermark.
    """
    late = frozenset(late)
    events: dict[Position, int] = {}
    for line in lines:
        request = read(line, settings)
        if isinstance(request, Request):
            events[line.position] = request.event_ms
    highest: dict[tuple[str, int], int] = {}
    for position, event_ms in events.items():
        partition = position[:2]
        highest[partition] = max(event_ms, highest.get(partition, event_ms))
    problems = [
        f"{position}: late, but it is no line that could count"
        for position in sorted(late)
        if position not in events
    ]
    before: dict[tuple[str, int], int] = {}
    for position, event_ms in sorted(events.items()):
        partition = position[:2]
        seen = [highest[other] for other in highest if other != partition]
        if partition in before:
            seen.append(before[partition])
        latest = max(seen, default=None)
        window_end = event_ms // WINDOW_MS * WINDOW_MS + WINDOW_MS
        if position in late and (latest is None or window_end > latest - settings.watermark_delay_ms):
            problems.append(
                f"{position}: late, but its window ends at {window_end} and the latest event that could be "
                f"read before it is {latest} (delay {settings.watermark_delay_ms} ms)"
            )
        before[partition] = max(event_ms, before.get(partition, event_ms))
    return problems


def late_by_a_watermark_after_every_line(
    lines: Sequence[RawLine], settings: OracleSettings
) -> frozenset[Position]:
    """The late lines if the watermark moved after every line, in the order given: the most there can be."""
    latest: int | None = None
    late = set()
    for line in lines:
        request = read(line, settings)
        if not isinstance(request, Request):
            continue
        window_end = request.event_ms // WINDOW_MS * WINDOW_MS + WINDOW_MS
        if latest is not None and window_end <= latest - settings.watermark_delay_ms:
            late.add(line.position)
        latest = request.event_ms if latest is None else max(latest, request.event_ms)
    return frozenset(late)
