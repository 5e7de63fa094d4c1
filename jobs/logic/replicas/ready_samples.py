"""The ready replicas of a task from kube-state-metrics' samples, for platforms without access to the API.

    kube_deployment_status_replicas_ready{namespace, deployment}     how many: this is what counts
    kube_pod_status_ready{namespace, pod, condition="true"}          which, and which are still starting

A deployment maps to a task as a service of the same name does. Its pods are those with the names of its ReplicaSets;
they are published only if as many of them are ready as the deployment reports, since a list that contradicts the count
is worse than none. NaN, repeated and older samples change nothing. Nor does the end of a series: a deleted deployment
is silent here, and never zero.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.jobs.logic.identity import Identity
from tidegate.jobs.logic.resources.raw_samples import BadSample, at_ms_of, labels_of, value_of
from tidegate.schemas.rows.limits import GatewayRow, Replica, ReplicasRow
from tidegate.schemas.timestamps import from_epoch_ms

DEPLOYMENTS = "kube_deployment_status_replicas_ready"
PODS = "kube_pod_status_ready"

_HASH = "[bcdfghjklmnpqrstvwxz2456789]"
_POD_OF_DEPLOYMENT = re.compile(rf"(?P<deployment>.+)-{_HASH}{{1,10}}-{_HASH}{{5}}")
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS

Workload = tuple[str, str]
"""Namespace and name of a deployment."""


@dataclass(frozen=True)
class Sample:
    """A relevant sample. pod: None for one of the deployment."""

    namespace: str
    deployment: str
    pod: str | None
    value: int
    at_ms: int


@dataclass(frozen=True)
class _Seen:
    value: int
    at_ms: int


def sample_of(raw: Any) -> Sample | None:
    """Parse a message of `prometheus.metrics`; None for another metric, NaN, and a pod without a deployment.

    Raises BadSample.
    """
    labels = labels_of(raw)
    name = raw.get("name") or labels.get("__name__")
    if name not in (DEPLOYMENTS, PODS) or (name == PODS and labels.get("condition") != "true"):
        return None
    namespace, pod = _label(labels, "namespace"), None
    if name == DEPLOYMENTS:
        deployment = _label(labels, "deployment")
    else:
        pod = _label(labels, "pod")
        found = _POD_OF_DEPLOYMENT.fullmatch(pod)
        if found is None:
            return None
        deployment = found["deployment"]
    at_ms, value = at_ms_of(raw), _value(raw)
    return None if value is None else Sample(namespace, deployment, pod, value, at_ms)


class ReadySamples:
    """The newest sample of each deployment and pod."""

    def __init__(self, identify: Callable[[str, str], Identity], stale_ms: int) -> None:
        """stale_ms: the age after which a pod, or one of a task's deployments, counts as deleted."""
        self._identify = identify
        self._stale_ms = stale_ms
        self._deployments: dict[Workload, _Seen] = {}
        self._forgot_ms = 0
        self._pods: dict[Workload, dict[str, _Seen]] = defaultdict(dict)
        self._workloads: dict[Identity, set[Workload]] = defaultdict(set)

    def put(self, sample: Sample) -> Workload | None:
        """Add a sample. Returns its deployment, if that is known and the sample is new."""
        workload = (sample.namespace, sample.deployment)
        seen = _Seen(sample.value, sample.at_ms)
        pods = self._pods[workload]
        known = self._deployments.get(workload) if sample.pod is None else pods.get(sample.pod)
        if known is not None and seen.at_ms <= known.at_ms:
            return None
        self._forget_once_an_hour(sample.at_ms)
        if sample.pod is None:
            self._deployments[workload] = seen
            self._workloads[self._identify(*workload)].add(workload)
        else:
            self._pods[workload][sample.pod] = seen
        return workload if workload in self._deployments else None

    def row(self, workload: Workload) -> ReplicasRow:
        """The row of this deployment's task, with all deployments that map to the task."""
        identity = self._identify(*workload)
        newest_ms = max(self._deployments[one].at_ms for one in self._workloads[identity])
        live = sorted(
            one
            for one in self._workloads[identity]
            if newest_ms - self._deployments[one].at_ms <= self._stale_ms
        )
        replicas = tuple(replica for one in live for replica in self._replicas(one))
        ready = sum(self._deployments[one].value for one in live)
        if sum(replica.state == "ready" for replica in replicas) != ready:
            replicas = ()
        return ReplicasRow(
            id=f"{identity.department}|{identity.task}|prometheus",
            department=identity.department,
            task=identity.task,
            workload="/".join(live[0]),
            source="prometheus",
            replicas_ready=ready,
            replicas_starting=sum(replica.state == "starting" for replica in replicas),
            replicas_terminating=0,
            replicas=replicas,
            observed_at=from_epoch_ms(newest_ms),
        )

    def gateway_row(self, gateway: str, workload: Workload) -> GatewayRow:
        """The row of the gateway that this deployment runs."""
        seen = self._deployments[workload]
        ready = tuple(replica.name for replica in self._replicas(workload) if replica.state == "ready")
        return GatewayRow(
            id=f"{gateway}|prometheus",
            gateway=gateway,
            source="prometheus",
            gateways_ready=seen.value,
            gateways=ready if len(ready) == seen.value else (),
            observed_at=from_epoch_ms(seen.at_ms),
        )

    def _forget_once_an_hour(self, now_ms: int) -> None:
        """Forget deployments and pods without a sample for a day."""
        if now_ms < self._forgot_ms + _HOUR_MS:
            return
        self._forgot_ms = now_ms
        since_ms = now_ms - _DAY_MS
        for workload, seen in list(self._deployments.items()):
            if seen.at_ms < since_ms:
                del self._deployments[workload]
                self._workloads[self._identify(*workload)].discard(workload)
        for workload, pods in list(self._pods.items()):
            kept = {name: pod for name, pod in pods.items() if pod.at_ms >= since_ms}
            if kept:
                self._pods[workload] = kept
            else:
                del self._pods[workload]

    def _replicas(self, workload: Workload) -> tuple[Replica, ...]:
        """The deployment's pods with recent samples; forgets the others."""
        oldest_ms = self._deployments[workload].at_ms - self._stale_ms
        pods = {name: pod for name, pod in self._pods[workload].items() if pod.at_ms >= oldest_ms}
        self._pods[workload] = pods
        return tuple(
            Replica(name=name, address=None, state="ready" if pod.value else "starting")
            for name, pod in sorted(pods.items())
        )


def _label(labels: Mapping[Any, Any], name: str) -> str:
    value = labels.get(name)
    if not isinstance(value, str) or not value:
        raise BadSample(f"no label {name}")
    return value


def _value(raw: Mapping[str, Any]) -> int | None:
    """A non-negative integer; None for any other value (NaN: the series has ended)."""
    value = value_of(raw)
    return int(value) if math.isfinite(value) and value >= 0 else None
