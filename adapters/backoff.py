"""The delay before the next attempt."""

from __future__ import annotations

from dataclasses import dataclass

_MAX_DOUBLINGS = 32


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with jitter: half to all of the initial delay, which doubles with each failure.

    The random half spreads the retries of instances that failed together; the fixed half keeps all of them off a
    server that is down.
    """

    initial_seconds: float
    maximum_seconds: float

    def delay(self, failures: int, chance: float) -> float:
        """The delay in seconds after `failures` failures in a row (from 1). chance: a random number in [0, 1)."""
        doublings = min(max(failures, 1) - 1, _MAX_DOUBLINGS)
        longest: float = min(self.initial_seconds * 2.0**doublings, self.maximum_seconds)
        return longest / 2 + longest / 2 * chance
