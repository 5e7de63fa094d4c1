"""How many rows a second the profile's logic takes on one core: 2,000 tasks of 5 replicas, each task a row a second.

    python -m benchmarks.task_profile [--tasks N] [--seconds N]

The floor parses the same rows and does nothing with them. What is measured is the pure part, and once more with the
state packed and unpacked for each row, as it would be were the traffic part of Flink's state. Flink's own way to Python
is not in it: see benchmarks.window_jobs.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Callable, Sequence

import orjson

from tidegate.jobs.logic.profile.task_profile import TaskState
from tidegate.jobs.logic.profile.task_traffic import SecondsObserved
from tidegate.schemas.settings.signals import ProfileSettings
from tidegate.schemas.timestamps import from_epoch_ms, to_text

START_MS = 1_795_514_400_000
SETTINGS = ProfileSettings()


def row(task: int, second: int) -> bytes:
    """A task's second, with a histogram of thirty buckets."""
    start_ms = START_MS + 1000 * second
    return orjson.dumps(
        {
            "level": "task",
            "department": f"d{task % 20}",
            "task": f"t{task}",
            "version": None,
            "replica": None,
            "window_end": to_text(from_epoch_ms(start_ms + 1000)),
            "requests": 60,
            "rate_limited": 2,
            "errors_5xx": 1,
            "aborted": 0,
            "latency_count": 58,
            "latency_min_ms": 3.0,
            "latency_max_ms": 90.0,
            "histogram": {
                "scale": 5,
                "zero": 0,
                "buckets": {str(60 + 5 * index + task % 5): 2 for index in range(29)},
            },
        }
    )


def timed(rows: Sequence[tuple[int, bytes]], work: Callable[[int, bytes], None]) -> float:
    """Rows a second."""
    began = time.perf_counter()
    for task, message in rows:
        work(task, message)
    return len(rows) / (time.perf_counter() - began)


def main() -> None:
    """Measure, and print each figure beside the floor."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=20)
    chosen = parser.parse_args()
    rows = [(task, row(task, second)) for second in range(chosen.seconds) for task in range(chosen.tasks)]
    known = {task: TaskState(f"d{task % 20}", f"t{task}") for task in range(chosen.tasks)}
    packed = {task: pickle.dumps(one) for task, one in known.items()}

    def observe(task: int, message: bytes) -> None:
        known[task].observe_second(orjson.loads(message), START_MS, SETTINGS)

    def observe_packed(task: int, message: bytes) -> None:
        one: TaskState = pickle.loads(packed[task])  # noqa: S301 (our own, a moment ago)
        one.observe_second(orjson.loads(message), START_MS, SETTINGS)
        packed[task] = pickle.dumps(one)

    floor = timed(rows, lambda _, message: orjson.loads(message))
    observed, repacked = timed(rows, observe), timed(rows, observe_packed)
    end_ms = START_MS + 1000 * chosen.seconds
    seconds = SecondsObserved(settle_ms=0)
    seconds.observe(end_ms, end_ms)
    began = time.perf_counter()
    for one in known.values():
        one.profile(end_ms, seconds, SETTINGS).model_dump_json()
    profiles = chosen.tasks / (time.perf_counter() - began)
    print(f"{len(rows):,} rows of {chosen.tasks:,} tasks, {len(rows[0][1])} bytes each")
    print(f"floor, parsed only:             {floor:12,.0f} rows/s")
    print(f"observed:                       {observed:12,.0f} rows/s, {observed / floor:.2f} of the floor")
    print(f"observed, state repacked:       {repacked:12,.0f} rows/s, {repacked / floor:.2f} of the floor")
    print(f"profiles made:                  {profiles:12,.0f} per second")
    need = chosen.tasks / observed + chosen.tasks / SETTINGS.renew_seconds / profiles
    print(f"{chosen.tasks:,} tasks need {need:.0%} of a core for a row a second and a profile each 5 s")


if __name__ == "__main__":
    main()
