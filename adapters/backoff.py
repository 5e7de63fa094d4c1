"""How long to wait before the next try."""

from __future__ import annotations

from dataclasses import dataclass

_MAX_DOUBLINGS = 32


@dataclass(frozen=True)
class Backoff:
    """Exponential with jitter: between half of and the whole initial time, doubled with each failure.

    The half that is random keeps instances that failed together from coming back together; the half that
    isn't keeps every one of them off a server that is down.
    """

    initial_seconds: float
    maximum_seconds: float

    def delay(self, failures: int, chance: float) -> float:
        """Seconds to wait after this many failures in a row (from 1). `chance`: a random number in [0, 1)."""
        doublings = min(max(failures, 1) - 1, _MAX_DOUBLINGS)
        longest: float = min(self.initial_seconds * 2.0**doublings, self.maximum_seconds)
        return longest / 2 + longest / 2 * chance
