"""A pushed limit, and what a gateway's Envoys have to hold for it."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.jobs.logic.limits.rate_limits import LimitInForce, Push, TokenBucket, burst_of, token_bucket
from tidegate.schemas.catalog import Task

MIN_CLIENT_QPS = 0.01
"""The least limit of a client on one gateway."""


@dataclass(frozen=True)
class PushedLimit:
    """A limit that is under way to the target, or in force. applied_ms: when it was read back."""

    push: Push
    limit: Limit
    change_id: str | None
    decided_ms: int
    applied_ms: int | None = None

    def in_force(self) -> LimitInForce:
        """The limit as `rate_limits.decide` takes it."""
        push = self.push
        return LimitInForce(
            push.replicas,
            push.gateways,
            push.limit_qps_per_gateway,
            push.burst,
            self.decided_ms if self.applied_ms is None else self.applied_ms,
        )

    def is_above(self, other: PushedLimit | None) -> bool:
        """Whether each gateway admits more than with the other limit; False without another."""
        return other is not None and self.push.limit_qps_per_gateway > other.push.limit_qps_per_gateway


def key_of(task: Task) -> TaskKey:
    """The key of a catalog's task."""
    return TaskKey(task.department, task.name)


def limit_of(task: Task, push: Push, revision: int) -> Limit:
    """The push as the task's route holds it, with the limits of the task's clients."""

    def share(qps: float) -> float:
        return max(qps / push.gateways, MIN_CLIENT_QPS)

    def bucket(qps: float) -> TokenBucket:
        return token_bucket(share(qps), burst_of(task.burst_seconds, share(qps)))

    clients = task.clients
    return Limit(
        key=key_of(task),
        route=task.route,
        revision=revision,
        bucket=token_bucket(push.limit_qps_per_gateway, push.burst),
        client=None if clients.limit_qps is None else bucket(clients.limit_qps),
        clients={name: bucket(qps) for name, qps in clients.named.items()},
    )


def catalog_difference(task: Task, pushed: PushedLimit) -> str | None:
    """Which part of the catalog's entry, the route or the clients, the pushed limit lacks; None where it has both."""
    wanted = limit_of(task, pushed.push, pushed.limit.revision)
    if wanted.route != pushed.limit.route:
        return f"route is now {wanted.route!r}"
    if (wanted.client, wanted.clients) != (pushed.limit.client, pushed.limit.clients):
        return "the limits of its clients have changed"
    return None


def drift_of(found: Limit | None, applied: PushedLimit) -> str | None:
    """How the target's limit differs from the one in force; None where it doesn't."""
    if found == applied.limit:
        return None
    if found is None:
        return f"drift: the limit of revision {applied.limit.revision} was gone, or edited beyond its rates"
    if found.revision != applied.limit.revision:
        return f"drift: the target held revision {found.revision} instead of {applied.limit.revision}"
    return (
        f"drift: the limit was changed by hand to {found.bucket.qps:g} qps, burst {found.bucket.max_tokens}, "
        "or its clients"
    )
