"""A replica's side of HTTP/1.1: one request at a time, with or without a body, and nothing that isn't HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tidegate.demo.envoy_config import READY_PATH
from tidegate.demo.model_log import ModelLog
from tidegate.demo.scenario import DEMO, Stream
from tidegate.demo.upstreams import Answer, Behaviour, Model, ReplicaProtocol
from tidegate.demo.usage import Use

TASK, REPLICA = next(iter(DEMO.replicas()))
Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Immediately(Behaviour):
    """Answers 200 with three bytes at once."""

    def answer(self, now: float) -> Answer:
        return Answer(0, 200, 3)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    behaviour = Immediately(TASK, REPLICA, 1)
    return Model(behaviour, lambda: True, Use(), ModelLog(tmp_path, TASK, REPLICA))


def talk(model: Model, client: Client) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(partial(ReplicaProtocol, model), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        await client(reader, writer)
        writer.close()
        server.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /v1 HTTP/1.1\r\nhost: a\r\nContent-Length: 12\r\n\r\n............",
        b"GET /v1 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /v1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n..\r\n0\r\n\r\n",
    ],
)
def test_each_request_is_answered_and_its_bytes_are_counted(model: Model, request_bytes: bytes) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in request_bytes:
            writer.write(bytes([byte]))
        writer.write(request_bytes)  # the next one before the first has its answer
        for _ in range(2):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"content-length: 3\r\n" in head.lower()
            assert await reader.readexactly(3) == b"..."

    talk(model, client)
    assert model.use.received_bytes == 2 * len(request_bytes)
    assert model.use.sent_bytes == 2 * 3
    assert model.use.in_flight == 0


def test_readiness_is_no_work(model: Model) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"GET {READY_PATH} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")

    talk(model, client)
    assert model.use == Use()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        b"EHLO mail\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000,
    ],
)
def test_what_is_not_http_ends_the_connection(model: Model, request_bytes: bytes) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request_bytes)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""

    talk(model, client)
    assert model.use == Use()


class Streaming(Behaviour):
    """Answers with three tokens, one right after the other."""

    def answer(self, now: float) -> Answer:
        return Answer(0, 200, 3, stream=Stream("tiny", output_tokens=3, token_ms=0), tokens=3)


def test_a_stream_comes_token_by_token_and_ends_with_the_number_of_its_tokens(tmp_path: Path) -> None:
    model = Model(Streaming(TASK, REPLICA, 1), lambda: True, Use(), ModelLog(tmp_path, TASK, REPLICA))

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):  # the connection stays usable
            writer.write(b"POST /v1 HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n........")
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b"x-model: tiny\r\n" in head
            assert int(head.split(b"x-input-tokens: ")[1].split(b"\r\n")[0]) > 0
            body = await reader.readuntil(b"x-output-tokens: 3\r\n\r\n")
            assert body.count(b"data: ") == 3

    talk(model, client)
    assert model.use.in_flight == 0


def test_a_client_that_closes_after_its_request_is_answered_first(model: Model) -> None:
    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"GET /v1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n...")

    talk(model, client)
