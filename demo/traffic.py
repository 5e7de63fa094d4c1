"""The requests of the demo's clients and their times. Pure, with its own random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import h11

from tidegate.demo.envoy_config import PATH_PREFIX
from tidegate.demo.scenario import Scenario, Task, day_shape
from tidegate.schemas.rows.service_metrics import UNROUTED

CLIENTS = ("web", "app", "batch")


@dataclass(frozen=True)
class Request:
    """One request. `patience_ms` None waits for the answer however long it takes.

    department, task: the expected route, which may differ from its header.
    """

    department: str
    task: str
    path: str
    header_task: str
    client: str
    trace: str
    body_bytes: int
    patience_ms: float | None = None

    def encode(self, http: h11.Connection) -> bytes:
        """The request as HTTP/1.1, as the next one of this connection."""
        headers = [
            ("host", "inference.internal"),
            ("user-agent", "tidegate-demo"),
            ("taskid", self.header_task),
            ("x-client-id", self.client),
            ("traceparent", f"00-{self.trace}-{self.trace[:16]}-01"),
            ("content-type", "application/octet-stream"),
            ("content-length", str(self.body_bytes)),
        ]
        events = (
            h11.Request(method="POST", target=self.path, headers=headers),
            h11.Data(data=b"." * self.body_bytes),
            h11.EndOfMessage(),
        )
        return b"".join(http.send(event) or b"" for event in events)


class Traffic:
    """An open stream of requests whose rate follows the day (arrivals by a thinned Poisson process)."""

    def __init__(self, scenario: Scenario, day_seconds: float) -> None:
        self._scenario = scenario
        self._day_seconds = day_seconds
        self._dice = random.Random(scenario.seed)
        self._ceiling_qps = sum(task.peak_qps for task in scenario.tasks) + scenario.lost_qps

    def arrivals(self) -> Iterator[tuple[float, Request]]:
        """Requests of one day, each with its time in seconds since the day's start."""
        moment = 0.0
        while (moment := moment + self._dice.expovariate(self._ceiling_qps)) < self._day_seconds:
            request = self._draw(moment / self._day_seconds)
            if request:
                yield moment, request

    def expected_requests(self) -> float:
        """How many requests a day has on average."""
        steps = 1000
        rates = (self.rate_qps((step + 0.5) / steps) for step in range(steps))
        return sum(rates) / steps * self._day_seconds

    def rate_qps(self, fraction: float) -> float:
        """Requests per second of all tasks at this part of the day."""
        known = sum(task.rate_qps(fraction) for task in self._scenario.tasks)
        return known + self._scenario.lost_qps * day_shape(fraction, 0.5)

    def closing(self) -> Iterator[Request]:
        """Endless requests, to each task in turn, which advance the watermark."""
        while True:
            for task in self._scenario.tasks:
                yield self._request(task, patience_ms=None)

    def _draw(self, fraction: float) -> Request | None:
        pick = self._dice.uniform(0, self._ceiling_qps)
        for task in self._scenario.tasks:
            if pick < task.peak_qps:
                if self._dice.random() >= task.rate_qps(fraction) / task.peak_qps:
                    return None
                impatient = self._dice.random() < task.impatient_ratio
                return self._request(task, task.patience_ms if impatient else None)
            pick -= task.peak_qps
        return self._lost() if self._dice.random() < day_shape(fraction, 0.5) else None

    def _request(self, task: Task, patience_ms: float | None) -> Request:
        return Request(
            department=task.department,
            task=task.name,
            path=f"{PATH_PREFIX}infer",
            header_task=task.name,
            client=self._dice.choice(CLIENTS),
            trace=f"{self._dice.getrandbits(128) or 1:032x}",
            body_bytes=max(1, int(task.request_bytes * self._dice.uniform(0.5, 1.5))),
            patience_ms=patience_ms,
        )

    def _lost(self) -> Request:
        """A request without a route. Half of them name a real task, and must not be counted for it."""
        names = ("no-such-task", self._dice.choice(self._scenario.tasks).name)
        return Request(
            department=UNROUTED,
            task=UNROUTED,
            path="/old-api/infer",
            header_task=self._dice.choice(names),
            client=self._dice.choice(CLIENTS),
            trace=f"{self._dice.getrandbits(128) or 1:032x}",
            body_bytes=16,
        )
