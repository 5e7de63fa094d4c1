"""Which tasks fold into `__overflow__` because a department has too many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.oracle.identity import OVERFLOW
from tests.oracle.lines import Request

Fold = Callable[[Sequence[Request], int], list[str]]
"""From the counted requests, in the order given, and the number of tasks allowed: each request's task."""


def by_name_in_every_second(requests: Sequence[Request], max_tasks: int) -> list[str]:
    """In every 1s window a department keeps its first `max_tasks` tasks in byte order; the rest fold."""
    names: dict[tuple[int, str], set[str]] = {}
    for request in requests:
        if request.task != OVERFLOW:
            names.setdefault((request.event_ms // 1000, request.department), set()).add(request.task)
    kept = {window: set(sorted(tasks)[:max_tasks]) for window, tasks in names.items()}
    return [
        request.task
        if request.task in kept.get((request.event_ms // 1000, request.department), ())
        else OVERFLOW
        for request in requests
    ]


def in_order_of_arrival(requests: Sequence[Request], max_tasks: int) -> list[str]:
    """A department keeps the first `max_tasks` tasks that were ever seen in it; later ones fold."""
    kept: dict[str, set[str]] = {}
    folded = []
    for request in requests:
        tasks = kept.setdefault(request.department, set())
        if request.task != OVERFLOW and request.task not in tasks and len(tasks) < max_tasks:
            tasks.add(request.task)
        folded.append(request.task if request.task in tasks else OVERFLOW)
    return folded
