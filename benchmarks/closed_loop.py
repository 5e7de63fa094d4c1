"""From a replica's readiness to the limit in force, over many changes, on the whole loop of real parts.

    python -m benchmarks.closed_loop [--changes N] [--envoys 1|2] [--flapping-seconds N]

One task behind a real Envoy whose health checks are the source; watcher, job replica-changes on Flink, controller,
route file, Envoy's own word that it holds the limit. Load runs all the while at more than the capacity. The floor of a
change is its de-jitter window: no loop can be faster. The controller's and the watcher's clocks are this machine's.
Then one replica's readiness flaps every three seconds, and what settles and is pushed is counted.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from benchmarks.live import servers
from benchmarks.loop import QPS_PER_REPLICA, REPLICAS, Load, Loop, closed_loop
from tests.support.waiting import until
from tidegate.schemas.rows.limits import RateLimitRow

_FEWEST, _MOST = 2, 6
_FLAP_EVERY_SECONDS = 3.0


@dataclass(frozen=True)
class Measured:
    """One change. Moments are epoch seconds; seen_at: the first answer that shows it to a client, if any."""

    before: int
    after: int
    changed_at: float
    first_seen_at: float
    settled_at: float
    decided_at: float
    applied_at: float
    admitted_qps: float
    limit_qps: float

    @property
    def is_cut(self) -> bool:
        """Whether it lowered the limit."""
        return self.after < self.before


def main() -> None:
    """Play the changes, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--envoys", type=int, choices=(1, 2), default=1)
    parser.add_argument("--flapping-seconds", type=int, default=120)
    arguments = parser.parse_args()
    with servers("kafka", "flink-jobmanager", "flink-taskmanager") as stack:
        settings = stack.settings
        with closed_loop(settings.kafka, settings.flink.rest_address, envoys=arguments.envoys) as loop:
            measured = _play(loop, arguments.changes)
            pushes = len(_decided(loop))
            _report(measured, pushes)
            _flap(loop, arguments.flapping_seconds)


def _play(loop: Loop, changes: int) -> list[Measured]:
    dice = random.Random(7)
    ready, measured = 4, []
    load_qps = 1.5 * QPS_PER_REPLICA * _MOST
    with Load(loop.ports(), load_qps) as load:
        loop.director.join(*REPLICAS[4:_MOST])  # listed, and not ready
        time.sleep(2)
        for number in range(changes):
            after = dice.choice([count for count in range(_FEWEST, _MOST + 1) if count != ready])
            changed_at = time.time()
            loop.director.set_ready(*REPLICAS[:after])
            limit_qps = after * QPS_PER_REPLICA
            until(_holds(loop, limit_qps), f"change {number + 1}: {limit_qps:g} qps", 90)
            applied = time.time()
            # A new bucket begins full, with a second's worth; then the rate shows.
            time.sleep(4)
            admitted_qps = load.admitted_qps(applied + 1.5, applied + 4)
            measured.append(_measured(loop, ready, after, changed_at, admitted_qps))
            print(_line(number + 1, measured[-1]), flush=True)
            ready = after
    return measured


def _flap(loop: Loop, seconds: int) -> None:
    """One of four replicas comes and goes; the safe limit is that of three."""
    loop.director.set_ready(*REPLICAS[:4])
    until(_holds(loop, 4 * QPS_PER_REPLICA), "four replicas before the flapping", 90)
    settled, pushed = len(loop.changes()), len(_decided(loop))
    flaps = max(1, round(seconds / _FLAP_EVERY_SECONDS))
    for flap in range(flaps):
        loop.director.set_ready(*REPLICAS[: 3 if flap % 2 == 0 else 4])
        time.sleep(_FLAP_EVERY_SECONDS)
    limits = [row.limit_qps for row in _decided(loop)[pushed:]]
    print(
        f"{flaps} moves of one in four replicas in {seconds} s: {len(loop.changes()) - settled} changes settled, "
        f"{len(limits)} pushes: {', '.join(f'{limit:g}' for limit in limits if limit is not None)} qps"
    )


def _decided(loop: Loop) -> list[RateLimitRow]:
    return [row for row in loop.limits() if row.state == "decided"]


def _holds(loop: Loop, limit_qps: float) -> Callable[[], bool]:
    def holds() -> bool:
        found = loop.in_force()
        return found is not None and round(found.bucket.qps * loop.envoys, 3) == limit_qps

    return holds


def _measured(loop: Loop, before: int, after: int, changed_at: float, admitted_qps: float) -> Measured:
    change = loop.changes()[-1]
    row = next(row for row in reversed(loop.limits()) if row.state == "applied")
    if row.applied_at is None or row.limit_qps is None or row.replicas != after:
        raise SystemExit(f"the newest applied limit is not of this change: {row}")
    return Measured(
        before=before,
        after=after,
        changed_at=changed_at,
        first_seen_at=_seconds(change.first_seen_at),
        settled_at=_seconds(change.settled_at),
        decided_at=_seconds(row.decided_at),
        applied_at=_seconds(row.applied_at),
        admitted_qps=admitted_qps,
        limit_qps=row.limit_qps,
    )


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


def _line(number: int, one: Measured) -> str:
    return (
        f"{number:3}  {one.before} -> {one.after}  readiness to applied {one.applied_at - one.first_seen_at:6.2f} s"
        f"  admitted {one.admitted_qps / one.limit_qps:6.1%} of {one.limit_qps:g} qps"
    )


def _report(measured: Sequence[Measured], pushes: int) -> None:
    print(f"{len(measured)} changes, {pushes} pushes")
    print(f"{'seconds':48}{'p50':>8}{'p95':>8}{'max':>8}")
    for what, some in (
        ("cut", [one for one in measured if one.is_cut]),
        ("raise", [one for one in measured if not one.is_cut]),
    ):
        if not some:
            continue
        _figures(
            f"{what}s ({len(some)}): floor, the window", [one.settled_at - one.first_seen_at for one in some]
        )
        _figures(f"{what}s: readiness to applied", [one.applied_at - one.first_seen_at for one in some])
        _figures(f"{what}s: settled to decided", [one.decided_at - one.settled_at for one in some])
        _figures(f"{what}s: decided to applied", [one.applied_at - one.decided_at for one in some])
        _figures(
            f"{what}s: replica's own change to applied", [one.applied_at - one.changed_at for one in some]
        )
    ratios = [one.admitted_qps / one.limit_qps for one in measured]
    print(
        f"admitted / limit, 1.5 s to 4 s after: median {statistics.median(ratios):.3f}, "
        f"from {min(ratios):.3f} to {max(ratios):.3f}"
    )


def _figures(what: str, seconds: Sequence[float]) -> None:
    ordered = sorted(seconds)
    p95 = ordered[max(1, math.ceil(0.95 * len(ordered))) - 1]
    print(f"{what:48}{statistics.median(ordered):8.2f}{p95:8.2f}{ordered[-1]:8.2f}")


if __name__ == "__main__":
    main()
