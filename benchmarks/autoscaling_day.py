"""A day of one task, scaled by tidegate's signals and by a plain HPA on CPU: SLO minutes missed, and replica hours.

    python -m benchmarks.autoscaling_day [--seed N]

The day is made up, by a seed: two humps, lunch, noise, a flash crowd of five times the load within seconds, an hour
in which the metrics' source is silent, and a replica that dies. The service is a simple one, the same for both: a
replica takes CAPACITY requests/s, CPU grows with them, and above 70 % of it p99 grows as a queue's does; a new
replica takes WARM_UP seconds. What is compared are decisions, not clusters: both act at once on what they decide.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tidegate.jobs.logic.profile.autoscaling import SignalMemory, decide
from tidegate.schemas.autoscaling_policy import AutoscalingPolicy, Schedule, Targets
from tidegate.schemas.rows.resources import TaskProfile
from tidegate.schemas.timestamps import from_epoch_ms

START_MS = 1_795_478_400_000  # 2026-11-24T00:00:00Z, a Tuesday
DAY_SECONDS = 86_400
STEP_SECONDS = 5
CAPACITY = 10.0
BASE_P99_MS, SLO_P99_MS = 200.0, 500.0
WARM_UP = 60
LEAST, MOST = 2, 80
FLASH_AT, FLASH_SECONDS = 15 * 3600, 900
SILENT_AT, SILENT_SECONDS = 9 * 3600, 3600
DEATH_AT = 13 * 3600

Scaler = Callable[["World", int], int]
"""How many replicas are wanted, at a second of the day."""


@dataclass
class World:
    """The service: replicas that are ready, those that start (when they will be ready), and what they were offered."""

    loads: list[float]
    ready: int = LEAST
    starting: list[int] = field(default_factory=list)

    def load(self, second: int, over_seconds: int) -> float:
        """Mean offered requests/s of the seconds before."""
        first = max(0, second - over_seconds)
        return sum(self.loads[first : second + 1]) / (second + 1 - first)

    def cpu(self, second: int, over_seconds: int) -> float:
        """Mean CPU of the limit: a replica at its capacity uses 90 %, and never more than all."""
        return min(1.0, 0.9 * self.load(second, over_seconds) / (CAPACITY * max(1, self.ready)))

    def p99_ms(self, second: int) -> float:
        """As of a queue: twice the service time at 85 % of the capacity, without end at all of it."""
        used = self.loads[second] / (CAPACITY * max(1, self.ready))
        if used >= 1:
            return math.inf
        return BASE_P99_MS if used <= 0.7 else BASE_P99_MS * 0.3 / (1 - used)

    def scale(self, wanted: int, second: int) -> None:
        """Act at once: newcomers warm up, the youngest leave first."""
        there = self.ready + len(self.starting)
        if wanted > there:
            self.starting += [second + WARM_UP] * (wanted - there)
        for _ in range(there - wanted):
            if self.starting:
                self.starting.pop()
            else:
                self.ready -= 1

    def tick(self, second: int) -> None:
        """Time passes: who is warm is ready; one replica dies at its hour, and is started again."""
        warm = [at for at in self.starting if at <= second]
        self.starting = [at for at in self.starting if at > second]
        self.ready += len(warm)
        if second == DEATH_AT and self.ready:
            self.ready -= 1
            self.starting.append(second + WARM_UP)


def day(seed: int) -> list[float]:
    """Offered requests/s, each second."""
    dice, noise, loads = random.Random(seed), 0.0, []
    for second in range(DAY_SECONDS):
        hour = second / 3600
        shape = (
            0.15 + 0.65 * math.exp(-0.5 * ((hour - 11) / 2.2) ** 2) + math.exp(-0.5 * ((hour - 20) / 2) ** 2)
        )
        noise = 0.98 * noise + dice.gauss(0, 0.01)
        load = 200 * shape * (1 + noise)
        if FLASH_AT <= second < FLASH_AT + FLASH_SECONDS:
            load *= 1 + 4 * min(1.0, (second - FLASH_AT) / 20)
        loads.append(max(0.0, load))
    return loads


def hpa_on_cpu() -> Scaler:
    """HPA v2: each 15 s, 70 % CPU over a minute, tolerance 0.1, 300 s down, four or 100 % up. Silence holds."""
    past: list[tuple[int, int]] = []
    grown: list[tuple[int, int]] = []

    def wanted(world: World, second: int) -> int:
        there = world.ready + len(world.starting)
        if second % 15 or SILENT_AT <= second < SILENT_AT + SILENT_SECONDS:
            return there
        raw = world.ready * world.cpu(second, 60) / 0.7
        asked = there if abs(raw / max(1, there) - 1) <= 0.1 else math.ceil(raw - 1e-9)
        past.append((second, asked))
        past[:] = [one for one in past if one[0] >= second - 300]
        highest = max(one for _, one in past)
        asked = asked if asked > there else min(there, highest)
        grown.append((second, there))
        grown[:] = [one for one in grown if one[0] >= second - 15]
        base = min(one for _, one in grown)
        return min(MOST, max(LEAST, min(asked, base + max(4, base))))

    return wanted


def tidegate(*schedules: Schedule) -> Scaler:
    """The decision itself, every five seconds, on a profile of what it would know."""
    policy = AutoscalingPolicy(
        min_replicas=LEAST,
        max_replicas=MOST,
        targets=Targets(qps_per_replica=0.7 * CAPACITY),
        schedules=list(schedules),
    )
    memory = SignalMemory()

    def wanted(world: World, second: int) -> int:
        nonlocal memory
        silent = SILENT_AT <= second < SILENT_AT + SILENT_SECONDS
        known = profile(
            second,
            replicas_ready=world.ready,
            replicas_starting=len(world.starting),
            qps=None if silent else world.load(second - 3, 60),
            qps_recent=None if silent else world.load(second - 3, 6),
        )
        signals, memory = decide(known, policy, memory, START_MS + 1000 * second, 60_000)
        if signals.desired_replicas is None:
            return world.ready + len(world.starting)
        return signals.desired_replicas

    return wanted


def profile(second: int, **known: float | None) -> TaskProfile:
    """A profile of which only this is known."""
    return TaskProfile.model_validate(
        {
            **dict.fromkeys(TaskProfile.model_fields),
            "id": "vision/chat",
            "department": "vision",
            "task": "chat",
            "computed_at": from_epoch_ms(START_MS + 1000 * second),
            "traffic_window_seconds": 60,
            "versions": (),
            "freshness": {},
            "stale_inputs": (),
            **known,
        }
    )


def played(loads: list[float], scaler: Scaler) -> tuple[int, float, int]:
    """Minutes in which p99 was over the SLO for 15 s or more, replica hours, and the most replicas at once."""
    world, missed, seconds, most, over = World(loads), 0, 0, 0, 0
    for second in range(DAY_SECONDS):
        world.tick(second)
        if second % STEP_SECONDS == 0 and second >= 3:
            world.scale(scaler(world, second), second)
        there = world.ready + len(world.starting)
        seconds, most = seconds + there, max(most, there)
        over += world.p99_ms(second) > SLO_P99_MS
        if second % 60 == 59:
            missed += over >= 15
            over = 0
    return missed, seconds / 3600, most


def main() -> None:
    """Play both, and print them side by side; the floor is as many replicas as the load needs, known beforehand."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=4)
    loads = day(parser.parse_args().seed)
    least = sum(max(LEAST, math.ceil(load / (0.88 * CAPACITY))) for load in loads) / 3600
    print(
        f"a day of {sum(loads):,.0f} requests, at most {max(loads):,.0f}/s; p99 promised: {SLO_P99_MS:.0f} ms"
    )
    print(f"floor, were the load known beforehand: 0 SLO minutes missed, {least:,.0f} replica hours")
    evening = Schedule(name="evening", begin="30 17 * * *", end="0 22 * * *", min_replicas=20)
    scalers = {
        "HPA on CPU, 70 %": hpa_on_cpu(),
        "tidegate's signals": tidegate(),
        "with a floor in the evening": tidegate(evening),
    }
    for name, scaler in scalers.items():
        missed, hours, most = played(loads, scaler)
        print(f"{name:28} {missed:4} SLO minutes missed, {hours:,.0f} replica hours, {most} replicas at most")


if __name__ == "__main__":
    main()
