"""Lets replicas join and leave: as in a cluster, where one that joins is listed at once and ready when it is warm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tidegate.demo import envoy_config
from tidegate.demo.envoy_config import Files
from tidegate.demo.parts import Replicas
from tidegate.demo.scenario import Scenario


class Director:
    """Moves one scenario's replicas. Endpoints are files that Envoy watches, readiness is what a replica answers."""

    def __init__(
        self, scenario: Scenario, files: Files, addresses: Mapping[str, str], replicas_folder: Path
    ) -> None:
        """addresses: replica name to `ip:port`. replicas_folder: where the replicas' process has its files."""
        self._scenario = scenario
        self._files = files
        self._addresses = addresses
        self._folder = replicas_folder
        self._listed = {replica.name for _, replica in scenario.replicas() if not replica.absent}
        self._unready: set[str] = set()

    def join(self, *names: str) -> None:
        """List these replicas; they warm up, and aren't ready yet."""
        self._unready |= set(names)
        Replicas.set_unready(self._folder, self._unready)
        self._listed |= set(names)
        self._write_endpoints()

    def ready(self, *names: str) -> None:
        """These replicas are warm."""
        self._unready -= set(names)
        Replicas.set_unready(self._folder, self._unready)

    def unready(self, *names: str) -> None:
        """These replicas stay listed, and say that they aren't ready."""
        self._unready |= set(names)
        Replicas.set_unready(self._folder, self._unready)

    def set_ready(self, *names: str) -> None:
        """Of those that are listed exactly these are ready from now on."""
        self._unready = self._listed - set(names)
        Replicas.set_unready(self._folder, self._unready)

    def leave(self, *names: str) -> None:
        """These replicas go."""
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
