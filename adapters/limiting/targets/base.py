"""The interface of a rate-limit target: put limits in force at a gateway, and report the limits in force.

A target compares revisions itself, so that two controllers can't undo each other's work: a task's limit is replaced
only by a higher revision, or by an equal limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.schemas.catalog import Gateway


class TargetFailed(Exception):
    """The target could not be read or written as a whole. The message names the fault, its place and the remedy.

    retry_after_seconds: the target's own Retry-After; None if it gave none.
    """

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class Refused:
    """A limit that the target rejected.

    revision: the target's own, if it is newer (the writer is out of date); None for any other reason.
    """

    reason: str
    revision: int | None = None


class Target(Protocol):
    """A place that enforces limits. Methods may block; one thread for each gateway calls them."""

    @property
    def name(self) -> str:
        """The name in the rows: `envoy-file`, `kubernetes`, `http`."""

    def use_gateways(self, gateways: Mapping[str, Gateway]) -> None:
        """Use these gateways of the catalog from now on."""

    def read(self, gateway: str) -> Mapping[TaskKey, Limit]:
        """The limits in force, as the gateway itself reports them.

        An edited limit is reported as it is; a limit without tidegate's marks is left out.
        Raises TargetFailed.
        """

    def write(self, gateway: str, limits: Iterable[Limit]) -> Mapping[TaskKey, Refused]:
        """Write these limits, and leave all others alone. Returns the rejected ones.

        A written limit need not be in force yet: `read` reports that. Raises TargetFailed.
        """
