"""Workers that write limits to the gateways, one thread each, so that an unavailable gateway delays no other."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from tidegate.adapters.backoff import Backoff
from tidegate.adapters.limiting.targets.base import Refused, Target, TargetFailed
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey

_LOG = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.2, 0.5, 0.5, 0.5)
"""The delays between the reads that verify a write: Envoy takes milliseconds, istiod up to two seconds."""
_SHORTEST_REST_SECONDS = 1.0
_MOST_TOKENS = 2**32 - 1
_TOO_LARGE = Refused(
    f"Envoy accepts buckets of at most {_MOST_TOKENS} tokens; lower the task's qps_per_replica or "
    "burst_seconds, or set a ceiling_qps"
)


@dataclass(frozen=True)
class LimitsRead:
    """The limits that a gateway has in force."""

    gateway: str
    limits: Mapping[TaskKey, Limit]
    at_ms: int


@dataclass(frozen=True)
class LimitRejected:
    """A limit that a gateway rejected. newer: the gateway's revision, if that is the reason."""

    key: TaskKey
    revision: int
    reason: str
    newer: int | None
    at_ms: int


@dataclass(frozen=True)
class GatewayFailed:
    """A gateway that could not be read or written."""

    gateway: str
    reason: str
    at_ms: int


Result = LimitsRead | LimitRejected | GatewayFailed


@dataclass(frozen=True)
class WorkerTiming:
    """The intervals of a worker. reconcile_seconds: between two reads while nothing changes."""

    reconcile_seconds: float
    backoff: Backoff


class GatewayWorker:
    """Reconciles one gateway with its newest limits. `want` never blocks, and replaces limits not yet written."""

    def __init__(
        self,
        target: Target,
        gateway: str,
        timing: WorkerTiming,
        results: SimpleQueue[Result],
        clock_ms: Callable[[], int],
    ) -> None:
        self._target = target
        self._gateway = gateway
        self._timing = timing
        self._results = results
        self._clock_ms = clock_ms
        self._condition = threading.Condition()
        self._wanted: Sequence[Limit] = ()
        self._new = False
        self._look = True
        self._stopped = False
        self._refusals = 0
        self._thread = threading.Thread(target=self._run, name=f"limits of {gateway}", daemon=True)

    def start(self) -> None:
        """Start, with a read of the limits in force."""
        self._thread.start()

    def want(self, limits: Sequence[Limit]) -> None:
        """Set the limits to put in force, in this order."""
        with self._condition:
            if list(limits) != list(self._wanted):
                self._wanted, self._new = tuple(limits), True
                self._condition.notify()

    def look(self) -> None:
        """Read and report the limits in force soon."""
        with self._condition:
            self._look = True
            self._condition.notify()

    def stop(self) -> None:
        """Stop: no further write."""
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def join(self, timeout_seconds: float) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        failures = 0
        while True:
            wanted = self._next(failures)
            if wanted is None:
                return
            try:
                if wanted:
                    self._put(wanted)
                else:
                    self._report_limits()
                failures = 0
            except TargetFailed as error:
                failures += 1
                self._report_failure(str(error))
                self._rest(self._pause(failures, error.retry_after_seconds))
            except Exception as error:  # a bug in a target must not end the thread silently
                failures += 1
                _LOG.exception("gateway %s", self._gateway)
                self._report_failure(f"unexpected: {type(error).__name__}: {error}")
                self._rest(self._delay(failures))

    def _next(self, failures: int) -> Sequence[Limit] | None:
        """The limits to put in force next; empty: only read; None: stop."""
        with self._condition:
            seconds = self._timing.reconcile_seconds
            if self._refusals:
                seconds = min(seconds, self._delay(self._refusals))
            if not failures:
                self._condition.wait_for(lambda: self._stopped or self._new or self._look, seconds)
            if self._stopped:
                return None
            self._new = self._look = False
            return self._wanted

    def _put(self, wanted: Sequence[Limit]) -> None:
        # Envoy rejects a whole configuration for one such limit, and with it the changes of all other tasks.
        refused = {limit.key: _TOO_LARGE for limit in wanted if _largest(limit) > _MOST_TOKENS}
        refused |= self._target.write(self._gateway, [one for one in wanted if one.key not in refused])
        now_ms = self._clock_ms()
        self._refusals = self._refusals + 1 if refused else 0
        for limit in wanted:
            if refusal := refused.get(limit.key):
                self._results.put(
                    LimitRejected(limit.key, limit.revision, refusal.reason, refusal.revision, now_ms)
                )
        taken = [limit for limit in wanted if limit.key not in refused]
        for seconds in _LOOK_AGAIN_SECONDS:
            found = self._report_limits()
            if all(found.get(limit.key) == limit for limit in taken):
                return
            with self._condition:
                if self._new or self._stopped:
                    return
                self._condition.wait(seconds)
        raise TargetFailed(
            f"gateway {self._gateway!r} accepted the limits, but not all of them are in force after "
            f"{sum(_LOOK_AGAIN_SECONDS):.1f} s"
        )

    def _report_limits(self) -> Mapping[TaskKey, Limit]:
        found = self._target.read(self._gateway)
        self._results.put(LimitsRead(self._gateway, found, self._clock_ms()))
        return found

    def _report_failure(self, reason: str) -> None:
        self._results.put(GatewayFailed(self._gateway, reason, self._clock_ms()))

    def _delay(self, failures: int) -> float:
        return self._timing.backoff.delay(failures, random.random())  # noqa: S311 (no secret)

    def _pause(self, failures: int, asked_seconds: float | None) -> float:
        """The backoff's delay, or the target's Retry-After if longer, up to the backoff's maximum."""
        return max(self._delay(failures), min(asked_seconds or 0.0, self._timing.backoff.maximum_seconds))

    def _rest(self, seconds: float) -> None:
        """Wait before the next attempt. New limits end the wait, but not before _SHORTEST_REST_SECONDS."""
        shortest = min(seconds, _SHORTEST_REST_SECONDS)
        with self._condition:
            self._condition.wait_for(lambda: self._stopped, shortest)
            self._condition.wait_for(lambda: self._stopped or self._new, seconds - shortest)


def _largest(limit: Limit) -> int:
    """The largest number of tokens of its buckets."""
    buckets = [limit.bucket, *limit.clients.values(), *([limit.client] if limit.client else [])]
    return max(max(bucket.max_tokens, bucket.tokens_per_fill) for bucket in buckets)
