"""Bounded waits."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT_SECONDS = 90.0
"""Long, since parts start slowly on a busy machine; what comes is seen at once."""
_LOOK_EVERY_SECONDS = 0.05


def until(
    condition: Callable[[], bool],
    what: str = "the condition",
    timeout_seconds: float = LIMIT_SECONDS,
    step: Callable[[], object] = lambda: time.sleep(_LOOK_EVERY_SECONDS),
) -> None:
    """Wait until the condition holds, with a step before each further look.

    Fails the test with `what` when it doesn't hold in time.
    """
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {what}, after {timeout_seconds:g} s")
        step()
