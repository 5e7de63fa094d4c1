"""A small world for the rate-limit controller: real Kafka, the real command, and rows that a test writes by hand."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from pydantic import BaseModel

from benchmarks.loop import SCENARIO
from tests.support.kafka_messages import messages
from tests.support.limit_rows import gateway_row, replicas_row
from tests.support.waiting import until
from tidegate.adapters.kafka.client import ensure_topics
from tidegate.adapters.limiting.controller import LIMIT_TOPICS
from tidegate.adapters.limiting.targets.file import EnvoyFileTarget
from tidegate.demo import envoy_config
from tidegate.demo.envoy_config import PATH_PREFIX, TASK_HEADER, Files
from tidegate.jobs.logic.limits.envoy_limits import Limit, TaskKey
from tidegate.schemas import topics
from tidegate.schemas.rows.limits import LimitControl, RateLimitRow, ReplicaChange
from tidegate.schemas.settings import Kafka, Settings, Stack
from tidegate.schemas.timestamps import from_epoch_ms
from tidegate.schemas.topics import Topic
from tidegate.stack import state
from tidegate.stack.envoy import EnvoyServer
from tidegate.stack.local import LocalStack
from tidegate.stack.processes import Launch, clean_environment
from tidegate.stack.server import Place

GATEWAY = "vision-gateway"
CHAT = TaskKey("vision", "chat")
QPS = 10.0


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def catalog_text(tasks: Mapping[str, str], more: str = "") -> str:
    """A catalog of tasks of one department; each task's own settings are YAML between braces."""
    lines = "".join(f"      {name}: {{{entry}}}\n" for name, entry in tasks.items())
    gateway = f"{{namespace: {more or 'istio-ingress'}}}"
    return f"gateways:\n  {GATEWAY}: {gateway}\ndepartments:\n  vision:\n    gateway: {GATEWAY}\n    tasks:\n{lines}"


def routes_of(names: list[str]) -> dict[str, Any]:
    """A route file as a platform might write it: each task answers by itself, so that no upstream is needed."""
    routes = [
        {
            "name": name,
            "match": {
                "prefix": PATH_PREFIX,
                "headers": [{"name": TASK_HEADER, "string_match": {"exact": name}}],
            },
            "direct_response": {"status": 200, "body": {"inline_string": "ok"}},
        }
        for name in names
    ]
    return {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                "name": envoy_config.ROUTE_CONFIG,
                "virtual_hosts": [{"name": "inference", "domains": ["*"], "routes": routes}],
            }
        ]
    }


class RealEnvoy(EnvoyServer):
    """An Envoy that reads a route file; its ports stay the same over its restarts."""

    def __init__(self, settings: Settings, name: str, files: Files) -> None:
        self.name = name
        self._files = files
        self._bootstrap = files.folder / f"bootstrap-{name}.json"
        super().__init__(settings, self._bootstrap)

    @property
    def ports(self) -> dict[str, int]:
        return {"http": 0, "admin": 0}

    def prepare(self, place: Place) -> Launch:
        content = envoy_config.bootstrap(SCENARIO, self._files, place.ports["http"], place.ports["admin"])
        content["static_resources"]["clusters"] = []
        envoy_config.replace(self._bootstrap, content)
        return super().prepare(place)


@dataclass
class Envoys:
    """Real Envoys that share one route file."""

    stack: LocalStack
    names: tuple[str, ...]

    def port(self, name: str, purpose: str = "http") -> int:
        return state.read(self.stack.state_dir).ports[f"{name}.{purpose}"]

    def ports(self) -> list[int]:
        return [self.port(name) for name in self.names]

    def admins(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{self.port(name, 'admin')}" for name in self.names)

    def pid(self, name: str) -> int:
        return state.read(self.stack.state_dir).servers[name].process.pid


@contextmanager
def envoys(folder: Path, routes: Path, *names: str) -> Iterator[Envoys]:
    """So many Envoys on a route file. folder: absolute, and theirs alone."""
    folder.mkdir(exist_ok=True)
    settings = Settings(stack=Stack(state_dir=folder / "stack"))

    class TheirFiles(Files):
        @property
        def routes(self) -> Path:
            return routes

    files = TheirFiles(folder)
    stack = LocalStack(settings, [RealEnvoy(settings, name, files) for name in names])
    try:
        stack.up()
        yield Envoys(stack, names)
    finally:
        stack.down()


@dataclass
class Controller:
    """One `tidegate limit` process."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def text(self) -> str:
        return self.log.read_text()

    def leads(self) -> bool:
        """Whether its log says so."""
        return "leading; target" in self.text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a crash."""
        self.process.kill()
        self.process.wait(20)

    def end(self, seconds: float = 20) -> int:
        """By SIGTERM. Returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        return self.process.wait(seconds)


@dataclass
class World:
    """Topics of one prefix, a folder with catalog and route file, and the controllers that a test starts."""

    kafka: Kafka
    folder: Path
    tasks: dict[str, str] = field(default_factory=lambda: {"chat": f"qps_per_replica: {QPS:g}"})
    limits: str = "raise_every_seconds = 1\nraises_together_seconds = 0.2\nreconcile_seconds = 1"
    more: str = ""
    target: str = "envoy-file"
    admins: tuple[str, ...] = ()
    namespace: str = ""
    started: list[Controller] = field(default_factory=list)
    _revisions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._producer = Producer({**self.kafka.client_config(), "linger.ms": 0})
        ensure_topics(self.kafka, LIMIT_TOPICS)
        self._said: list[RateLimitRow] = []
        self._reader = Consumer(
            {
                **self.kafka.client_config(),
                "group.id": f"reading-{uuid.uuid4()}",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
            }
        )
        self._reader.assign(
            [
                TopicPartition(self.kafka.topic(topics.RATE_LIMITS), number, OFFSET_BEGINNING)
                for number in range(self.kafka.partitions)
            ]
        )
        self.write_catalog(self.tasks)
        envoy_config.replace(self.routes, routes_of(list(self.tasks)))

    @property
    def routes(self) -> Path:
        return self.folder / "gateway" / "routes.json"

    @property
    def catalog(self) -> Path:
        return self.folder / "catalog.yaml"

    def write_catalog(self, tasks: Mapping[str, str]) -> None:
        draft = self.folder / ".catalog.yaml"
        draft.write_text(catalog_text(tasks, self.namespace))
        draft.replace(self.catalog)

    # What others say

    def put(self, topic: Topic, key: str, row: BaseModel | None) -> None:
        """Without waiting; `flush` waits."""
        value = None if row is None else row.model_dump_json()
        self._producer.produce(self.kafka.topic(topic), value, key)

    def put_raw(self, topic: Topic, key: str, value: str | bytes, at_ms: int = 0) -> None:
        """Whatever it is. at_ms: the message's own time."""
        self._producer.produce(self.kafka.topic(topic), value, key, timestamp=at_ms or now_ms())

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def publish_counts(self, gateways: int = 1, replicas: int = 4, at_ms: int | None = None) -> None:
        """The rows of the ready counts that the sources publish."""
        at_ms = now_ms() if at_ms is None else at_ms
        for task in self.tasks:
            self.put(topics.REPLICAS, f"vision/{task}", replicas_row(at_ms, replicas, task=task))
        self.put(topics.GATEWAYS, GATEWAY, gateway_row(at_ms, gateways, GATEWAY))
        self.flush()

    def change(self, replicas: int, task: str = "chat", *, flush: bool = True) -> ReplicaChange:
        """A settled change."""
        revision = self._revisions[task] = self._revisions.get(task, 0) + 1
        moment = from_epoch_ms(now_ms())
        row = ReplicaChange(
            id=f"vision|{task}|{revision}",
            department="vision",
            task=task,
            workload=f"vision/service-{task}",
            replicas_before=None,
            replicas_after=replicas,
            cause="resync",
            first_seen_at=moment,
            settled_at=moment,
            revision=revision,
        )
        self.put(topics.REPLICA_CHANGES, f"vision/{task}", row)
        if flush:
            self.flush()
        return row

    def control(self, scope: str = "vision/chat", **fields: Any) -> None:
        department, _, task = scope.partition("/")
        values: dict[str, Any] = {
            "id": scope,
            "department": department if task else None,
            "task": task or None,
            "paused": False,
            "override_qps": None,
            "expires_at": None,
            "by": "ann",
            "reason": "a load test",
            "set_at": from_epoch_ms(now_ms()),
        }
        self.put(topics.LIMIT_CONTROLS, scope, LimitControl(**values | fields))
        self.flush()

    # The controller

    def config(self, name: str = "tidegate.toml") -> Path:
        path = self.folder / name
        admins = json.dumps(list(self.admins))
        files = f"envoy_files = {{ {GATEWAY} = {json.dumps(str(self.routes))} }}\n"
        files += f"envoy_admins = {{ {GATEWAY} = {admins} }}\n" if self.admins else ""
        path.write_text(
            f"[kafka]\nbootstrap_servers = {json.dumps(self.kafka.bootstrap_servers)}\n"
            f"topic_prefix = {json.dumps(self.kafka.topic_prefix)}\n"
            f"[catalog]\nfile = {json.dumps(str(self.catalog))}\npoll_seconds = 0.1\n"
            f"[limits]\ntarget = {json.dumps(self.target)}\nconsumer_group = "
            f"{json.dumps(self.kafka.topic_prefix + 'limit')}\n"
            f"{files if self.target == 'envoy-file' else ''}{self.limits}\n{self.more}\n"
        )
        return path

    def command(self, *arguments: str) -> tuple[str, ...]:
        config = str(self.config())
        return (sys.executable, "-m", "tidegate.cli.main", "--config", config, "limit", *arguments)

    def controller(self, *, leads: bool = True) -> Controller:
        """Start one. leads: wait until it does."""
        log = self.folder / f"controller-{len(self.started)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self.command(),
                stdout=file,
                stderr=subprocess.STDOUT,
                env=clean_environment(),
            )
        one = Controller(process, log)
        self.started.append(one)
        if leads:
            until(one.leads, f"the controller leads\n{one.text()}")
        else:
            until(lambda: "waiting to lead" in one.text(), "the controller waits to lead")
        return one

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """`tidegate limit` with these arguments, to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    # What came of it

    def rows(self, task: str = "chat") -> list[RateLimitRow]:
        """All that the controllers have said of a task, in order."""
        return [row for row in self.all_rows() if row.task == task]

    def all_rows(self) -> list[RateLimitRow]:
        """Of all tasks; those of each one in order."""
        while found := [one for one in self._reader.consume(1000, 0.05) if one.error() is None]:
            self._said += (RateLimitRow.model_validate_json(one.value() or b"") for one in found)
        return self._said

    def reported(self, task: str = "chat") -> list[tuple[str, int, float | None]]:
        """Their states, revisions and limits."""
        return [(row.state, row.revision, row.limit_qps) for row in self.rows(task)]

    def current(self, task: str = "chat") -> RateLimitRow | None:
        """The newest one in `.current`."""
        key = f"vision/{task}".encode()
        found = [one for one in messages(self.kafka, topics.RATE_LIMITS_CURRENT) if one.key() == key]
        return RateLimitRow.model_validate_json(found[-1].value() or b"") if found else None

    def in_file(self, key: TaskKey = CHAT) -> Limit | None:
        """What the route file holds."""
        return EnvoyFileTarget({GATEWAY: self.routes}, {}).read(GATEWAY).get(key)

    def qps_in_file(self, key: TaskKey = CHAT) -> float | None:
        limit = self.in_file(key)
        return None if limit is None else round(limit.bucket.qps, 6)

    def qps_applied(self, task: str = "chat") -> float | None:
        """Of the newest applied row."""
        applied = [row for row in self.rows(task) if row.state == "applied"]
        return applied[-1].limit_qps if applied else None

    def until_applied(self, qps: float, task: str = "chat", timeout_seconds: float = 60) -> None:
        until(
            lambda: self.qps_applied(task) == qps,
            f"{qps:g} qps applied; reported {self.reported(task) if self.started else ''}",
            timeout_seconds,
        )

    def end(self) -> None:
        for one in self.started:
            if one.process.poll() is None:
                one.end()
        self._reader.close()


class Watch:
    """All limits of a task that a route file has ever held, as often as one can look."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.seen: list[Limit] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set():
            found = self._world.in_file()
            if found is not None and (not self.seen or self.seen[-1] != found):
                self.seen.append(found)
            time.sleep(0.002)


class Caller:
    """Requests of one client at a steady rate to one Envoy, over one connection."""

    def __init__(self, port: int, qps: float, headers: Mapping[str, str], task: str = "chat") -> None:
        self._port, self._qps = port, qps
        self._headers = {TASK_HEADER: task, **headers}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.answers: list[tuple[float, int]] = []

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def qps(self, status: int, begin: float, end: float) -> float:
        """Answers of this status per second between two moments of the monotonic clock."""
        return sum(begin <= at < end and got == status for at, got in self.answers) / (end - begin)

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        due = time.monotonic()
        while not self._stop.is_set():
            due += 1 / self._qps
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            try:
                connection.request("GET", f"{PATH_PREFIX}infer", headers=dict(self._headers))
                answer = connection.getresponse()
                answer.read()
                self.answers.append((time.monotonic(), answer.status))
            except (OSError, http.client.HTTPException):
                connection.close()
                self.answers.append((time.monotonic(), 0))
        connection.close()


def ask(port: int, headers: Mapping[str, str], task: str = "chat") -> int:
    """One request's status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"{PATH_PREFIX}infer", headers={TASK_HEADER: task, **headers})
        return connection.getresponse().status
    finally:
        connection.close()
