"""What the demo's replicas use, as a Prometheus would scrape it."""

from __future__ import annotations

import re
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from tidegate.demo.scenario import DEMO
from tidegate.demo.usage import CPU_SHARE, Usage, pod_name

Samples = dict[tuple[str, str], float]
"""Value by metric and pod (or deployment)."""


class World:
    """A usage whose clock and absent replicas a test sets."""

    def __init__(self) -> None:
        self.absent: set[str] = set()
        self.now = 100.0
        self.usage = Usage(DEMO, lambda name: name not in self.absent, lambda: self.now)
        self.address = self.usage.serve()

    def scrape(self) -> Samples:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {
            (sample.name, sample.labels.get("pod") or sample.labels["deployment"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "pod" in sample.labels or "deployment" in sample.labels
        }


def test_what_a_replica_worked_is_its_cpu_time_and_its_gpus() -> None:
    world = World()
    pod = pod_name("chat", "chat-v1-1")
    world.scrape()
    use = world.usage.of("chat-v1-1")
    use.begins(500)
    use.ends(2.0, 3000)
    world.now += 4
    seen = world.scrape()
    assert seen["container_cpu_usage_seconds_total", pod] == CPU_SHARE * 2
    assert seen["container_network_receive_bytes_total", pod] == 500
    assert seen["container_network_transmit_bytes_total", pod] == 3000
    assert seen["DCGM_FI_DEV_GPU_UTIL", pod] == 50
    assert ("DCGM_FI_DEV_GPU_UTIL", pod_name("spell-check", "spell-check-1")) not in seen


def test_every_replica_has_a_pod_of_its_deployment() -> None:
    seen = World().scrape()
    pods = {pod for name, pod in seen if name == "container_memory_working_set_bytes"}
    assert len(pods) == len(list(DEMO.replicas()))
    deployments = {name for metric, name in seen if metric == "kube_deployment_spec_replicas"}
    for pod in pods:
        found = re.fullmatch("(?P<deployment>.+)-[a-z0-9]{9}-[a-z0-9]{5}", pod)
        assert found is not None
        assert found["deployment"] in deployments


def test_a_replica_that_left_is_not_reported_of_and_counts_from_zero_when_it_is_back() -> None:
    world = World()
    pod = pod_name("translate", "translate-3")
    world.usage.of("translate-3").begins(10)
    world.usage.of("translate-3").ends(5.0, 10)
    assert world.scrape()["container_cpu_usage_seconds_total", pod] == CPU_SHARE * 5
    world.absent.add("translate-3")
    assert ("container_cpu_usage_seconds_total", pod) not in world.scrape()
    world.absent.clear()
    assert world.scrape()["container_cpu_usage_seconds_total", pod] == 0
