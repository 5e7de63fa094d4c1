"""The learned capacity of a task's replica: the highest load that it sustained for some minutes within the SLO.

A minute counts if it had enough requests and its p99 and error rate were within the SLO. Of every run of `minutes` such
minutes without a gap, the lowest load was sustained; the highest of these is the learned capacity. So a single lucky
minute has no effect, and a minute outside the SLO ends the run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MINUTE_MS = 60_000
ENOUGH_REQUESTS = 100
"""The minimum of requests in a minute: with fewer, a single request determines the p99."""


@dataclass(frozen=True)
class Minute:
    """A minute of a task. admitted: requests that were not rate limited; replicas: those that answered."""

    start_ms: int
    admitted: int
    replicas: int
    latency_count: int
    p99_ms: float | None
    error_rate: float

    @property
    def qps_per_replica(self) -> float:
        """Admitted requests per second and replica."""
        return self.admitted / 60 / self.replicas


@dataclass(frozen=True)
class Promise:
    """The SLO: p99 in ms, and the ratio of requests that may fail (None: no objective)."""

    p99_ms: float
    error_rate: float | None = None


@dataclass(frozen=True)
class Learned:
    """The learned capacity. run: the minutes of the current run, oldest first, as many as are needed."""

    promise: Promise | None = None
    run: tuple[Minute, ...] = ()
    qps_per_replica: float | None = None
    held_until_ms: int | None = None


def learn(known: Learned, minute: Minute, promise: Promise | None, minutes: int) -> Learned:
    """The capacity after one more minute. Another SLO starts over; a minute that isn't newer is ignored."""
    if promise != known.promise:
        known = Learned(promise)
    if promise is None or (known.run and minute.start_ms <= known.run[-1].start_ms):
        return known
    if not _kept(minute, promise):
        return replace(known, run=())
    goes_on = known.run and minute.start_ms == known.run[-1].start_ms + MINUTE_MS
    run = (*(known.run if goes_on else ()), minute)[-minutes:]
    known = replace(known, run=run)
    if len(run) < minutes:
        return known
    held = min(one.qps_per_replica for one in run)
    if known.qps_per_replica is None or held > known.qps_per_replica:
        return replace(known, qps_per_replica=held, held_until_ms=minute.start_ms + MINUTE_MS)
    return known


def _kept(minute: Minute, promise: Promise) -> bool:
    return (
        minute.replicas > 0
        and minute.latency_count >= ENOUGH_REQUESTS
        and minute.p99_ms is not None
        and minute.p99_ms <= promise.p99_ms
        and (promise.error_rate is None or minute.error_rate <= promise.error_rate)
    )
