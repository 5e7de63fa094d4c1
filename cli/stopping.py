"""How a command that goes on for ever is ended, and how it shows that it goes on.

SIGTERM and Ctrl-C are remembered, and it stops when it may. Each time that it asks whether it must, it touches the file
that the environment names in TIDEGATE_ALIVE_FILE: what a container's health is told by (docker/healthy.py).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tidegate.cli.app_context import DONE, INTERRUPTED

ALIVE_FILE_VARIABLE = "TIDEGATE_ALIVE_FILE"
_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_TOUCH_SECONDS = 1.0


class Alive:
    """Touches a file, at most once a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._touched_at = -_TOUCH_SECONDS

    def __call__(self) -> None:
        """The work goes on."""
        now = time.monotonic()
        if now - self._touched_at >= _TOUCH_SECONDS:
            self._touched_at = now
            self._path.touch()


class _StopOfTheLiving(threading.Event):
    """An event whose every look at it is a sign of life."""

    def __init__(self, alive: Alive) -> None:
        super().__init__()
        self._alive = alive

    def is_set(self) -> bool:
        self._alive()
        return super().is_set()

    def wait(self, timeout: float | None = None) -> bool:
        self._alive()
        return super().wait(timeout)


def _stop() -> threading.Event:
    path = os.environ.get(ALIVE_FILE_VARIABLE)
    return _StopOfTheLiving(Alive(Path(path))) if path else threading.Event()


@dataclass
class Stopping:
    """What has been received. `stop` is set by either signal."""

    stop: threading.Event = field(default_factory=_stop)
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
