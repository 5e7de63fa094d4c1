"""Sets the demo up, part by part, and takes it down again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

import psutil
from tidegate.adapters.kafka import ensure_topics
from tidegate.demo import flink_job
from tidegate.demo.failure import DemoFailed
from tidegate.demo.ground import Ground
from tidegate.demo.parts import Clients, Gateway, Indexer, Replicas, Shipper
from tidegate.demo.scenario import Scenario
from tidegate.demo.telling import Teller
from tidegate.demo.traffic import Traffic
from tidegate.schemas.settings import Settings
from tidegate.schemas.topics import ALL_TOPICS
from tidegate.stack import local_stack, processes, state
from tidegate.stack.server import Server

JOB = "service-metrics"
_JOB_SECONDS = 120
_OTHER_ENVOY = "envoy"
"""The stack's own Envoy, which knows no models; the demo's gateway is another."""
_STOP_FIRST: Sequence[Sequence[str]] = (
    (Clients.name,),
    (Shipper.name, Indexer.name),
    (Gateway.name, Replicas.name),
)


class Staging:
    """The demo's parts, brought up in the order in which requests flow through them."""

    def __init__(self, ground: Ground, scenario: Scenario, seconds: float, teller: Teller) -> None:
        self._ground = ground
        self._scenario = scenario
        self._seconds = seconds
        self._teller = teller
        self._stack = local_stack(ground.settings, teller.progress)

    @property
    def settings(self) -> Settings:
        """Settings that reach the running servers."""
        return self._stack.settings

    @property
    def gateway_port(self) -> int:
        """Where the gateway listens."""
        return state.read(self._ground.folder).ports[f"{Gateway.name}.http"]

    def set_up(self) -> None:
        """Start everything; the clients last.

        Raises StackError and ArtifactUnavailable for a server, KafkaUnavailable, and DemoFailed for the job.
        """
        teller = self._teller
        with teller.stage(
            "1/6  Servers: Kafka, Elasticsearch and Flink (the first time they are downloaded)"
        ):
            self._stack.up([server.name for server in self._stack.status() if server.name != _OTHER_ENVOY])
            ensure_topics(self.settings.kafka, ALL_TOPICS)
        count = len(list(self._scenario.replicas()))
        with teller.stage(
            f"2/6  Models: {count} replicas of {len(self._scenario.tasks)} tasks of "
            f"{len(self._scenario.departments)} departments, small HTTP servers as slow as models"
        ):
            self._start(Replicas(self._scenario, self._ground.scenario_file))
        with teller.stage(f"3/6  Gateway: Envoy in front of them, writing {self._ground.access_log}"):
            listening = Replicas.listening(self._ground.folder / Replicas.name)
            self._start(Gateway(self._ground.settings, self._scenario, listening))
        with teller.stage(f"4/6  Job {JOB}: into Flink, http://{self.settings.flink.rest_address}"):
            self._submit()
        with teller.stage(
            "5/6  Log shipper (the gateway's log to Kafka) and indexer (Kafka to Elasticsearch)"
        ):
            self._start(Shipper(self._ground.command))
            self._start(Indexer(self._ground.command, self.settings.elasticsearch))
        expected = Traffic(self._scenario, self._seconds).expected_requests()
        with teller.stage(
            f"6/6  Clients: about {expected:,.0f} requests in {self._seconds:.0f} s, rising and falling as "
            "on a day (Ctrl-C ends the demo)"
        ):
            self._start(Clients(self._ground.scenario_file, self.gateway_port, self._seconds))

    def stop_clients(self) -> None:
        """No further request. The report stays."""
        self._stack.down((Clients.name,))

    def take_down(self) -> None:
        """End everything that runs in the demo's folder: first what still passes data on, then the servers.

        Raises StackError when something can't be ended.
        """
        with self._teller.stage("Ending every part"):
            for names in _STOP_FIRST:
                self._stack.down(names)
            self._stack.down()

    def check(self) -> None:
        """Raises DemoFailed when a part has ended or the job has failed, with what its log says."""
        for name, server in state.read(self._ground.folder).servers.items():
            if not processes.alive(server.process):
                raise DemoFailed(
                    f"{name} has ended. Its log is {server.log}; the last lines:\n"
                    f"{processes.last_lines(server.log)}"
                )
        problem = flink_job.problem(self.settings.flink.rest_address)
        if problem:
            raise DemoFailed(f"{problem}\nFlink's logs are in {self._ground.folder / 'logs'}")

    def memory_bytes(self) -> dict[str, int]:
        """Resident memory by part, this process included."""
        servers = state.read(self._ground.folder).servers
        parts = {name: processes.memory_bytes(server.process) for name, server in servers.items()}
        return parts | {"demo": psutil.Process().memory_info().rss}

    def _start(self, part: Server) -> None:
        self._stack.add(part)
        self._stack.up((part.name,))

    def _submit(self) -> None:
        log = self._ground.folder / "logs" / "submit.log"
        self._teller.doing("submitting the job")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        with log.open("wb") as output:
            try:
                result = subprocess.run(
                    (*self._ground.command, "submit", JOB),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=clean,
                    timeout=_JOB_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise DemoFailed(
                    f"submitting the job took over {_JOB_SECONDS} s; its log is {log}"
                ) from error
        if result.returncode:
            raise DemoFailed(
                f"the job could not be submitted. Its log is {log}; the last lines:\n"
                f"{processes.last_lines(log)}"
            )
        self._teller.doing("waiting until the job's tasks run")
        deadline = time.monotonic() + _JOB_SECONDS
        while not flink_job.running(self.settings.flink.rest_address):
            self.check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"the job's tasks don't run after {_JOB_SECONDS} s; the log is {log}")
            time.sleep(0.2)
        self._teller.detail(f"{JOB} [green]running[/green]")
