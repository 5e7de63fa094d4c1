"""A fault injector on loopback: stands in front of a real HTTP server, and treats each request as a test's rule says.

A rule is a function of one request and of the way to the server behind. Passed: the server's answer. Delayed: the same,
later. Refused: an answer of its own. Cut: None, the connection breaks; the server has the request if the rule passed
it on before. Changed: the rule passes on another request than the one that came.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_OF_REQUESTS = ("content-type", "accept", "authorization")
_OF_ANSWERS = ("content-type", "retry-after", "x-elastic-product")
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Request:
    """A request as it came. path: with its query. headers: those that are passed on."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """An answer as it goes to the client."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Forward = Callable[[Request], Answer]
Rule = Callable[[Request, Forward], Answer | None]


def json_answer(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(
        status, json.dumps(content).encode(), {**(headers or {}), "content-type": "application/json"}
    )


@contextmanager
def fault_proxy(target: str, rule: Rule, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A proxy in front of this URL, on a free port of loopback; yields its own URL. context: for a target with TLS."""
    behind = urlsplit(target)

    def forward(request: Request) -> Answer:
        connection = (
            http.client.HTTPSConnection(
                behind.hostname or "", behind.port, timeout=_TIMEOUT_SECONDS, context=context
            )
            if behind.scheme == "https"
            else http.client.HTTPConnection(behind.hostname or "", behind.port, timeout=_TIMEOUT_SECONDS)
        )
        with closing(connection):
            connection.request(request.method, request.path, request.body or None, dict(request.headers))
            response = connection.getresponse()
            return Answer(response.status, response.read(), _kept(response.headers, _OF_ANSWERS))

    class Handler(_Handler):
        def answer(self, request: Request) -> Answer | None:
            return rule(request, forward)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self, request: Request) -> Answer | None:
        raise NotImplementedError

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = self.answer(Request(self.command, self.path, _kept(self.headers, _OF_REQUESTS), body))
        if answer is None:
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815 (http.server's names)


def _kept(headers: Message, names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name in names if (value := headers.get(name))}
