"""The rate limit that a task should have now: a pure function of plain values and the time.

    limit_qps = ready replicas x qps_per_replica x headroom, between floor and ceiling, split over the gateways

A gateway's limit falls at once. It rises slowly: by at most `max_raise` a push, one push in `raise_every_ms`, and not
for less than the deadband. Unknown is not zero: without a count of replicas or gateways the limit in force holds.

The limit is a share for each gateway since Envoy's local limit holds per Envoy; the shares never sum to more than
limit_qps. Times are epoch milliseconds, and given: nothing here reads a clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

SHORTEST_FILL_MS = 50
"""Envoy takes no shorter fill interval, and cuts an interval to whole milliseconds."""
SHORTEST_BURST_SECONDS = 0.1
"""With a shorter burst a bucket could hold less than one fill."""
UNKNOWN_REPLICAS = "the number of the task's ready replicas is unknown: the last limit holds"
UNKNOWN_GATEWAYS = "no ready gateway is known: the last limit holds"


@dataclass(frozen=True)
class Capacity:
    """What one task can serve. Rates in requests per second; ceiling_qps None: no ceiling.

    Raises ValueError for a value that isn't positive and finite, a ceiling below the floor, and a burst that is
    shorter than a bucket's fill.
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
        if self.burst_seconds < SHORTEST_BURST_SECONDS:
            raise ValueError(f"burst_seconds: {self.burst_seconds} is below {SHORTEST_BURST_SECONDS}")

    def limit_qps(self, replicas: int) -> float:
        """The limit for this number of ready replicas, between floor and ceiling; never 0."""
        wanted = max(replicas * self.qps_per_replica * self.headroom, self.floor_qps)
        return wanted if self.ceiling_qps is None else min(wanted, self.ceiling_qps)


@dataclass(frozen=True)
class Pace:
    """How slowly a limit rises. A cut is exempt from all three."""

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
class LimitInForce:
    """The newest pushed limit, and when it was pushed. `limit_qps_per_gateway` is the limit of each gateway.

    Raises ValueError for a limit that isn't positive and finite.
    """

    replicas: int
    gateways: int
    limit_qps_per_gateway: float
    burst: int
    pushed_ms: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit_qps_per_gateway) and self.limit_qps_per_gateway > 0):
            raise ValueError(f"limit_qps_per_gateway: {self.limit_qps_per_gateway} is not a positive number")


@dataclass(frozen=True)
class Push:
    """A limit to push now. `limit_qps` is the limit of all gateways together."""

    replicas: int
    gateways: int
    limit_qps: float
    limit_qps_per_gateway: float
    burst: int
    reason: str


@dataclass(frozen=True)
class Hold:
    """Nothing to push. until_ms: when to decide again though no event arrives; None: only an event can change it."""

    reason: str
    until_ms: int | None = None


def decide(
    capacity: Capacity,
    pace: Pace,
    in_force: LimitInForce | None,
    *,
    replicas: int | None,
    gateways: int | None,
    now_ms: int,
) -> Push | Hold:
    """The limit to push now, or why none is pushed.

    replicas: the number of ready ones, None where unknown. gateways: the number of ready ones, None or 0 where unknown.
    Raises ValueError for negative counts.
    """
    if (replicas or 0) < 0 or (gateways or 0) < 0:
        raise ValueError(f"{replicas} replicas, {gateways} gateways: a count must not be negative")
    if replicas is None or not gateways:
        return Hold(UNKNOWN_REPLICAS if replicas is None else UNKNOWN_GATEWAYS)
    target = capacity.limit_qps(replicas) / gateways
    if in_force is None:
        return _push(capacity, replicas, gateways, target, "first limit")
    current = in_force.limit_qps_per_gateway
    if target < current:
        return _push(capacity, replicas, gateways, target, f"cut from {current:g} to {target:g} a gateway")
    if reason := _other_change(capacity, in_force, replicas, gateways, target):
        return _push(capacity, replicas, gateways, current, reason)
    wait = _wait(pace, in_force, target, now_ms)
    return wait or _raise(capacity, pace, in_force, replicas, gateways, target)


def _other_change(
    capacity: Capacity, in_force: LimitInForce, replicas: int, gateways: int, target: float
) -> str | None:
    """Why the same limit has to be pushed again: another burst, or other counts; None where nothing differs."""
    current = in_force.limit_qps_per_gateway
    if burst_of(capacity.burst_seconds, current) != in_force.burst:
        return f"burst_seconds is now {capacity.burst_seconds:g}"
    if target == current and (replicas, gateways) != (in_force.replicas, in_force.gateways):
        return f"still {current:g} a gateway, for {replicas} replicas and {gateways} gateways"
    return None


def _wait(pace: Pace, in_force: LimitInForce, target: float, now_ms: int) -> Hold | None:
    """Why nothing is raised now; None where a raise is due."""
    current = in_force.limit_qps_per_gateway
    if target == current:
        return Hold("the limit is up to date")
    if target - current < pace.deadband * current:
        return Hold(f"a raise from {current:g} to {target:g} is within the deadband of {pace.deadband:.0%}")
    may_raise_ms = in_force.pushed_ms + pace.raise_every_ms
    if now_ms < may_raise_ms:
        seconds = pace.raise_every_ms / 1000
        return Hold(f"a raise to {target:g} waits: at most one push in {seconds:g} s", may_raise_ms)
    return None


def _raise(
    capacity: Capacity, pace: Pace, in_force: LimitInForce, replicas: int, gateways: int, target: float
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
    """The number of requests that a full bucket admits at once: a whole number, at least 1."""
    return max(1, math.floor(burst_seconds * limit_qps))


@dataclass(frozen=True)
class TokenBucket:
    """Envoy's token bucket: each interval adds `tokens_per_fill` tokens, up to `max_tokens`."""

    max_tokens: int
    tokens_per_fill: int
    fill_interval_ms: int

    @property
    def qps(self) -> float:
        """The rate that it admits in the long run."""
        return self.tokens_per_fill * 1000 / self.fill_interval_ms


_CLOSE = 0.999
_TRIED = 1000


@lru_cache(maxsize=65_536)
def token_bucket(limit_qps: float, burst: int) -> TokenBucket:
    """The bucket for a limit: it never admits more, and at most 0.2 % less; 2 % with a burst of under a second.

    Tokens and milliseconds are whole, so it is the shortest fill that comes close enough, or else the closest one.

    Raises ValueError for a limit that isn't positive and finite, and for a burst of less than one fill.
    """
    if not (math.isfinite(limit_qps) and limit_qps > 0):
        raise ValueError(f"a limit of {limit_qps} qps: it must be positive")
    fewest = max(1, math.ceil(limit_qps * SHORTEST_FILL_MS / 1000))
    if burst < fewest:
        raise ValueError(f"a burst of {burst} at {limit_qps} qps: it must hold one fill, {fewest}")
    most = min(burst, max(fewest, math.floor(limit_qps)), fewest + _TRIED)
    tried = [
        TokenBucket(burst, tokens, math.ceil(tokens * 1000 / limit_qps)) for tokens in range(fewest, most + 1)
    ]
    closest = max(tried, key=lambda bucket: bucket.qps)
    return next((bucket for bucket in tried if bucket.qps >= limit_qps * _CLOSE), closest)
