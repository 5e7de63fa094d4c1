"""The closed loop on real parts: one task behind real Envoys, watcher, job, controller. For tests and benchmarks.

Kafka and Flink are given; everything else runs as processes of a local stack of its own, as a user would start it.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.kafka.log import snapshot
from tidegate.adapters.limiting.targets.file import EnvoyFileTarget
from tidegate.demo import envoy_config
from tidegate.demo.director import Director
from tidegate.demo.envoy_config import PATH_PREFIX, TASK_HEADER
from tidegate.demo.parts import Controller, DemoGateway, Replicas, Watcher
from tidegate.demo.scenario import Latency, Replica, Scenario, Task, Version
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import RateLimitRow, ReplicaChange
from tidegate.schemas.settings import CONFIG_FILE, Kafka, Settings, Stack
from tidegate.schemas.topics import ALL_TOPICS
from tidegate.stack import state
from tidegate.stack.envoy import EnvoyServer
from tidegate.stack.local import LocalStack

GATEWAY = "loop-gateway"
DEPARTMENT, TASK = "vision", "chat"
KEY = TaskKey(DEPARTMENT, TASK)
QPS_PER_REPLICA = 10.0
REPLICAS = tuple(f"{TASK}-{index}" for index in range(1, 9))
SCENARIO = Scenario(
    tasks=(
        Task(
            TASK,
            DEPARTMENT,
            Latency(2),
            60,
            (Version(tuple(Replica(name, absent=index >= 4) for index, name in enumerate(REPLICAS))),),
            qps_per_replica=QPS_PER_REPLICA,
            steady=True,
        ),
    )
)


class OtherEnvoy(EnvoyServer):
    """A second Envoy of the same gateway: it reads the same files."""

    name = "gateway-2"

    def __init__(self, settings: Settings, files: envoy_config.Files) -> None:
        """files: the first one's."""
        self._files = files
        self._bootstrap = files.folder / "bootstrap-2.json"
        super().__init__(settings, self._bootstrap)

    @property
    def ports(self) -> dict[str, int]:
        """As the first one's."""
        return {"http": 0, "admin": 0}

    def prepare(self, place):  # type: ignore[no-untyped-def]
        """Its bootstrap differs in its ports only."""
        http_port, admin_port = place.ports["http"], place.ports["admin"]
        envoy_config.replace(
            self._bootstrap, envoy_config.bootstrap(SCENARIO, self._files, http_port, admin_port)
        )
        return super().prepare(place)


@dataclass(frozen=True)
class Answered:
    """One answer. at: epoch seconds when it had come."""

    at: float
    status: int


class Load:
    """Requests at a steady rate, split evenly over the gateway's Envoys, from a thread for each."""

    def __init__(self, ports: Sequence[int], qps: float, client: str = "web") -> None:
        self._ports = ports
        self._qps = qps / len(ports)
        self._client = client
        self._stop = threading.Event()
        self.answers: list[Answered] = []
        self._threads = [threading.Thread(target=self._send, args=(port,), daemon=True) for port in ports]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def admitted_qps(self, begin: float, end: float) -> float:
        """Answers of 200 per second between two moments."""
        return self._count(begin, end, 200) / (end - begin)

    def offered_qps(self, begin: float, end: float) -> float:
        """All answers per second between two moments."""
        return sum(begin <= one.at < end for one in self.answers) / (end - begin)

    def first(self, status: int, after: float) -> float | None:
        """When the first answer of this status after a moment came."""
        return next((one.at for one in self.answers if one.at >= after and one.status == status), None)

    def _count(self, begin: float, end: float, status: int) -> int:
        return sum(begin <= one.at < end and one.status == status for one in self.answers)

    def _send(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        due = time.monotonic()
        while not self._stop.is_set():
            due += 1 / self._qps
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            try:
                connection.request(
                    "GET", f"{PATH_PREFIX}infer", headers={TASK_HEADER: TASK, "x-client-id": self._client}
                )
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            self.answers.append(Answered(time.time(), status))


@dataclass
class Loop:
    """The running loop."""

    stack: LocalStack
    settings: Settings
    folder: Path
    command: tuple[str, ...]
    director: Director
    envoys: int
    _environment: dict[str, str] = field(default_factory=dict)

    def ports(self) -> list[int]:
        """Where the Envoys listen."""
        found = state.read(self.folder).ports
        return [found[f"{name}.http"] for name in ("gateway", "gateway-2")[: self.envoys]]

    def admins(self) -> tuple[str, ...]:
        """The Envoys' admin pages."""
        found = state.read(self.folder).ports
        return tuple(
            f"127.0.0.1:{found[f'{name}.admin']}" for name in ("gateway", "gateway-2")[: self.envoys]
        )

    @property
    def routes(self) -> Path:
        """The gateway's route file."""
        return envoy_config.Files(self.folder / "gateway").routes

    def in_force(self) -> Limit | None:
        """What all Envoys hold now."""
        target = EnvoyFileTarget({GATEWAY: self.routes}, {GATEWAY: self.admins()})
        return target.read(GATEWAY).get(KEY)

    def limits(self) -> list[RateLimitRow]:
        """All rows of the controller, in order."""
        return [
            RateLimitRow.model_validate_json(message.value or b"")
            for message in snapshot(self.settings.kafka, topics.RATE_LIMITS)
        ]

    def changes(self) -> list[ReplicaChange]:
        """All settled changes, in order."""
        return [
            ReplicaChange.model_validate_json(message.value or b"")
            for message in snapshot(self.settings.kafka, topics.REPLICA_CHANGES)
        ]

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A `tidegate` command with the loop's settings, to its end."""
        return subprocess.run(
            (*self.command, *arguments),
            env=_clean_environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@contextmanager
def closed_loop(
    kafka: Kafka,
    flink_rest_address: str,
    *,
    envoys: int = 1,
    settings: str = "",
    checkpoint_dir: Path | None = None,
    catalog: str | None = None,
) -> Iterator[Loop]:
    """All of it, with the first four replicas ready. settings: more TOML. Ends and removes what it started."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-loop-"))
    folder.chmod(0o755)
    base = Settings(stack=Stack(state_dir=folder))
    scenario_file = folder / "scenario.json"
    SCENARIO.write(scenario_file)
    command = (sys.executable, "-m", "tidegate.cli.main", "--config", str(folder / CONFIG_FILE))
    stack = LocalStack(base, [Replicas(SCENARIO, scenario_file)])
    job: str | None = None
    try:
        stack.up()
        addresses = Replicas.listening(folder / Replicas.name)
        stack.add(DemoGateway(base, SCENARIO, addresses))
        stack.up(["gateway"])
        files = envoy_config.Files(folder / "gateway")
        if envoys == 2:
            stack.add(OtherEnvoy(base, files))
            stack.up(["gateway-2"])
        director = Director(SCENARIO, files, addresses, folder / Replicas.name)
        loop = Loop(stack, base, folder, command, director, envoys)
        (folder / "catalog.yaml").write_text(catalog or CATALOG)
        (folder / CONFIG_FILE).write_text(_toml(loop, kafka, flink_rest_address, checkpoint_dir, settings))
        loop.settings = base.model_copy(update={"kafka": kafka})
        ensure_topics(kafka, ALL_TOPICS)
        submitted = loop.run("submit", "replica-changes", timeout=180)
        if submitted.returncode:
            raise RuntimeError(f"the job could not be submitted:\n{submitted.stdout}{submitted.stderr}")
        job = submitted.stdout.split(" is job ")[1].split()[0]
        for part in (Watcher(command), Controller(command)):
            stack.add(part)
        stack.up(["watcher", "controller"])
        until(lambda: loop.in_force() is not None, "the first limit", 120)
        yield loop
    finally:
        if job is not None:
            _cancel(flink_rest_address, job)
        stack.down()
        if os.environ.get("TIDEGATE_KEEP_LOOP") != "1":
            shutil.rmtree(folder)


CATALOG = f"""\
gateways:
  {GATEWAY}: {{namespace: istio-ingress}}
departments:
  {DEPARTMENT}:
    gateway: {GATEWAY}
    tasks:
      {TASK}: {{qps_per_replica: {QPS_PER_REPLICA:g}}}
"""


def _toml(loop: Loop, kafka: Kafka, flink_rest_address: str, checkpoint_dir: Path | None, more: str) -> str:
    admins = json.dumps(list(loop.admins()))
    return f"""\
[kafka]
bootstrap_servers = {json.dumps(kafka.bootstrap_servers)}
topic_prefix = {json.dumps(kafka.topic_prefix)}
[flink]
rest_address = {json.dumps(flink_rest_address)}
checkpoint_dir = {json.dumps(str(checkpoint_dir or loop.folder / "checkpoints"))}
checkpoint_interval_seconds = 1
[stack]
state_dir = {json.dumps(str(loop.folder))}
[catalog]
file = {json.dumps(str(loop.folder / "catalog.yaml"))}
[watcher]
source = "envoy"
envoy_admins = {{ {GATEWAY} = {admins} }}
[limits]
target = "envoy-file"
envoy_files = {{ {GATEWAY} = {json.dumps(str(loop.routes))} }}
envoy_admins = {{ {GATEWAY} = {admins} }}
{more}"""


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}


def _cancel(rest_address: str, job: str) -> None:
    url = f"http://{rest_address}/jobs/{job}"
    urllib.request.urlopen(urllib.request.Request(url, method="PATCH"), timeout=10).close()

    def ended() -> bool:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["state"] in ("CANCELED", "FAILED", "FINISHED")

    until(ended, "the job ends")
