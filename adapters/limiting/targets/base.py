"""What the rate-limit controller asks of a gateway: hold these limits, and say which ones are in force.

A target compares revisions itself, so that two controllers can't undo each other's work: what it holds of a task is
replaced only by a higher revision, or by exactly what it holds already.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.schemas.catalog import Gateway


class TargetFailed(Exception):
    """The target could not be read or written as a whole. The message says what, where, and what to do.

    retry_after_seconds: what the target itself asked for; None where it didn't say.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class Refused:
    """A limit that the target didn't take.

    revision: what it holds, where that is newer (the writer is out of date); None for another reason.
    """

    reason: str
    revision: int | None = None


class Target(Protocol):
    """Where limits are enforced. Implementations may block; each is used by one thread for each gateway."""

    @property
    def name(self) -> str:
        """As in the rows: `envoy-file`, `kubernetes`, `http`."""

    def use_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        """From now on these gateways, as the catalog says."""

    def read(self, gateway: str) -> Mapping[TaskKey, Limit]:
        """The limits in force, as the gateway itself says.

        A limit that somebody has edited is told as it is; one without our marks is left out.
        Raises TargetFailed.
        """

    def write(self, gateway: str, limits: Iterable[Limit]) -> Mapping[TaskKey, Refused]:
        """Put these limits in force, and leave all others alone. Returns those that were refused.

        It returning doesn't mean that they are in force: `read` says so. Raises TargetFailed.
        """
