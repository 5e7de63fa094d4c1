"""Lets replicas join and leave. As in a cluster, a joining replica is listed at once and ready after its warm-up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tidegate.demo import envoy_config
from tidegate.demo.envoy_config import Files
from tidegate.demo.parts import Replicas
from tidegate.demo.scenario import Scenario


class Director:
    """Moves the replicas of a scenario: endpoints are files that Envoy watches, readiness is a replica's own answer."""

    def __init__(
        self, scenario: Scenario, files: Files, addresses: Mapping[str, str], replicas_folder: Path
    ) -> None:
        """addresses: replica name to `ip:port`. replicas_folder: the folder of the replicas' process."""
        self._scenario = scenario
        self._files = files
        self._addresses = addresses
        self._folder = replicas_folder
        self._listed = {replica.name for _, replica in scenario.replicas() if not replica.absent}
        self._unready: set[str] = set()

    def join(self, *names: str) -> None:
        """List these replicas as not ready: they warm up."""
        self._unready |= set(names)
        Replicas.set_unready(self._folder, self._unready)
        self._listed |= set(names)
        self._write_endpoints()

    def ready(self, *names: str) -> None:
        """Mark these replicas as ready."""
        self._unready -= set(names)
        Replicas.set_unready(self._folder, self._unready)

    def unready(self, *names: str) -> None:
        """Mark these replicas as not ready; they stay listed."""
        self._unready |= set(names)
        Replicas.set_unready(self._folder, self._unready)

    def set_ready(self, *names: str) -> None:
        """Mark exactly these of the listed replicas as ready."""
        self._unready = self._listed - set(names)
        Replicas.set_unready(self._folder, self._unready)

    def leave(self, *names: str) -> None:
        """Remove these replicas from the endpoints."""
        self._listed -= set(names)
        self._write_endpoints()

    def _write_endpoints(self) -> None:
        for task in self._scenario.tasks:
            if task.qps_per_replica is None:
                continue
            for version in task.versions:
                listed = [
                    self._addresses[replica.name]
                    for replica in version.replicas
                    if replica.name in self._listed
                ]
                envoy_config.replace(
                    self._files.endpoints(task, version),
                    envoy_config.endpoints(task.cluster(version), listed),
                )
