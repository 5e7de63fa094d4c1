"""Carries limits to the gateways, a thread for each, so that one gateway that is away holds up no other."""

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
"""After a write, when to look whether it is in force: Envoy takes some milliseconds, istiod up to a second or two."""
_SHORTEST_REST_SECONDS = 1.0
_MOST_TOKENS = 2**32 - 1
_TOO_LARGE = Refused(
    f"a bucket of more than {_MOST_TOKENS} tokens is none for Envoy; lower the task's qps_per_replica or "
    "burst_seconds, or give it a ceiling_qps"
)


@dataclass(frozen=True)
class LimitsRead:
    """What a gateway holds."""

    gateway: str
    limits: Mapping[TaskKey, Limit]
    at_ms: int


@dataclass(frozen=True)
class LimitRejected:
    """A limit that a gateway refused. newer: the revision that it has, where that is why."""

    key: TaskKey
    revision: int
    reason: str
    newer: int | None
    at_ms: int


@dataclass(frozen=True)
class GatewayFailed:
    """A gateway that could be neither written nor read."""

    gateway: str
    reason: str
    at_ms: int


Result = LimitsRead | LimitRejected | GatewayFailed


@dataclass(frozen=True)
class WorkerTiming:
    """reconcile_seconds: how often what is in force is looked at though nothing is to be done."""

    reconcile_seconds: float
    backoff: Backoff


class GatewayWorker:
    """Keeps one gateway at its newest limits. `want` never waits; an older wish not yet carried out is forgotten."""

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
        """Begin, with a look at what is in force."""
        self._thread.start()

    def want(self, limits: Sequence[Limit]) -> None:
        """From now on these limits are to be put in force, the first ones first."""
        with self._condition:
            if list(limits) != list(self._wanted):
                self._wanted, self._new = tuple(limits), True
                self._condition.notify()

    def look(self) -> None:
        """Say soon what is in force."""
        with self._condition:
            self._look = True
            self._condition.notify()

    def stop(self) -> None:
        """No further write."""
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
            except Exception as error:  # a defect of a target must not end the thread in silence
                failures += 1
                _LOG.exception("gateway %s", self._gateway)
                self._report_failure(f"unexpected: {type(error).__name__}: {error}")
                self._rest(self._delay(failures))

    def _next(self, failures: int) -> Sequence[Limit] | None:
        """What to put in force next; nothing: only to look; None: to end."""
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
        # Envoy refuses a configuration with one such limit as a whole, and with it all other tasks' changes.
        refused = {limit.key: _TOO_LARGE for limit in wanted if _largest(limit) > _MOST_TOKENS}
        refused |= self._target.write(self._gateway, [one for one in wanted if one.key not in refused])
        now_ms = self._clock_ms()
        self._refusals = self._refusals + 1 if refused else 0
        for limit in wanted:
            if no := refused.get(limit.key):
                self._results.put(LimitRejected(limit.key, limit.revision, no.reason, no.revision, now_ms))
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
            f"gateway {self._gateway!r} took the limits, but doesn't have all of them in force after "
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
        """As long as the target asked for, where that is longer; it can't ask for more than our own longest one."""
        return max(self._delay(failures), min(asked_seconds or 0.0, self._timing.backoff.maximum_seconds))

    def _rest(self, seconds: float) -> None:
        """Before the next try. A new wish ends it, but not before _SHORTEST_REST_SECONDS: no storm."""
        shortest = min(seconds, _SHORTEST_REST_SECONDS)
        with self._condition:
            self._condition.wait_for(lambda: self._stopped, shortest)
            self._condition.wait_for(lambda: self._stopped or self._new, seconds - shortest)


def _largest(limit: Limit) -> int:
    """Of its numbers of tokens."""
    buckets = [limit.bucket, *limit.clients.values(), *([limit.client] if limit.client else [])]
    return max(max(bucket.max_tokens, bucket.tokens_per_fill) for bucket in buckets)
