"""OTLP logs over HTTP: POST /v1/logs; and /metrics, /healthz, /readyz."""

from __future__ import annotations

import zlib
from typing import Any

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tidegate.adapters.receiving.otlp import lines_of_request
from tidegate.adapters.receiving.sink import LineSink
from tidegate.schemas.settings.receiving import Receive

LOGS_PATH = "/v1/logs"
_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_RETRY = {"Retry-After": "5"}
_GZIP_WINDOW = 31


class InvalidRequest(Exception):
    """A request that is not valid OTLP. status: the HTTP status to answer with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def application(sink: LineSink, settings: Receive) -> Starlette:
    """The HTTP application."""

    async def logs(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > settings.max_request_bytes:
                return PlainTextResponse("the body is larger than receive.max_request_bytes", 413)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = request.headers.get("content-encoding", "").lower()
        try:
            message = parsed(bytes(body), kind, encoding, settings.max_request_bytes)
        except InvalidRequest as error:
            return PlainTextResponse(str(error), error.status)
        left = await run_in_threadpool(sink.deliver, lines_of_request(message), "otlp", lambda: True)
        if left:
            text = f"Kafka has not acknowledged {len(left)} lines; send the request again"
            return PlainTextResponse(text, 503, headers=_RETRY)
        answer = b"{}" if kind == _JSON else ExportLogsServiceResponse().SerializeToString()
        return Response(answer, media_type=kind)

    async def healthy(_: Request) -> Response:
        return PlainTextResponse("healthy\n")

    async def ready(_: Request) -> Response:
        if await run_in_threadpool(lambda: sink.ready):
            return PlainTextResponse("ready\n")
        return PlainTextResponse("Kafka doesn't answer\n", 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(sink.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route(LOGS_PATH, logs, methods=["POST"]),
            Route("/healthz", healthy),
            Route("/readyz", ready),
            Route("/metrics", metrics),
        ]
    )


def parsed(body: bytes, content_type: str, encoding: str, max_bytes: int) -> Any:
    """The request's message. Raises InvalidRequest."""
    if encoding not in ("", "identity", "gzip"):
        raise InvalidRequest(415, f"Content-Encoding {encoding!r} is not supported; send gzip or identity")
    if content_type not in (_PROTOBUF, _JSON):
        raise InvalidRequest(
            415, f"Content-Type {content_type!r} is not supported; send {_PROTOBUF} or {_JSON}"
        )
    if encoding == "gzip":
        body = _unpacked(body, max_bytes)
    request = ExportLogsServiceRequest()
    try:
        if content_type == _JSON:
            Parse(body, request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(body)
    except (DecodeError, ParseError, UnicodeDecodeError) as error:
        raise InvalidRequest(400, f"body: not a valid ExportLogsServiceRequest: {error}") from error
    return request


def _unpacked(body: bytes, max_bytes: int) -> bytes:
    stream = zlib.decompressobj(_GZIP_WINDOW)
    try:
        unpacked = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidRequest(400, f"body: not valid gzip: {error}") from error
    if len(unpacked) > max_bytes:
        raise InvalidRequest(413, "the body is larger than receive.max_request_bytes")
    return unpacked
