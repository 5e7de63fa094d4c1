"""What `up` and `down` show: a line for each server that changes in place, or lines one after another in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tidegate.stack.local import Progress, Step

_STYLES = {
    Step.READY: "green",
    Step.ALREADY_RUNNING: "green",
    Step.FAILED: "red",
    Step.KILLED: "yellow",
    Step.STOPPED: "dim",
}
_UNDER_WAY = {Step.WAITING, Step.PREPARING, Step.STARTING, Step.STOPPING}
_WORDS = {
    Step.PREPARING: "getting its parts (downloaded the first time) and writing its configuration",
    Step.STARTING: "started; it isn't ready yet",
    Step.STOPPING: "asked to end",
    Step.KILLED: "it did not end when asked, and was killed",
}


class Display:
    """Takes the news of a stack. Use `shown` around what makes them."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._latest: dict[str, Progress] = {}
        self._spinners: dict[str, Spinner] = {}

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the news while this is entered: in place on a terminal, else line by line as they come."""
        if not self._console.is_terminal:
            yield
            return
        with Live(get_renderable=self._table, console=self._console, refresh_per_second=8):
            yield

    def tell(self, progress: Progress) -> None:
        """One piece of news."""
        name = progress.server or "all servers"
        now = time.monotonic()
        began = self._began.setdefault(name, now)
        before = self._latest.get(name)
        self._latest[name] = progress
        self._took[name] = now - began
        if not self._console.is_terminal and (before is None or before.step != progress.step):
            words = progress.detail or _WORDS.get(progress.step, "")
            line = f"{name:18} {progress.step.value:16} {words}"
            self._console.print(
                line.rstrip(), style=_STYLES.get(progress.step), highlight=False, markup=False, soft_wrap=True
            )

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, progress in self._latest.items():
            under_way = progress.step in _UNDER_WAY
            seconds = time.monotonic() - self._began[name] if under_way else self._took[name]
            mark = self._spinners.setdefault(name, Spinner("dots")) if under_way else Text("•")
            table.add_row(
                mark,
                name,
                Text(progress.step.value, style=_STYLES.get(progress.step, "")),
                f"{seconds:4.0f} s",
                Text(progress.detail or _WORDS.get(progress.step, ""), overflow="fold"),
            )
        return table
