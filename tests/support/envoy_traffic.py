"""Requests through a real Envoy that end in every way of `envoy_gateway`: the upstreams, and the clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import grpc.aio

from tests.support.envoy_gateway import ENDINGS, GRPC_SERVICE, Ending, Gateway, running_gateway

TOKENS = 3
_PAUSE_SECONDS = 0.002
_PIPELINED = 50
_LEAVES_AFTER_SECONDS = 0.02
_AT_ONCE = 60
_STATUSES = {"bad": b"400 Bad Request", "missing": b"404 Not Found", "busy": b"429 Too Many Requests"}
_GRPC_STATUSES = {
    "grpc-not-found": grpc.StatusCode.NOT_FOUND,
    "grpc-internal": grpc.StatusCode.INTERNAL,
    "grpc-unavailable": grpc.StatusCode.UNAVAILABLE,
    "grpc-cancelled": grpc.StatusCode.CANCELLED,
}


def requests_of(total: int) -> dict[str, int]:
    """About so many requests, by ending: at least two of each, and the rest by their shares."""
    shares = sum(ending.share for ending in ENDINGS)
    return {ending.name: max(2, round(total * ending.share / shares)) for ending in ENDINGS}


def lines_of_real_requests(folder: Path, wanted: Mapping[str, int]) -> list[bytes]:
    """The access log of so many requests of each ending, as Envoy wrote it."""
    return asyncio.run(_play(folder, wanted))


async def _play(folder: Path, wanted: Mapping[str, int]) -> list[bytes]:
    http = await asyncio.get_running_loop().create_server(_Model, "127.0.0.1", 0)
    models = grpc.aio.server()
    models.add_generic_rpc_handlers((_GrpcModels(),))
    grpc_port = models.add_insecure_port("127.0.0.1:0")
    await models.start()
    http_port = http.sockets[0].getsockname()[1]
    manager = running_gateway(folder, http_port, grpc_port)
    gateway = await asyncio.to_thread(manager.__enter__)
    try:
        async with _grpc_channel(gateway) as call:
            for ending in ENDINGS:
                await _send(ending, wanted[ending.name], gateway, call)
        await asyncio.to_thread(gateway.wait_for_lines, sum(wanted.values()))
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
        await models.stop(None)
        http.close()
    return gateway.log_file.read_bytes().splitlines()


# The upstreams


class _Model(asyncio.Protocol):
    """HTTP/1.1 to an upstream: one request at a time, without a body. The path decides how it ends."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(b"\r\n\r\n") or self._transport is None:
            return
        head, self._received = self._received, b""
        name = head.split(b" ", 2)[1][1:].decode()
        answer = self._answer(name, head)
        if answer:
            self._transport.write(answer)
        if name == "reset":
            self._transport.abort()
        elif name == "cut":
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._transport.close)
        elif name == "stream":
            self._token(self._transport, TOKENS)

    def _answer(self, name: str, head: bytes) -> bytes:
        if name in ("silent", "idle", "overlong", "left", "reset"):
            return b""
        if name == "websocket":
            return b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        if name in ("cut", "stalled", "left-stream"):
            return b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun"
        if name == "stream":
            return (
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
                b"x-model: tiny\r\nx-input-tokens: 7\r\ntrailer: x-output-tokens\r\n\r\n"
            )
        fails = name in ("failing", "retried") or (
            name == "flaky" and b"x-envoy-attempt-count: 1\r\n" in head
        )
        status = b"503 Service Unavailable" if fails else _STATUSES.get(name, b"200 OK")
        return b"HTTP/1.1 %s\r\ncontent-length: 2\r\n\r\nok" % status

    def _token(self, transport: asyncio.Transport, left: int) -> None:
        if left:
            transport.write(b"9\r\ndata: x\n\n\r\n")
            asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._token, transport, left - 1)
        else:
            transport.write(b"0\r\nx-output-tokens: %d\r\n\r\n" % TOKENS)


class _GrpcModels(grpc.GenericRpcHandler):  # type: ignore[misc]
    """One method for each ending."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        name = details.method.rsplit("/", 1)[1]

        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            if name in ("grpc-silent", "grpc-left"):
                await asyncio.sleep(30)
            if name in _GRPC_STATUSES:
                context.set_code(_GRPC_STATUSES[name])
            return b"answer"

        return grpc.unary_unary_rpc_method_handler(answer)


# The clients

Call = Callable[[Ending], Awaitable[None]]


@asynccontextmanager
async def _grpc_channel(gateway: Gateway) -> AsyncIterator[Call]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:

        async def call(ending: Ending) -> None:
            method = channel.unary_unary(f"/{GRPC_SERVICE}/{ending.name}")
            pending = method(b"request", metadata=(("taskid", ending.name),))
            if ending.name == "grpc-left":
                await asyncio.sleep(_LEAVES_AFTER_SECONDS)
                pending.cancel()
            with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
                await pending

        yield call


async def _send(ending: Ending, count: int, gateway: Gateway, call: Call) -> None:
    """So many requests of one ending, a number of them at once."""
    per_connection = _PIPELINED if ending.client == "pipelined" else 1
    sizes = [per_connection] * (count // per_connection)
    if count % per_connection:
        sizes.append(count % per_connection)
    left = iter(sizes)

    async def worker() -> None:
        for size in left:
            if ending.client == "grpc":
                await call(ending)
            else:
                await _connection(ending, gateway, size)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(_AT_ONCE, len(sizes))):
            group.create_task(worker())


async def _connection(ending: Ending, gateway: Gateway, count: int) -> None:
    port = gateway.tcp_ports.get(ending.name, gateway.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(_request(ending, last=number == count - 1) for number in range(count)))
    with suppress(ConnectionResetError, BrokenPipeError, asyncio.IncompleteReadError):
        if ending.client == "leaving":
            await asyncio.sleep(_LEAVES_AFTER_SECONDS)
        elif ending.client in ("websocket", "connect"):
            await reader.readuntil(b"\r\n\r\n")
        elif ending.client == "tcp":  # the proxy closes no connection by itself
            await reader.readuntil(b"\r\n\r\nok")
        else:
            await reader.read()
        writer.close()
        await writer.wait_closed()


def _request(ending: Ending, *, last: bool) -> bytes:
    target, method, connection = f"/{ending.name}", "GET", "close" if last else "keep-alive"
    if ending.client == "tcp":
        return b"GET /ok HTTP/1.1\r\nhost: tcp\r\nconnection: close\r\n\r\n"
    if ending.client == "connect":
        target, method = "models.example:443", "CONNECT"
    head = f"{method} {target} HTTP/1.1\r\nhost: models.example:443\r\ntaskid: {ending.name}\r\n"
    if ending.client == "websocket":
        return f"{head}connection: upgrade\r\nupgrade: websocket\r\n\r\n".encode()
    return f"{head}connection: {connection}\r\n\r\n".encode()
