"""What a task's rate limit should be now: the decision, as a pure function of plain values and the time.

    limit_qps = ready replicas x qps_per_replica x headroom, between floor and ceiling, split over the gateways

A gateway's limit falls at once. It rises slowly: by at most `max_raise` a push, one push in `raise_every_ms`, and not
for less than the deadband. What isn't known is not zero: without replicas or gateways the limit in force holds.

The limit is a share for each gateway since Envoy's local limit holds per Envoy; the shares never sum to more than
limit_qps. Times are epoch milliseconds, and given: nothing here reads a clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

NANOSECONDS = 1_000_000_000
FILLS_PER_SECOND = 10
"""A bucket is filled at most so often: often, so that it admits evenly, and no more often than Envoy takes (20)."""


@dataclass(frozen=True)
class Capacity:
    """What one task can take. Rates in requests per second; ceiling_qps None: no ceiling.

    Raises ValueError for what would be no limit, or a wrong one: anything not positive and finite, a ceiling below the
    floor, a burst that is shorter than a bucket's fill.
    """

    qps_per_replica: float
    headroom: float = 1.0
    floor_qps: float = 1.0
    ceiling_qps: float | None = None
    burst_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in ("qps_per_replica", "headroom", "floor_qps", "ceiling_qps", "burst_seconds"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: {value} is not a positive number")
        if self.ceiling_qps is not None and self.ceiling_qps < self.floor_qps:
            raise ValueError(f"ceiling_qps: {self.ceiling_qps} is below floor_qps, {self.floor_qps}")
        if self.burst_seconds * FILLS_PER_SECOND < 1:
            raise ValueError(
                f"burst_seconds: {self.burst_seconds} is below {1 / FILLS_PER_SECOND}, a bucket's fill"
            )

    def limit_qps(self, replicas: int) -> float:
        """The limit for so many ready replicas: the floor where there is none, never 0."""
        wanted = max(replicas * self.qps_per_replica * self.headroom, self.floor_qps)
        return wanted if self.ceiling_qps is None else min(wanted, self.ceiling_qps)


@dataclass(frozen=True)
class Pace:
    """How slowly a limit rises. A fall is exempt from all three."""

    max_raise: float = 2.0
    raise_every_ms: int = 10_000
    deadband: float = 0.05

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_raise) and self.max_raise > 1):
            raise ValueError(f"max_raise: {self.max_raise} would never raise a limit; give more than 1")
        if self.raise_every_ms < 0:
            raise ValueError(f"raise_every_ms: {self.raise_every_ms} is negative")
        if not 0 <= self.deadband < 1:
            raise ValueError(f"deadband: {self.deadband} is not from 0 to below 1")


@dataclass(frozen=True)
class InForce:
    """The newest limit that was pushed, and when. `limit_qps_per_gateway` is what each gateway holds."""

    limit_qps_per_gateway: float
    pushed_ms: int


@dataclass(frozen=True)
class Push:
    """A limit to push now. `limit_qps` is what all gateways admit together."""

    replicas: int
    gateways: int
    limit_qps: float
    limit_qps_per_gateway: float
    burst: int
    reason: str


@dataclass(frozen=True)
class Hold:
    """Nothing to push. until_ms: when it is worth to look again though nothing else happens; None: never."""

    reason: str
    until_ms: int | None = None


def decide(
    capacity: Capacity,
    pace: Pace,
    in_force: InForce | None,
    *,
    replicas: int | None,
    gateways: int | None,
    now_ms: int,
) -> Push | Hold:
    """What to push now, or why nothing.

    replicas: ready ones; None where nothing is known of them. gateways: ready ones; None or 0 where none is known.
    Raises ValueError for negative counts.
    """
    if (replicas or 0) < 0 or (gateways or 0) < 0:
        raise ValueError(f"{replicas} replicas, {gateways} gateways: there can't be fewer than none")
    if replicas is None:
        return Hold("no data of the task's replicas: the last limit holds")
    if not gateways:
        return Hold("no ready gateway is known: the last limit holds")
    target = capacity.limit_qps(replicas) / gateways
    if in_force is None:
        return _push(capacity, replicas, gateways, target, "first limit")
    if target < in_force.limit_qps_per_gateway:
        reason = f"cut from {in_force.limit_qps_per_gateway:g} to {target:g} a gateway"
        return _push(capacity, replicas, gateways, target, reason)
    wait = _wait(pace, in_force, target, now_ms)
    return wait or _raise(capacity, pace, in_force, replicas, gateways, target)


def _wait(pace: Pace, in_force: InForce, target: float, now_ms: int) -> Hold | None:
    """Why a raise, or none, is not for now; None where it is."""
    current = in_force.limit_qps_per_gateway
    if target == current:
        return Hold("the limit is what it should be")
    if target - current < pace.deadband * current:
        return Hold(f"a raise from {current:g} to {target:g} is within the deadband of {pace.deadband:.0%}")
    may_raise_ms = in_force.pushed_ms + pace.raise_every_ms
    if now_ms < may_raise_ms:
        seconds = pace.raise_every_ms / 1000
        return Hold(f"a raise to {target:g} waits: one push in {seconds:g} s", may_raise_ms)
    return None


def _raise(
    capacity: Capacity, pace: Pace, in_force: InForce, replicas: int, gateways: int, target: float
) -> Push:
    current = in_force.limit_qps_per_gateway
    step = min(target, current * pace.max_raise)
    on_the_way = "" if step == target else f" on the way to {target:g}"
    reason = f"raise from {current:g} to {step:g} a gateway{on_the_way}"
    return _push(capacity, replicas, gateways, step, reason)


def _push(capacity: Capacity, replicas: int, gateways: int, per_gateway: float, reason: str) -> Push:
    return Push(
        replicas=replicas,
        gateways=gateways,
        limit_qps=per_gateway * gateways,
        limit_qps_per_gateway=per_gateway,
        burst=burst_of(capacity.burst_seconds, per_gateway),
        reason=reason,
    )


def burst_of(burst_seconds: float, limit_qps: float) -> int:
    """How many requests a full bucket lets through at once: whole ones, at least 1."""
    return max(1, math.floor(burst_seconds * limit_qps))


@dataclass(frozen=True)
class TokenBucket:
    """Envoy's token bucket: so many tokens are added in each interval, up to the most that it holds."""

    max_tokens: int
    tokens_per_fill: int
    fill_interval_ns: int

    @property
    def qps(self) -> float:
        """What it admits in the long run."""
        return self.tokens_per_fill * NANOSECONDS / self.fill_interval_ns


def token_bucket(limit_qps: float, burst: int) -> TokenBucket:
    """The bucket for a limit. It admits at most the limit, and less by at most one part in 10^7.

    Tokens are whole, so a limit that isn't is made by the interval, which is rounded up to whole nanoseconds.

    Raises ValueError for what is no limit, and for a burst that is less than one fill.
    """
    if not (math.isfinite(limit_qps) and limit_qps > 0):
        raise ValueError(f"a limit of {limit_qps} qps: it must be positive")
    tokens = max(1, math.floor(limit_qps / FILLS_PER_SECOND))
    if burst < tokens:
        raise ValueError(f"a burst of {burst} at {limit_qps} qps: it must hold one fill, {tokens}")
    return TokenBucket(burst, tokens, math.ceil(tokens * NANOSECONDS / limit_qps))
