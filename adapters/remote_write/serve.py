"""The remote-write receiver over HTTP: POST /api/v1/write, /metrics, /-/healthy and /-/ready."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tidegate.adapters.remote_write.receiver import Receiver
from tidegate.schemas.settings import Settings
from tidegate.schemas.settings.signals import RemoteWrite

WRITE_PATH = "/api/v1/write"
_KEEP_ALIVE_SECONDS = 120


def application(receiver: Receiver, settings: RemoteWrite) -> Starlette:
    """The HTTP application of a receiver."""

    async def write(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > settings.max_body_bytes:
                return PlainTextResponse(
                    "the body is larger than remote_write.max_body_bytes", status_code=413
                )
        headers = request.headers
        answer = await run_in_threadpool(
            receiver.receive,
            bytes(body),
            headers.get("content-type", ""),
            headers.get("content-encoding", ""),
        )
        return PlainTextResponse(answer.text, status_code=answer.status, headers=dict(answer.headers))

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("healthy\n")

    async def ready(_: Request) -> Response:
        if await run_in_threadpool(lambda: receiver.ready):
            return PlainTextResponse("ready\n")
        return PlainTextResponse("Kafka doesn't answer\n", status_code=503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(receiver.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route(WRITE_PATH, write, methods=["POST"]),
            Route("/-/healthy", healthy),
            Route("/-/ready", ready),
            Route("/metrics", metrics),
        ]
    )


def serve(settings: Settings, on_address: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, which are then raised again for the caller's handlers.

    on_address: gets the address, once the server listens on it.

    Raises KafkaUnavailable and KafkaException without Kafka, OSError for an address that is not available.
    """
    own = settings.remote_write
    receiver = Receiver(settings)
    try:
        config = uvicorn.Config(
            application(receiver, own),
            log_config=None,
            access_log=False,
            # Longer than usual scrape intervals: a connection that closes just as Prometheus writes costs a retry.
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=round(own.timeout_seconds) + 2,
        )
        with socket.create_server((own.host, own.port)) as listener:
            host, port = listener.getsockname()[:2]
            on_address(f"http://{host}:{port}{WRITE_PATH}")
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        receiver.close()
