"""Sets the demo up, component by component, and takes it down again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import psutil

from tidegate.adapters.catalog import topic as catalog_topic
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.limiting.targets.base import TargetFailed
from tidegate.adapters.limiting.targets.file import EnvoyFileTarget
from tidegate.demo import flink_job
from tidegate.demo import workspace as workspaces
from tidegate.demo.director import Director
from tidegate.demo.failure import DemoFailed
from tidegate.demo.parts import (
    AlertSender,
    Clients,
    Controller,
    DemoGateway,
    Indexer,
    RemoteWriter,
    Replicas,
    ServiceShipper,
    Shipper,
    Watcher,
)
from tidegate.demo.progress import Progress
from tidegate.demo.scenario import Scenario
from tidegate.demo.traffic import Traffic
from tidegate.demo.workspace import Workspace
from tidegate.jobs import cluster
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.schemas import catalog as catalogs
from tidegate.schemas.settings import Settings
from tidegate.schemas.topics import ALL_TOPICS
from tidegate.stack import debian_programs, local_stack, processes, state
from tidegate.stack.errors import PartMissing
from tidegate.stack.local import LOGS
from tidegate.stack.prometheus import (
    ALERTMANAGER,
    PROMETHEUS,
    AlertmanagerServer,
    PrometheusServer,
    Scraping,
    url,
)
from tidegate.stack.server import Server

RESOURCES = "resource-metrics"
JOBS = ("service-metrics", "replica-changes", "task-profile", "alerts")
_LIMITS_SECONDS = 60
_OTHER_ENVOY = "envoy"
"""The stack's own Envoy, which has no routes; the demo's gateway is a different one."""
_STOP_FIRST: Sequence[Sequence[str]] = (
    (Clients.name,),
    (PROMETHEUS,),
    (Watcher.name, Controller.name, AlertSender.name, RemoteWriter.name),
    (Shipper.name, ServiceShipper.name, Indexer.name),
    (DemoGateway.name, Replicas.name),
)


class Staging:
    """The demo's components, started in the order in which requests flow through them."""

    def __init__(self, workspace: Workspace, scenario: Scenario, seconds: float, progress: Progress) -> None:
        self._workspace = workspace
        self._scenario = scenario
        self._seconds = seconds
        self._progress = progress
        self._stack = local_stack(workspace.settings, progress.phase_changed)

    @property
    def settings(self) -> Settings:
        """Settings that reach the running servers."""
        return self._stack.settings

    @property
    def gateway_port(self) -> int:
        """The gateway's port for clients."""
        return state.read(self._workspace.folder).ports[f"{DemoGateway.name}.http"]

    def set_up(self) -> None:
        """Start all components, the clients last.

        Raises StackError and ArtifactUnavailable for a server, KafkaUnavailable, and DemoFailed for a job.
        """
        progress = self._progress
        with progress.stage("1/8  Servers: Kafka, Elasticsearch and Flink (downloaded the first time)"):
            self._stack.up([server.name for server in self._stack.status() if server.name != _OTHER_ENVOY])
            ensure_topics(self.settings.kafka, ALL_TOPICS)
        count = len(list(self._scenario.replicas()))
        with progress.stage(
            f"2/8  Models: {count} replicas of {len(self._scenario.tasks)} tasks of "
            f"{len(self._scenario.departments)} departments, simulated by small HTTP servers"
        ):
            self._start(Replicas(self._scenario, self._workspace.scenario_file))
        with progress.stage(
            f"3/8  Gateway: Envoy in front of the models, with the access log {self._workspace.access_log}"
        ):
            listening = Replicas.listening(self._workspace.folder / Replicas.name)
            self._start(DemoGateway(self._workspace.settings, self._scenario, listening))
            self._workspace = workspaces.with_limits(self._workspace, self._scenario, self._admin)
            catalog = catalogs.load(self._workspace.catalog_file)
            steps = catalog_topic.plan({}, catalog, datetime.now(UTC))
            catalog_topic.publish(self.settings.kafka, steps)
        jobs = list(JOBS)
        with progress.stage("4/8  Prometheus for the replicas' resource use, and Alertmanager for alerts"):
            self._start_alerting()
            if self._start_prometheus():
                jobs.append(RESOURCES)
        rest_address = self.settings.flink.rest_address
        with progress.stage(f"5/8  Flink jobs {', '.join(jobs)}, at http://{rest_address}"):
            flink_job.submit(
                self._workspace.command, jobs, rest_address, self._workspace.folder / LOGS, progress.doing
            )
            progress.detail("all [green]running[/green]")
        with progress.stage(
            "6/8  Log shippers (logs of gateway and models to Kafka) and indexer (Kafka to Elasticsearch)"
        ):
            self._start(Shipper(self._workspace.command))
            self._start(ServiceShipper(self._workspace.command))
            self._start(Indexer(self._workspace.command, self.settings.elasticsearch))
        with progress.stage("7/8  Watcher (ready replicas to Kafka) and controller (limits to the gateway)"):
            self._start(Watcher(self._workspace.command))
            self._start(Controller(self._workspace.command))
            self._await_limits()
        expected = Traffic(self._scenario, self._seconds).expected_requests()
        with progress.stage(
            f"8/8  Clients: about {expected:,.0f} requests in {self._seconds:.0f} s, with the load curve of a "
            "day (stop with Ctrl-C)"
        ):
            self._start(Clients(self._workspace.scenario_file, self.gateway_port, self._seconds))

    def director(self) -> Director:
        """The director of the scenario's running replicas."""
        folder = self._workspace.folder / Replicas.name
        return Director(self._scenario, self._workspace.gateway_files, Replicas.listening(folder), folder)

    def stop_clients(self) -> None:
        """Stop the clients; their report stays."""
        self._stack.down((Clients.name,))

    def take_down(self) -> None:
        """Stop all processes of the demo's folder: first the components that pass data on, then the servers.

        Raises StackError if a process can't be stopped.
        """
        with self._progress.stage("Stopping every component"):
            for names in _STOP_FIRST:
                self._stack.down(names)
            self._stack.down()

    def check(self) -> None:
        """Raises DemoFailed, with the end of the log, if a component has ended or a job has failed."""
        for name, server in state.read(self._workspace.folder).servers.items():
            if not processes.alive(server.process):
                raise DemoFailed(
                    f"{name} has ended. Its log is {server.log}; the last lines:\n"
                    f"{processes.last_lines(server.log)}"
                )
        problem = cluster.problem(self.settings.flink.rest_address)
        if problem:
            raise DemoFailed(f"{problem}\nFlink's logs are in {self._workspace.folder / LOGS}")

    def memory_bytes(self) -> dict[str, int]:
        """Resident memory by component, this process included."""
        servers = state.read(self._workspace.folder).servers
        parts = {name: processes.memory_bytes(server.process) for name, server in servers.items()}
        return parts | {"demo": psutil.Process().memory_info().rss}

    def _start(self, part: Server) -> None:
        self._stack.add(part)
        self._stack.up((part.name,))

    @property
    def _admin(self) -> str:
        """host:port of the gateway's admin interface."""
        return f"127.0.0.1:{state.read(self._workspace.folder).ports[f'{DemoGateway.name}.admin']}"

    def _start_alerting(self) -> None:
        """Start Alertmanager and the alert sender, if an Alertmanager is available."""
        try:
            self._start(AlertmanagerServer())
        except PartMissing as error:
            self._progress.detail(f"[yellow]left out[/yellow]: {error}")
            self._workspace = workspaces.with_alerts(self._workspace, self._scenario, None)
            return
        self._workspace = workspaces.with_alerts(
            self._workspace, self._scenario, url(self._stack, ALERTMANAGER)
        )
        self._start(AlertSender(self._workspace.command))

    def _start_prometheus(self) -> bool:
        """Start Prometheus and its remote-write receiver. False if no Prometheus is available."""
        usage = Replicas.usage(self._workspace.folder / Replicas.name)
        try:
            debian_programs.prometheus()
        except PartMissing as error:
            self._progress.detail(f"[yellow]left out[/yellow]: {error}")
            return False
        self._start(RemoteWriter(self._workspace.command))
        target = url(self._stack, RemoteWriter.name)
        self._start(PrometheusServer(Scraping({"replicas": [usage]}, [target], interval_seconds=2)))
        return True

    def _await_limits(self) -> None:
        """Wait until the gateway holds the limit of every task whose limit tidegate sets."""
        self._progress.doing("waiting for the first limits in the gateway")
        limits = self._workspace.settings.limits
        target = EnvoyFileTarget(limits.envoy_files, limits.envoy_admins)
        tasks = {TaskKey(task.department, task.name): task for task in self._scenario.limited_tasks()}
        deadline = time.monotonic() + _LIMITS_SECONDS
        while missing := tasks.keys() - (found := _limits(target)).keys():
            self.check()
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"the gateway has no limit for {', '.join(map(str, missing))} after {_LIMITS_SECONDS} s; see the "
                    f"logs of watcher, controller and flink-taskmanager in {self._workspace.folder / LOGS}"
                )
            time.sleep(0.1)
        for key, task in tasks.items():
            self._progress.detail(
                f"{key.task} is limited to {found[key].bucket.qps:g} requests/s: {task.qps_per_replica:g} for each "
                "ready replica"
            )


def _limits(target: EnvoyFileTarget) -> Mapping[TaskKey, Limit]:
    """The limits that the gateway holds; none if it can't be read."""
    try:
        return target.read(workspaces.GATEWAY)
    except TargetFailed:
        return {}
