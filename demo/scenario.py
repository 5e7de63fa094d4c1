"""The demo's scenario: departments, tasks, versions, replicas, and their behaviour. Plain values only."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

SERVICE_PORT = 8080
"""The port in a cluster's name: as in a mesh, the service's port, not a replica's."""

LogStyle = Literal["python", "java", "json"]
"""The format of a model's log."""


@dataclass(frozen=True)
class Latency:
    """A lognormal latency: most answers near the median, a long tail to the right.

    Its 99th percentile is `median_ms * exp(2.33 * sigma)`; nothing is longer than `cap_ms`.
    """

    median_ms: float
    sigma: float = 0.45
    cap_ms: float = 8000

    def draw_ms(self, dice: random.Random) -> float:
        """One latency, in ms."""
        return min(self.median_ms * math.exp(self.sigma * dice.gauss(0, 1)), self.cap_ms)


@dataclass(frozen=True)
class Failure:
    """Periodic failures: in the first `for_seconds` of every `every_seconds`, `ratio` of the answers are 503."""

    ratio: float
    every_seconds: float
    for_seconds: float

    def ratio_at(self, elapsed_seconds: float) -> float:
        """The share of answers that fail at this time since the replica's first request."""
        return self.ratio if elapsed_seconds % self.every_seconds < self.for_seconds else 0.0


@dataclass(frozen=True)
class Stream:
    """An answer that comes token by token: the first one after the task's latency.

    output_tokens: on average; an answer has from half to one and a half times as many. token_ms: between two tokens.
    """

    model: str
    output_tokens: int
    token_ms: float

    def draw_tokens(self, dice: random.Random) -> int:
        """The output tokens of one answer."""
        return max(1, round(self.output_tokens * dice.uniform(0.5, 1.5)))


@dataclass(frozen=True)
class Replica:
    """One instance of a task's model. `slowdown` multiplies the task's latency. `absent`: not running at the start."""

    name: str
    slowdown: float = 1.0
    failure: Failure | None = None
    absent: bool = False


@dataclass(frozen=True)
class Version:
    """Replicas of one version. `subset` None means that the task has a single, unnamed version."""

    replicas: tuple[Replica, ...]
    subset: str | None = None
    weight: int = 100


@dataclass(frozen=True)
class Task:
    """One model behind one route.

    peak_qps: requests per second that clients send when the day is at its busiest.
    evening: 0 follows office hours, 1 follows the evening.
    limit_qps: the gateway's local rate limit, None for none. qps_per_replica: the capacity of one replica, for a task
    whose limit tidegate sets, and whose replicas the gateway checks; None for the others.
    steady: clients send at the peak's rate all day.
    gpu: whether each of its replicas has a GPU.
    impatient_ratio, patience_ms: this share of the clients leaves when the whole answer hasn't come in that time.
    stream: how a language model streams its answers; None for a model that answers at once.
    """

    name: str
    department: str
    latency: Latency
    peak_qps: float
    versions: tuple[Version, ...]
    evening: float = 0.0
    limit_qps: int | None = None
    qps_per_replica: float | None = None
    steady: bool = False
    gpu: bool = False
    impatient_ratio: float = 0.0
    patience_ms: float = 0.0
    request_bytes: int = 400
    response_bytes: int = 600
    log_style: LogStyle = "python"
    stream: Stream | None = None

    def rate_qps(self, fraction: float) -> float:
        """Requests per second that clients send at this part of the day."""
        return self.peak_qps * (1.0 if self.steady else day_shape(fraction, self.evening))

    def cluster(self, version: Version) -> str:
        """The cluster's name in the form that Istio gives it."""
        subset = version.subset or ""
        return f"outbound|{SERVICE_PORT}|{subset}|service-{self.name}.{self.department}.svc.cluster.local"

    def replicas(self) -> Iterator[Replica]:
        """The replicas of all versions."""
        for version in self.versions:
            yield from version.replicas


@dataclass(frozen=True)
class Move:
    """A replica joins or leaves. at: part of the day that is over then."""

    at: float
    replica: str
    joins: bool


@dataclass(frozen=True)
class Scenario:
    """All tasks, with their moves and the load.

    lost_qps: requests per second, at the peak, for a path without a route.
    in_flight: maximum number of concurrent requests; the load skips those above, and counts them.
    moves: in the order of time. A replica that joins warms up for warm_up_seconds before it is ready.
    """

    tasks: tuple[Task, ...]
    lost_qps: float = 3.0
    in_flight: int = 512
    moves: tuple[Move, ...] = ()
    warm_up_seconds: float = 4.0
    seed: int = 20_261_124
    departments: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        replicas = [replica.name for task in self.tasks for replica in task.replicas()]
        for what, values in (("task", names), ("replica", replicas)):
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"scenario: {what} {', '.join(twice)} occurs more than once")
        unknown = sorted({move.replica for move in self.moves} - set(replicas))
        if unknown:
            raise ValueError(f"scenario: moves of {', '.join(unknown)}, which no task has as replicas")
        object.__setattr__(self, "departments", tuple(dict.fromkeys(task.department for task in self.tasks)))

    def replicas(self) -> Iterator[tuple[Task, Replica]]:
        """Every replica with its task."""
        for task in self.tasks:
            for replica in task.replicas():
                yield task, replica

    def limited_tasks(self) -> list[Task]:
        """The tasks whose limit tidegate sets."""
        return [task for task in self.tasks if task.qps_per_replica is not None]

    def write(self, path: Path) -> None:
        """Save as JSON, for the demo's other processes."""
        path.write_bytes(_ADAPTER.dump_json(self, indent=2, exclude={"departments"}))

    @staticmethod
    def read(path: Path) -> Scenario:
        """Load what `write` saved. Raises pydantic.ValidationError naming the field."""
        return _ADAPTER.validate_json(path.read_bytes())


_ADAPTER = TypeAdapter(Scenario)

NIGHT = 0.25
"""The quietest hour's load, as a share of the busiest one's."""


def day_shape(fraction: float, evening: float) -> float:
    """How busy a moment of the day is, between NIGHT and 1.

    fraction: the time of day, 0 at four in the morning, 1 a day later.
    evening: 0 peaks in the late morning, 1 in the evening; between, both are mixed.
    """
    office = _hump(fraction, centre=0.33, width=0.20)
    leisure = _hump(fraction, centre=0.68, width=0.16)
    return NIGHT + (1 - NIGHT) * ((1 - evening) * office + evening * leisure)


def _hump(fraction: float, centre: float, width: float) -> float:
    return math.exp(-0.5 * ((fraction - centre) / width) ** 2)


def _plain(task: str, count: int) -> tuple[Version, ...]:
    return (Version(tuple(Replica(f"{task}-{index}") for index in range(1, count + 1))),)


SLOW_REPLICA = Replica("passage-rerank-3", slowdown=5.0)
FAILING_REPLICA = Replica("fraud-score-2", failure=Failure(ratio=0.35, every_seconds=45, for_seconds=15))

DEMO = Scenario(
    tasks=(
        Task("query-embedding", "search", Latency(9), 70, _plain("query-embedding", 3), evening=0.3),
        Task(
            "passage-rerank",
            "search",
            Latency(38),
            40,
            (Version((Replica("passage-rerank-1"), Replica("passage-rerank-2"), SLOW_REPLICA)),),
            evening=0.3,
            request_bytes=4000,
        ),
        Task("spell-check", "search", Latency(5, sigma=0.35), 30, _plain("spell-check", 2)),
        Task("feed-ranking", "commerce", Latency(24), 60, _plain("feed-ranking", 3), evening=0.8),
        Task("click-prediction", "commerce", Latency(14), 55, _plain("click-prediction", 3), evening=0.7),
        Task(
            "fraud-score",
            "commerce",
            Latency(28),
            30,
            (Version((Replica("fraud-score-1"), FAILING_REPLICA, Replica("fraud-score-3"))),),
            evening=0.5,
        ),
        Task("image-tags", "media", Latency(95, sigma=0.55), 20, _plain("image-tags", 2), request_bytes=8000),
        Task(
            "speech-to-text",
            "media",
            Latency(650, sigma=0.6),
            12,
            _plain("speech-to-text", 3),
            impatient_ratio=0.15,
            patience_ms=500,
            request_bytes=8000,
            log_style="java",
        ),
        Task("video-safety", "media", Latency(180), 10, _plain("video-safety", 2), evening=0.9),
        Task(
            "chat",
            "assistants",
            Latency(260, sigma=0.6),
            25,
            (
                Version((Replica("chat-v1-1"), Replica("chat-v1-2")), subset="v1", weight=80),
                Version((Replica("chat-v2-1", slowdown=0.7),), subset="v2", weight=20),
            ),
            evening=0.6,
            gpu=True,
            impatient_ratio=0.02,
            patience_ms=600,
            log_style="json",
            stream=Stream("chat-8b", output_tokens=24, token_ms=12),
        ),
        Task(
            "translate",
            "assistants",
            Latency(120),
            30,
            _plain("translate", 4),
            qps_per_replica=5,
            steady=True,
            gpu=True,
            response_bytes=1500,
        ),
        Task(
            "summarise",
            "assistants",
            Latency(340, sigma=0.5),
            22,
            _plain("summarise", 2),
            limit_qps=12,
            request_bytes=6000,
        ),
    ),
    moves=(
        Move(0.3, "translate-3", joins=False),
        Move(0.3, "translate-4", joins=False),
        Move(0.6, "translate-3", joins=True),
        Move(0.6, "translate-4", joins=True),
    ),
)
"""A dozen tasks of four departments: one slow replica, one that fails at times, one streaming model in two versions,
one task that runs into its limit, clients that give up, and one task whose limit follows its replicas as they leave and
join."""
