"""The progress of `up` and `down`: one line a server, updated in place on a terminal, else one line a change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tidegate.stack.local import Phase, PhaseChange

_STYLES = {
    Phase.READY: "green",
    Phase.ALREADY_RUNNING: "green",
    Phase.FAILED: "red",
    Phase.KILLED: "yellow",
    Phase.STOPPED: "dim",
}
_UNDER_WAY = {Phase.WAITING, Phase.PREPARING, Phase.STARTING, Phase.STOPPING}
_WORDS = {
    Phase.PREPARING: "resolving its files (downloaded the first time) and writing its configuration",
    Phase.STARTING: "started, not ready yet",
    Phase.STOPPING: "SIGTERM sent",
    Phase.KILLED: "it did not stop after SIGTERM and was killed",
}


class Display:
    """Shows the phase changes of a stack while `shown` is entered."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._latest: dict[str, PhaseChange] = {}
        self._spinners: dict[str, Spinner] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the changes while this is entered: in place on a terminal, else line by line."""
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._table, console=self._console, refresh_per_second=8):
            yield

    def update(self, change: PhaseChange) -> None:
        """Show one change."""
        name = change.server or "all servers"
        now = time.monotonic()
        began = self._began.setdefault(name, now)
        before = self._latest.get(name)
        self._latest[name] = change
        self._took[name] = now - began
        if not self._console.is_terminal and (before is None or before.phase != change.phase):
            words = change.detail or _WORDS.get(change.phase, "")
            line = f"{name:18} {change.phase.value:16} {words}"
            self._console.print(
                line.rstrip(), style=_STYLES.get(change.phase), highlight=False, markup=False, soft_wrap=True
            )

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, change in self._latest.items():
            under_way = change.phase in _UNDER_WAY
            seconds = time.monotonic() - self._began[name] if under_way else self._took[name]
            mark = self._spinners.setdefault(name, Spinner("dots")) if under_way else Text("•")
            table.add_row(
                mark,
                name,
                Text(change.phase.value, style=_STYLES.get(change.phase, "")),
                f"{seconds:4.0f} s",
                Text(change.detail or _WORDS.get(change.phase, ""), overflow="fold"),
            )
        return table
