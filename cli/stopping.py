"""Ends a long-running command on SIGTERM or Ctrl-C, and writes its heartbeat.

A signal sets an event; the command stops at its next check of the event. Each check writes the heartbeat.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tidegate.adapters.heartbeat import Heartbeat
from tidegate.cli.app_context import DONE, INTERRUPTED

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class _Stop(threading.Event):
    """An event that writes the heartbeat at every check."""

    def __init__(self) -> None:
        super().__init__()
        self._heartbeat = Heartbeat()

    def is_set(self) -> bool:
        self._heartbeat.beat()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        self._heartbeat.beat()
        return super().wait(timeout)


@dataclass
class Stopping:
    """The signals received so far. Either signal sets `stop`."""

    stop: threading.Event = field(default_factory=_Stop)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends without an error."""
        return INTERRUPTED if self.interrupted else DONE


@contextmanager
def stopping() -> Iterator[Stopping]:
    """Within the block SIGTERM and SIGINT only set `stop`."""
    received = Stopping()

    def on_signal(number: int, _: object) -> None:
        received.interrupted = received.interrupted or number == signal.SIGINT
        received.stop.set()

    before = {number: signal.signal(number, on_signal) for number in _NUMBERS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
