"""Bounded waits."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT_SECONDS = 30.0


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fails the test when it doesn't within LIMIT_SECONDS."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {LIMIT_SECONDS} s")
        time.sleep(0.02)
