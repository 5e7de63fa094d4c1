"""How a command that goes on for ever is ended, and how it shows that it goes on.

SIGTERM and Ctrl-C are remembered, and it stops when it may. Each time that it asks whether it must is a sign of life.
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
    """An event whose every look at it is a sign of life."""

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
    """What has been received. `stop` is set by either signal."""

    stop: threading.Event = field(default_factory=_Stop)
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """Of a command that has ended well."""
        return INTERRUPTED if self.interrupted else DONE


@contextmanager
def stopping() -> Iterator[Stopping]:
    """Within the block both signals are only remembered."""
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
