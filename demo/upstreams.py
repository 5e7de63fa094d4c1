"""The demo's replicas: one process that serves every replica of a scenario, each on its own loopback port.

`python -m tidegate.demo.upstreams SCENARIO ADDRESSES READINESS USAGE LOGS` writes `{replica: "ip:port"}` to ADDRESSES
once all of them listen, and serves until SIGTERM. READINESS holds the names of those that aren't ready, as a JSON list:
they answer 503 at READY_PATH. The host:port of the metrics endpoint for a Prometheus is written to USAGE. Below LOGS
each replica writes its log, `DEPARTMENT/TASK/REPLICA.log`.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import h11

from tidegate.demo.envoy_config import INPUT_TOKENS_HEADER, MODEL_HEADER, OUTPUT_TOKENS_TRAILER, READY_PATH
from tidegate.demo.model_log import SLOW_TIMES, Ids, ModelLog
from tidegate.demo.scenario import Replica, Scenario, Stream, Task
from tidegate.demo.usage import Usage, Use

_MAX_HEAD_BYTES = 65_536
_INPUT_BYTES_PER_TOKEN = 4
_TOKEN = b'data: {"token":"ing "}\n\n'


@dataclass(frozen=True)
class Answer:
    """A replica's answer to one request, and its delay.

    stream: set where the answer comes token by token, of which it has `tokens`; body_bytes is theirs.
    """

    delay_ms: float
    status: int
    body_bytes: int
    slow: bool = False
    stream: Stream | None = None
    tokens: int = 0


class Behaviour:
    """Decides each answer of one replica. Pure, with its own random numbers."""

    def __init__(self, task: Task, replica: Replica, seed: int) -> None:
        self._task = task
        self._replica = replica
        self._dice = random.Random(f"{seed}/{replica.name}")
        self._first: float | None = None

    def answer(self, now: float) -> Answer:
        """The next answer. now: seconds by any clock; failure periods count from the first request on."""
        self._first = now if self._first is None else self._first
        delay_ms = self._task.latency.draw_ms(self._dice) * self._replica.slowdown
        failure = self._replica.failure
        if failure and self._dice.random() < failure.ratio_at(now - self._first):
            return Answer(delay_ms, 503, 40)
        slow = delay_ms >= SLOW_TIMES * self._task.latency.median_ms
        if stream := self._task.stream:
            tokens = stream.draw_tokens(self._dice)
            return Answer(delay_ms, 200, tokens * len(_TOKEN), slow, stream, tokens)
        size = max(2, int(self._task.response_bytes * self._dice.uniform(0.5, 1.5)))
        return Answer(delay_ms, 200, size, slow)


class Readiness:
    """The readiness of replicas, from a file that may change at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0
        self._unready: frozenset[str] = frozenset()

    def ready(self, replica: str) -> bool:
        """Whether this one is ready now. Without the file all are; an incomplete file leaves the state as it was."""
        try:
            changed = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return True
        if changed != self._seen:
            with suppress(json.JSONDecodeError, FileNotFoundError):
                self._unready, self._seen = frozenset(json.loads(self._path.read_text())), changed
        return replica not in self._unready


@dataclass(frozen=True)
class Model:
    """One replica: its behaviour, readiness, resource use and log."""

    behaviour: Behaviour
    ready: Callable[[], bool]
    use: Use
    log: ModelLog


class ReplicaProtocol(asyncio.Protocol):
    """HTTP/1.1 as Envoy speaks it to an upstream: one request at a time."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        self._request: h11.Request | None = None
        self._received_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._pending: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._request_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._pending:
            self._pending.cancel()
            seconds = time.monotonic() - self._began
            self._model.use.ends(seconds, 0)
            self._model.log.client_left(self._ids(), seconds * 1000)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        self._http.receive_data(data)
        self._take_request()

    def _take_request(self) -> None:
        while self._transport and not self._pending:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                self._transport.abort()
                self._transport = None
                return
            if isinstance(event, h11.Request):
                self._request = event
            elif isinstance(event, h11.EndOfMessage):
                self._take(len(self._http.trailing_data[0]))
            elif not isinstance(event, h11.Data):
                return

    def _take(self, following_bytes: int) -> None:
        """Answer the request that is whole now. following_bytes: of the next one, which have come with it."""
        whole_bytes, self._received_bytes = self._received_bytes - following_bytes, following_bytes
        if self._request and self._request.target == READY_PATH.encode():
            self._send(Answer(0, 200 if self._model.ready() else 503, 0))
            return
        self._began = time.monotonic()
        answer = self._model.behaviour.answer(self._began)
        self._model.use.begins(whole_bytes)
        self._request_bytes = whole_bytes
        loop = asyncio.get_running_loop()
        begin = self._answer if answer.stream is None else partial(self._begin_stream, answer.stream)
        self._pending = loop.call_later(answer.delay_ms / 1000, begin, answer)

    def _begin_stream(self, stream: Stream, answer: Answer) -> None:
        """Send the head; the tokens follow one by one."""
        headers = [
            ("content-type", "text/event-stream"),
            ("transfer-encoding", "chunked"),
            ("trailer", OUTPUT_TOKENS_TRAILER),
            (MODEL_HEADER, stream.model),
            (INPUT_TOKENS_HEADER, str(self._request_bytes // _INPUT_BYTES_PER_TOKEN)),
        ]
        self._write(h11.Response(status_code=200, headers=headers, reason=b"OK"))
        self._send_token(answer, stream.token_ms / 1000, answer.tokens - 1)

    def _send_token(self, answer: Answer, pause_seconds: float, following: int) -> None:
        self._write(h11.Data(data=_TOKEN))
        if following:
            loop = asyncio.get_running_loop()
            self._pending = loop.call_later(
                pause_seconds, self._send_token, answer, pause_seconds, following - 1
            )
        else:
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        self._pending = None
        seconds = time.monotonic() - self._began
        self._model.use.ends(seconds, answer.body_bytes)
        if answer.status != 200:
            self._model.log.failed(self._ids(), seconds * 1000)
        elif answer.slow:
            self._model.log.slow(self._ids(), seconds * 1000)
        if answer.stream:
            self._write(h11.EndOfMessage(headers=[(OUTPUT_TOKENS_TRAILER, str(answer.tokens))]))
            self._end()
        else:
            self._send(answer)
        self._take_request()  # the next one may have come already

    def _send(self, answer: Answer) -> None:
        if not self._transport:
            return
        headers = [
            ("content-type", "application/octet-stream"),
            ("content-length", str(answer.body_bytes)),
        ]
        reason = b"OK" if answer.status == 200 else b"Service Unavailable"
        self._write(
            h11.Response(status_code=answer.status, headers=headers, reason=reason),
            h11.Data(data=b"." * answer.body_bytes),
            h11.EndOfMessage(),
        )
        self._end()

    def _write(self, *events: h11.Event) -> None:
        if self._transport:
            self._transport.write(b"".join(self._http.send(event) or b"" for event in events))

    def _end(self) -> None:
        if not self._transport:
            return
        if self._http.our_state is h11.MUST_CLOSE:
            self._transport.close()
            self._transport = None
        else:
            self._http.start_next_cycle()

    def _ids(self) -> Ids:
        return Ids.of_headers(self._request.headers if self._request else ())


@dataclass(frozen=True)
class Files:
    """The files that the replicas read and write; see the module's docstring. logs: a folder."""

    addresses: Path
    readiness: Path
    usage: Path
    logs: Path


@dataclass(frozen=True)
class Serving:
    """Every replica of a scenario, listening. addresses: replica name to `ip:port`."""

    servers: tuple[asyncio.Server, ...]
    logs: tuple[ModelLog, ...]
    addresses: dict[str, str]
    usage: Usage

    def close(self) -> None:
        """Close the servers and the logs."""
        for server in self.servers:
            server.close()
        for log in self.logs:
            log.close()


async def listen(scenario: Scenario, readiness_file: Path, logs_folder: Path) -> Serving:
    """Let every replica listen on a free loopback port, with a log of its own below logs_folder."""
    loop = asyncio.get_running_loop()
    addresses: dict[str, str] = {}
    servers: list[asyncio.Server] = []
    logs: list[ModelLog] = []
    readiness = Readiness(readiness_file)
    usage = Usage(scenario, readiness.ready, time.monotonic)
    for task, replica in scenario.replicas():
        log = ModelLog(logs_folder, task, replica)
        model = Model(
            Behaviour(task, replica, scenario.seed),
            partial(readiness.ready, replica.name),
            usage.of(replica.name),
            log,
        )
        server = await loop.create_server(partial(ReplicaProtocol, model), "127.0.0.1", 0)
        servers.append(server)
        logs.append(log)
        ip, port = server.sockets[0].getsockname()[:2]
        addresses[replica.name] = f"{ip}:{port}"
        log.started(addresses[replica.name])
    return Serving(tuple(servers), tuple(logs), addresses, usage)


async def serve(scenario: Scenario, files: Files, stop: asyncio.Event) -> None:
    """Serve every replica, and what they use, on free loopback ports until `stop` is set."""
    serving = await listen(scenario, files.readiness, files.logs)
    _write(files.usage, serving.usage.serve())
    _write(files.addresses, json.dumps(serving.addresses, indent=1))
    await stop.wait()
    serving.close()


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".part")
    draft.write_text(text)
    draft.replace(path)


async def _main(scenario: Scenario, files: Files) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    await serve(scenario, files, stop)


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit("usage: python -m tidegate.demo.upstreams SCENARIO ADDRESSES READINESS USAGE LOGS")
    asyncio.run(_main(Scenario.read(Path(sys.argv[1])), Files(*map(Path, sys.argv[2:]))))
