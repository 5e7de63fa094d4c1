"""The demo's progress on the console: one line per stage of the set-up, then the live table."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.status import Status

from tidegate.stack.local import Phase, PhaseChange

PLAIN_TABLE_SECONDS = 15.0
PLAIN_WIDTH = 120
_TOO_SOON_SECONDS = 5.0
"""The minimum time between the last two tables."""

_ENDINGS = {
    Phase.READY: "[green]ready[/green]",
    Phase.FAILED: "[red]failed[/red]",
    Phase.KILLED: "[yellow]killed[/yellow]",
}


class Progress:
    """Reports progress on one console: with a spinner and a live table on a terminal, else as plain lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._status: Status | None = None
        self._began: dict[str, float] = {}

    @property
    def height(self) -> int | None:
        """The lines of the terminal; None if the output may be of any length."""
        return self.console.size.height if self.console.is_terminal else None

    @contextmanager
    def stage(self, text: str) -> Iterator[None]:
        """Report one stage of the set-up, with a spinner while it lasts."""
        self.console.print(f"[bold]{text}[/bold]", highlight=False)
        with self.console.status("") as status:
            self._status = status
            try:
                yield
            finally:
                self._status = None

    def detail(self, text: str) -> None:
        """Report one line about the current stage."""
        self.console.print(f"  {text}", highlight=False, soft_wrap=True)

    def doing(self, text: str) -> None:
        """Show the current activity beside the spinner."""
        if self._status:
            self._status.update(text)

    def phase_changed(self, change: PhaseChange) -> None:
        """Report a phase change of a server."""
        if change.server is None:
            self.doing(change.detail)
            return
        if change.phase is Phase.PREPARING:
            self._began[change.server] = time.monotonic()
        if change.phase in _ENDINGS:
            since = self._began.get(change.server)
            took = f" after {time.monotonic() - since:.0f} s" if since and change.phase is Phase.READY else ""
            detail = f": {escape(change.detail)}" if change.detail else ""
            self.detail(f"{change.server} {_ENDINGS[change.phase]}{took}{detail}")
        else:
            self.doing(
                f"{change.server} is {change.phase}" + (f": {escape(change.detail)}" if change.detail else "")
            )

    @contextmanager
    def table(self) -> Iterator[Callable[[RenderableType], None]]:
        """A function that shows the newest table: in place on a terminal, else every 15 s."""
        if self.console.is_terminal:
            with Live(console=self.console, auto_refresh=False, vertical_overflow="ellipsis") as live:
                yield lambda table: live.update(table, refresh=True)
            return
        newest: list[RenderableType] = []
        shown = time.monotonic()

        def show(table: RenderableType) -> None:
            nonlocal shown
            newest[:] = [table]
            if time.monotonic() - shown >= PLAIN_TABLE_SECONDS:
                shown = time.monotonic()
                self.console.print(table, "")
                newest.clear()

        yield show
        if newest and time.monotonic() - shown >= _TOO_SOON_SECONDS:
            self.console.print(newest[0], "")


def console_for_people() -> Console:
    """Standard output; wide enough for the table if it is a file, unless COLUMNS sets the width."""
    console = Console(highlight=False)
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console
    return Console(highlight=False, width=PLAIN_WIDTH)
