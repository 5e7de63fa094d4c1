"""A fault injector: stands in front of the real Elasticsearch, and spoils bulk requests as a test asks."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Fault = Literal["none", "429", "503", "half-429", "413-over-one", "answer-lost", "closed"]
_PASSED_ON = ("content-type", "x-elastic-product")


@dataclass
class ElasticsearchProxy:
    """Passes requests on, spoiled by `fault` while that is set; `url` is where clients go.

    429, 503: bulk requests are answered so, and nothing is written.
    half-429: every second document of a bulk is answered 429 and not written.
    413-over-one: a bulk of more than one document is too large.
    answer-lost: a bulk is written, and the connection breaks before its answer.
    closed: every connection breaks at once.
    lifecycle: where set, the server seems to have ILM, and its policies are put here.
    """

    target: str
    url: str = ""
    fault: Fault = "none"
    lifecycle: dict[str, Any] | None = None
    with_lifecycle: dict[str, Any] = field(default_factory=dict)
    """What a template said of ILM, by its name, while `lifecycle` is set."""
    bulks: int = 0
    """Bulk requests that came."""
    spoiled: int = 0
    """Those that met a fault."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_until_spoiled(self, count: int, timeout_seconds: float = 60) -> None:
        """Until so many bulk requests met a fault."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.spoiled >= count, timeout_seconds), self.spoiled

    def wait_until_seen(self, count: int, timeout_seconds: float = 60) -> None:
        """Until so many bulk requests came."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.bulks >= count, timeout_seconds), self.bulks

    def count(self, *, spoiled: bool) -> None:
        """One more bulk request came, or met a fault."""
        with self.changed:
            self.spoiled += spoiled
            self.bulks += not spoiled
            self.changed.notify_all()


@contextmanager
def proxy_to(target: str) -> Iterator[ElasticsearchProxy]:
    """A proxy in front of this Elasticsearch, on a free port of loopback."""
    proxy = ElasticsearchProxy(target)

    class Handler(_Handler):
        state = proxy

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ElasticsearchProxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self.state.fault
        is_bulk = "/_bulk" in self.path
        if is_bulk:
            self.state.count(spoiled=False)
        if fault == "closed" or (is_bulk and fault == "answer-lost"):
            if fault == "answer-lost":
                self._forward(body)
            self.state.count(spoiled=True)
            self.close_connection = True
            self.connection.close()
            return
        if is_bulk and fault != "none" and self._spoil(fault, body):
            self.state.count(spoiled=True)
            return
        if self.state.lifecycle is not None and "/_ilm/" in self.path:
            if self.command == "PUT":
                self.state.lifecycle[self.path.rpartition("/")[2]] = json.loads(body)
            headers = {"content-type": "application/json", "x-elastic-product": "Elasticsearch"}
            self._answer(200, headers, b'{"operation_mode":"RUNNING","acknowledged":true}')
            return
        if self.state.lifecycle is not None and self.command == "PUT" and "/_index_template/" in self.path:
            body = self._without_lifecycle(body)
        self._answer(*self._forward(body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 (http.server's names)

    def _without_lifecycle(self, body: bytes) -> bytes:
        """The template as the server behind can take it; what was asked for is kept for the test."""
        template = json.loads(body)
        index = template["template"]["settings"]["index"]
        if "lifecycle" in index:
            self.state.with_lifecycle[self.path.rpartition("/")[2].partition("?")[0]] = index.pop("lifecycle")
        return json.dumps(template).encode()

    def _spoil(self, fault: Fault, body: bytes) -> bool:
        documents = _documents(body)
        if fault in {"429", "503"}:
            self._refuse(int(fault), "es_rejected_execution_exception")
        elif fault == "413-over-one" and len(documents) > 1:
            self._refuse(413, "content_too_long")
        elif fault == "half-429" and len(documents) > 1:
            self._half(documents)
        else:
            return False
        return True

    def _half(self, documents: list[tuple[bytes, bytes]]) -> None:
        kept = documents[::2]
        status, headers, answer = self._forward(b"".join(b"%s\n%s\n" % pair for pair in kept))
        passed = iter(json.loads(answer)["items"])
        error = {"type": "es_rejected_execution_exception", "reason": "injected"}
        busy = {"index": {"status": 429, "error": error}}
        items = [busy if number % 2 else next(passed) for number in range(len(documents))]
        self._answer(status, headers, json.dumps({"items": items}).encode())

    def _refuse(self, status: int, kind: str) -> None:
        headers = {"content-type": "application/json", "x-elastic-product": "Elasticsearch"}
        error = {"error": {"type": kind, "reason": "injected"}, "status": status}
        self._answer(status, headers, json.dumps(error).encode())

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        target = urlsplit(self.state.target)
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        try:
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() in {"content-type", "accept", "authorization"}
            }
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            kept = {name: value for name in _PASSED_ON if (value := response.headers.get(name))}
            return response.status, kept, response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _documents(body: bytes) -> list[tuple[bytes, bytes]]:
    lines = body.splitlines()
    return list(zip(lines[::2], lines[1::2], strict=True))
