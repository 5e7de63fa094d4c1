"""An hour of everything that the dashboards show: two departments, three tasks, their replicas and what befell them.

Percentiles differ by level, so that a panel that takes a row of the wrong one shows a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from tests.support.call_rows import calls_row
from tests.support.limit_rows import gateway_row, replicas_row
from tests.support.lines import aborted, cluster, line, rate_limited, unrouted
from tests.support.signal_rows import alert, profile
from tidegate.schemas.rows.accounting import DeadLetter, LineCount
from tidegate.schemas.rows.limits import LimitControl, RateLimitRow, ReplicaChange
from tidegate.schemas.rows.lines import InferenceLogLine
from tidegate.schemas.rows.resources import ResourceMetricsRow, SlowReplica
from tidegate.schemas.rows.service_metrics import ServiceMetricsRow
from tidegate.schemas.rows.signals import AutoscalingSignals, Signal
from tidegate.schemas.timestamps import from_epoch_ms, to_text

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
SECONDS_OF_ROWS = 120
TASKS: dict[str, tuple[str, ...]] = {"vision": ("chat", "ocr"), "speech": ("asr-large",)}
VERSIONS = ("v1", "v2")
REPLICAS = 3
NEWEST_REVISION = 3
LEVEL_MS = {"department": 100.0, "task": 200.0, "version": 300.0, "replica": 400.0}
"""What each level's latencies are about."""


@dataclass(frozen=True)
class Hour:
    """The hour that begins at `start_ms`, topic by topic, as JSON has its messages."""

    start_ms: int

    @property
    def end_ms(self) -> int:
        """Its end, exclusive."""
        return self.start_ms + HOUR_MS

    def topics(self) -> dict[str, list[Any]]:
        """Every topic's messages."""
        return {
            "tidegate.service-metrics.1m": list(self._service("1m", MINUTE_MS, 60)),
            "tidegate.service-metrics.1s": list(self._service("1s", 1000, SECONDS_OF_ROWS)),
            "tidegate.resource-metrics.1m": list(self._resources("1m", MINUTE_MS, 60)),
            "tidegate.resource-metrics.10s": list(self._resources("10s", 10_000, 12)),
            "tidegate.replica-changes": _json(self._changes()),
            "tidegate.rate-limits": _json(self._limits()),
            "tidegate.rate-limits.current": _json(
                limit.model_copy(update={"id": f"{limit.department}/{limit.task}"})
                for limit in self._limits()
                if limit.state == "applied" and limit.revision == NEWEST_REVISION
            ),
            "tidegate.limit-controls": _json([self._override()]),
            "tidegate.task-profile": _json(self._profiles()),
            "tidegate.autoscaling-signals": _json(self._signals()),
            "tidegate.alerts": _json(self._alerts()),
            "tidegate.call-statistics": list(self._calls()),
            "tidegate.line-counts": _json(self._line_counts()),
            "tidegate.dead-letters": _json(self._letters()),
            "tidegate.late": [self._line(line, minute).encode() for minute in range(5)],
            "gateway.access-logs": [one.encode() for one in self._lines()],
            "inference.logs": _json(self._service_logs()),
            "kubernetes.replicas": _json(
                replicas_row(self.end_ms - 9000, REPLICAS, department=department, task=task)
                for department, task in _tasks()
            ),
            "kubernetes.gateways": _json([gateway_row(self.end_ms - 8000, 2)]),
        }

    def _at(self, minute: float) -> int:
        return self.start_ms + round(minute * MINUTE_MS)

    def _service(self, span: str, length_ms: int, count: int) -> Iterator[dict[str, Any]]:
        for number in range(count):
            start = self.end_ms - (count - number) * length_ms
            for department, tasks in TASKS.items():
                per_replica = 40 + number % 7
                per_task = per_replica * REPLICAS
                yield service_row(span, start, length_ms, per_task * len(tasks), number, department)
                for task in tasks:
                    yield service_row(span, start, length_ms, per_task, number, department, task)
                    for version in VERSIONS:
                        yield service_row(
                            span, start, length_ms, per_task // 2, number, department, task, version
                        )
                    for replica in range(REPLICAS):
                        name = f"10.0.0.{replica}:8080"
                        yield service_row(
                            span, start, length_ms, per_replica, number, department, task, None, name
                        )

    def _resources(self, span: str, length_ms: int, count: int) -> Iterator[dict[str, Any]]:
        for number in range(count):
            start = self.end_ms - (count - number) * length_ms
            for department, task in _tasks():
                for replica in (None, *(f"{task}-{index}" for index in range(REPLICAS))):
                    yield resource_row(span, start, length_ms, number, department, task, replica)

    def _changes(self) -> Iterator[ReplicaChange]:
        for department, task in _tasks():
            for revision, (minute, before, after) in enumerate(((10, 3, 2), (30, 2, 3), (59, 3, 4)), 1):
                yield ReplicaChange(
                    id=f"{department}|{task}|{revision}",
                    department=department,
                    task=task,
                    workload=f"{department}/service-{task}",
                    replicas_before=before,
                    replicas_after=after,
                    cause="scale_down" if after < before else "scale_up",
                    first_seen_at=from_epoch_ms(self._at(minute)),
                    settled_at=from_epoch_ms(self._at(minute) + 2000),
                    revision=revision,
                )

    def _limits(self) -> Iterator[RateLimitRow]:
        for department, task in _tasks():
            for revision, (minute, replicas) in enumerate(((10.05, 2), (30.05, 3), (59.05, 4)), 1):
                for state in ("decided", "applied"):
                    yield self._limit(department, task, revision, minute, replicas, state)
            yield self._limit(department, task, 4, 40, 3, "held")
            yield self._limit(department, task, 5, 45, 3, "failed")

    def _limit(
        self, department: str, task: str, revision: int, minute: float, replicas: int, state: Any
    ) -> RateLimitRow:
        decided = self._at(minute)
        return RateLimitRow(
            id=f"{department}|{task}|{revision}|{state}",
            department=department,
            task=task,
            gateway="vision-gateway",
            replicas=replicas,
            qps_per_replica=2,
            gateways=2,
            limit_qps=2.0 * replicas,
            limit_qps_per_gateway=1.0 * replicas,
            burst=replicas,
            state=state,
            reason=f"{replicas} ready replicas",
            change_id=f"{department}|{task}|{revision}",
            revision=revision,
            decided_at=from_epoch_ms(decided),
            applied_at=from_epoch_ms(decided + 800) if state == "applied" else None,
            target="envoy-file",
        )

    def _override(self) -> LimitControl:
        return LimitControl(
            id="vision/ocr",
            department="vision",
            task="ocr",
            paused=False,
            override_qps=50,
            expires_at=from_epoch_ms(self.end_ms + HOUR_MS),
            by="ana",
            reason="a launch",
            set_at=from_epoch_ms(self._at(20)),
        )

    def _profiles(self) -> Iterator[BaseModel]:
        slowest = SlowReplica(
            replica="10.0.0.2:8080", latency_p99_ms=900, median_p99_ms=400, deviations=5, outlier=True
        )
        for department, task in _tasks():
            yield profile(
                task,
                department,
                owner="ml-platform",
                computed_at=from_epoch_ms(self.end_ms - 5000),
                replicas_ready=3,
                replicas_desired=4,
                qps=2.5,
                latency_p99_ms=210.0,
                error_rate=0.02,
                rate_limited_ratio=0.1,
                limit_qps=6.0,
                limit_used_ratio=0.4,
                cpu_of_limit_ratio=0.7,
                memory_of_limit_ratio=0.5,
                gpu_utilization_ratio=0.6,
                slowest_replica=slowest,
                stale_inputs=("catalog",),
            )

    def _signals(self) -> Iterator[AutoscalingSignals]:
        for department, task in _tasks():
            yield AutoscalingSignals(
                id=f"{department}/{task}",
                department=department,
                task=task,
                replicas=3,
                signals=(Signal(name="qps_per_replica", value=2.5, target=2, desired_replicas=4),),
                desired_replicas=4,
                panic=False,
                held=False,
                reason="qps_per_replica asks for 4",
                computed_at=from_epoch_ms(self.end_ms - 5000),
                valid_until=from_epoch_ms(self.end_ms + MINUTE_MS),
                revision=2,
            )

    def _alerts(self) -> Iterator[BaseModel]:
        for state in ("pending", "firing", "resolved"):
            yield alert(state, began_ms=self._at(5))
        yield alert(
            "firing",
            "errors",
            self._at(50),
            severity="critical",
            silenced=True,
            replica="10.0.0.1:8080",
            runbook_url="docs/runbooks.md#errors",
        )

    def _calls(self) -> Iterator[dict[str, Any]]:
        day_ms = 24 * HOUR_MS
        for span, start in (("1h", self.start_ms), ("1d", self.start_ms - self.start_ms % day_ms)):
            for department, tasks in TASKS.items():
                for task, client in (
                    (None, None),
                    *((task, client) for task in tasks for client in (None, "web", "batch")),
                ):
                    yield calls_row(
                        start,
                        department=department,
                        task=task,
                        client=client,
                        span=span,
                        requests=100,
                        errors_4xx=3,
                        errors_5xx=2,
                        aborted=1,
                        rate_limited=5,
                        error_rate=0.03,
                        latency_p99_ms=300.0,
                    )

    def _line_counts(self) -> Iterator[LineCount]:
        for number, kind in enumerate(("counted", "late", "dead", "skipped", "tcp", "folded"), 1):
            yield LineCount.model_validate(
                {
                    "id": f"gateway.access-logs|{kind}",
                    "topic": "gateway.access-logs",
                    "kind": kind,
                    "lines": 10 * number,
                    "names": ["outbound|80||ch at.vision.svc", "vision/zebra"] if kind == "folded" else None,
                    "updated_at": from_epoch_ms(self.end_ms - 4000),
                }
            )

    def _letters(self) -> Iterator[DeadLetter]:
        for number in range(4):
            yield DeadLetter(
                id=f"gateway.access-logs-0-{number}|job",
                topic="gateway.access-logs",
                partition=0,
                offset=number,
                reason="start_time: not a time",
                excerpt="{",
                seen_at=from_epoch_ms(self._at(30 + number)),
            )

    def _lines(self) -> Iterator[str]:
        for minute in range(0, 60, 2):
            for department, task in _tasks():
                to = cluster(task, department)
                for build in (line, rate_limited, aborted):
                    yield self._line(build, minute, upstream_cluster=to)
                yield self._line(
                    line, minute, upstream_cluster=to, response_code=503, response_flags="UF,URX"
                )
            yield self._line(unrouted, minute)

    def _line(self, build: Callable[..., str], minute: float, **fields: Any) -> str:
        stream = {"grpc_status": 0, "model": "tiny", "input_tokens": 7, "output_tokens": 3}
        return build(start_time=to_text(from_epoch_ms(self._at(minute))), **stream | fields)

    def _service_logs(self) -> Iterator[InferenceLogLine]:
        for minute in range(60):
            for department, task in _tasks():
                yield InferenceLogLine(
                    timestamp=from_epoch_ms(self._at(minute)),
                    department=department,
                    task=task,
                    replica=f"{task}-0",
                    stream="stderr" if minute % 5 == 0 else "stdout",
                    message=f"batch of {minute} done",
                    request_id=None,
                )


def service_row(
    span: str,
    start_ms: int,
    length_ms: int,
    requests: int,
    number: int,
    department: str,
    task: str | None = None,
    version: str | None = None,
    replica: str | None = None,
) -> dict[str, Any]:
    """A service-metrics row of whatever level its names tell."""
    level = "replica" if replica else "version" if version else "task" if task else "department"
    base = LEVEL_MS[level] + number
    seconds = length_ms / 1000
    failed, gone, refused = requests // 10, requests // 20, requests // 5
    row = ServiceMetricsRow.model_validate(
        {
            "id": ServiceMetricsRow.id_of(span, level, department, task, version, replica, start_ms),
            "span": span,
            "level": level,
            "window_start": from_epoch_ms(start_ms),
            "window_end": from_epoch_ms(start_ms + length_ms),
            "department": department,
            "task": task,
            "version": version,
            "replica": replica,
            "requests": requests,
            "qps": requests / seconds,
            "latency_count": requests - refused,
            "latency_avg_ms": base,
            "latency_min_ms": base - 50,
            "latency_max_ms": base + 80,
            "latency_p50_ms": base - 10,
            "latency_p90_ms": base + 20,
            "latency_p95_ms": base + 30,
            "latency_p99_ms": base + 40,
            "upstream_service_time_avg_ms": base - 5,
            "upstream_service_time_max_ms": base + 70,
            "errors_4xx": requests // 25,
            "errors_5xx": failed,
            "aborted": gone,
            "rate_limited": refused,
            "error_rate": (failed + gone) / requests,
            "rate_limited_ratio": refused / requests,
            "response_flags": {"UF": failed, "RL": refused},
            "bytes_received": requests * 512,
            "bytes_sent": requests * 2048,
            "apdex": 0.9,
            "replicas_seen": REPLICAS,
            "qps_per_replica": requests / seconds / REPLICAS,
            "histogram": {"scale": 5, "zero": 0, "buckets": {"240": requests - refused}},
            "upgraded": 0,
            "first_byte_count": requests - refused,
            "first_byte_avg_ms": base / 4,
            "first_byte_min_ms": base / 8,
            "first_byte_max_ms": base / 2,
            "first_byte_p50_ms": base / 4,
            "first_byte_p90_ms": base / 3,
            "first_byte_p95_ms": base / 3,
            "first_byte_p99_ms": base / 2.5,
            "first_byte_histogram": {"scale": 5, "zero": 0, "buckets": {"180": requests - refused}},
            "stream_ms_per_token": 20.0,
            "output_tokens_per_second": 50.0,
            "input_tokens": requests * 300,
            "output_tokens": requests * 40,
            "concurrency": requests / seconds * base / 1000,
            "retries": failed,
            "grpc_status": {"0": requests - failed, "14": failed},
            "exemplar": {"request_id": f"slow-{start_ms}", "trace_id": None, "latency_ms": base + 80},
        }
    )
    assert row.id == row.expected_id()
    return row.model_dump(mode="json")


def resource_row(
    span: str,
    start_ms: int,
    length_ms: int,
    number: int,
    department: str,
    task: str,
    replica: str | None,
) -> dict[str, Any]:
    """A resource-metrics row of a replica, or of its task."""
    level, pods = ("replica", 1) if replica else ("task", REPLICAS)
    row = ResourceMetricsRow.model_validate(
        {
            "id": ResourceMetricsRow.id_of(span, level, department, task, replica, start_ms),
            "span": span,
            "level": level,
            "window_start": from_epoch_ms(start_ms),
            "window_end": from_epoch_ms(start_ms + length_ms),
            "department": department,
            "task": task,
            "replica": replica,
            "replicas_seen": pods,
            "replicas_desired": None if replica else REPLICAS + 1,
            "cpu_cores": 1.5 * pods,
            "cpu_limit_cores": 2.0 * pods,
            "cpu_of_limit_ratio": 0.75,
            "cpu_throttled_ratio": 0.05,
            "memory_working_set_bytes": 1e9 * pods,
            "memory_limit_bytes": 2e9 * pods,
            "memory_of_limit_ratio": 0.5,
            "network_receive_bytes_per_second": 1e6 + number,
            "network_transmit_bytes_per_second": 2e6 + number,
            "gpu_count": pods,
            "gpu_utilization_ratio": 0.6,
            "gpu_memory_used_bytes": 8e9 * pods,
            "gpu_memory_total_bytes": 16e9 * pods,
            "gpu_memory_of_total_ratio": 0.5,
            "gpu_power_watts": 200.0 * pods,
            "restarts": 1 if number % 20 == 0 else 0,
            "replicas_with_cpu": pods,
            "replicas_with_memory": pods,
            "replicas_with_gpu": pods,
            "samples": 12,
        }
    )
    assert row.id == row.expected_id()
    return row.model_dump(mode="json")


def _tasks() -> Iterator[tuple[str, str]]:
    for department, tasks in TASKS.items():
        for task in tasks:
            yield department, task


def _json(rows: Iterable[BaseModel]) -> list[dict[str, Any]]:
    return [row.model_dump(mode="json") for row in rows]
