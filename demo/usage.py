"""Resource use of the demo's replicas, served like cAdvisor, kube-state-metrics and DCGM for a Prometheus to scrape.

The use of a simulated model is simulated as well: while it works on an answer, it uses CPU_SHARE of a core and, if the
task has one, its GPU. Bytes are those that it received and sent. A replica that has left is not served, and counts
from zero when it is back, like a new pod.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tidegate.demo.scenario import Scenario, Task

CPU_SHARE = 0.6
CPU_LIMIT_CORES = 2.0
MEMORY_LIMIT_BYTES = 4 << 30
GPU_MEMORY_BYTES = 24 << 30
_MIB = 1 << 20
_BASE_MEMORY_BYTES = 900 * _MIB
_MEMORY_OF_A_REQUEST_BYTES = 48 * _MIB
_PERIOD_US = 100_000
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"

Labels = list[str]


def pod_name(task: str, replica: str) -> str:
    """A pod name like those of a deployment's replica set; always the same for a replica."""
    digest = hashlib.sha256(replica.encode()).digest()
    suffix = "".join(_LETTERS[byte % len(_LETTERS)] for byte in digest[:5])
    template = "".join(_LETTERS[byte % len(_LETTERS)] for byte in hashlib.sha256(task.encode()).digest()[:9])
    return f"service-{task}-{template}-{suffix}"


@dataclass
class Use:
    """Resource use of one replica since its start. in_flight: requests that it works on now."""

    busy_seconds: float = 0.0
    received_bytes: int = 0
    sent_bytes: int = 0
    in_flight: int = 0

    def begins(self, received_bytes: int) -> None:
        """Count the start of a request."""
        self.received_bytes += received_bytes
        self.in_flight += 1

    def ends(self, busy_seconds: float, sent_bytes: int) -> None:
        """Count the end of a request."""
        self.busy_seconds += busy_seconds
        self.sent_bytes += sent_bytes
        self.in_flight -= 1


@dataclass(frozen=True)
class _Pod:
    task: Task
    replica: str
    name: str
    use: Use

    @property
    def labels(self) -> Labels:
        return [self.task.department, self.name]


class Usage(Collector):
    """Resource use of all replicas of a scenario. It is scraped and updated in different threads."""

    def __init__(self, scenario: Scenario, ready: Callable[[str], bool], now: Callable[[], float]) -> None:
        """ready: whether a replica is ready. now: seconds of a monotonic clock."""
        self._pods = {
            replica.name: _Pod(task, replica.name, pod_name(task.name, replica.name), Use())
            for task, replica in scenario.replicas()
        }
        self._tasks = scenario.tasks
        self._ready = ready
        self._now = now
        self._lock = threading.Lock()
        self._looked: dict[str, tuple[float, float]] = {}

    def of(self, replica: str) -> Use:
        """The record of a replica's use."""
        return self._pods[replica].use

    def collect(self) -> Iterable[Metric]:
        """All metric families of the ready replicas."""
        with self._lock:
            there = [pod for pod in self._pods.values() if self._ready(pod.replica)]
            for pod in self._pods.values():
                if pod not in there:
                    pod.use.busy_seconds = 0.0
                    pod.use.received_bytes = pod.use.sent_bytes = 0
            return [*_containers(there), *_kubernetes(self._tasks, there), *self._gpus(there)]

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve them, on a free loopback port by default; returns host:port."""
        registry = CollectorRegistry()
        registry.register(self)
        server, _ = start_http_server(port, host, registry)
        return f"{host}:{server.server_port}"

    def _gpus(self, pods: list[_Pod]) -> Iterator[Metric]:
        labels = ["namespace", "pod", "gpu"]
        busy = GaugeMetricFamily("DCGM_FI_DEV_GPU_UTIL", "GPU utilization, in %.", labels=labels)
        used = GaugeMetricFamily("DCGM_FI_DEV_FB_USED", "Frame buffer used, in MiB.", labels=labels)
        free = GaugeMetricFamily("DCGM_FI_DEV_FB_FREE", "Frame buffer free, in MiB.", labels=labels)
        power = GaugeMetricFamily("DCGM_FI_DEV_POWER_USAGE", "Power draw, in W.", labels=labels)
        now = self._now()
        for pod in pods:
            if not pod.task.gpu:
                continue
            before_at, before_busy = self._looked.get(pod.replica, (now, pod.use.busy_seconds))
            self._looked[pod.replica] = now, pod.use.busy_seconds
            worked = max(0.0, pod.use.busy_seconds - before_busy)
            share = min(1.0, worked / (now - before_at)) if now > before_at else 0.0
            total, taken = GPU_MEMORY_BYTES // _MIB, 9000 + 200 * pod.use.in_flight
            gpu = [*pod.labels, "0"]
            busy.add_metric(gpu, round(100 * share))
            used.add_metric(gpu, min(taken, total))
            free.add_metric(gpu, max(0, total - taken))
            power.add_metric(gpu, 60 + 240 * share)
        yield from (busy, used, free, power)


def _containers(pods: list[_Pod]) -> Iterator[Metric]:
    """cAdvisor's metrics; network metrics are the pod's, so they have no container."""
    labels = ["namespace", "pod", "container"]
    cpu = CounterMetricFamily("container_cpu_usage_seconds", "CPU time used.", labels=labels)
    throttled = CounterMetricFamily("container_cpu_cfs_throttled_seconds", "Time throttled.", labels=labels)
    quota = GaugeMetricFamily("container_spec_cpu_quota", "CPU quota, in us a period.", labels=labels)
    period = GaugeMetricFamily("container_spec_cpu_period", "CPU period, in us.", labels=labels)
    memory = GaugeMetricFamily("container_memory_working_set_bytes", "Working set.", labels=labels)
    limit = GaugeMetricFamily("container_spec_memory_limit_bytes", "Memory limit.", labels=labels)
    of_pod = ["namespace", "pod", "interface"]
    received = CounterMetricFamily("container_network_receive_bytes", "Bytes received.", labels=of_pod)
    sent = CounterMetricFamily("container_network_transmit_bytes", "Bytes sent.", labels=of_pod)
    for pod in pods:
        container = [*pod.labels, "model"]
        cpu.add_metric(container, CPU_SHARE * pod.use.busy_seconds)
        throttled.add_metric(container, 0.0)
        quota.add_metric(container, CPU_LIMIT_CORES * _PERIOD_US)
        period.add_metric(container, _PERIOD_US)
        memory.add_metric(container, _BASE_MEMORY_BYTES + _MEMORY_OF_A_REQUEST_BYTES * pod.use.in_flight)
        limit.add_metric(container, MEMORY_LIMIT_BYTES)
        received.add_metric([*pod.labels, "eth0"], pod.use.received_bytes)
        sent.add_metric([*pod.labels, "eth0"], pod.use.sent_bytes)
    yield from (cpu, throttled, quota, period, memory, limit, received, sent)


def _kubernetes(tasks: Iterable[Task], pods: list[_Pod]) -> Iterator[Metric]:
    """The metrics of kube-state-metrics."""
    desired = GaugeMetricFamily(
        "kube_deployment_spec_replicas", "Replicas wanted.", labels=["namespace", "deployment"]
    )
    for task in tasks:
        desired.add_metric([task.department, f"service-{task.name}"], len(list(task.replicas())))
    restarts = CounterMetricFamily(
        "kube_pod_container_status_restarts", "Restarts.", labels=["namespace", "pod", "container"]
    )
    for pod in pods:
        restarts.add_metric([*pod.labels, "model"], 0)
    yield from (desired, restarts)
