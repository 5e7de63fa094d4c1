"""A fault injector: stands in front of the real Kubernetes API, and spoils writes as a test asks."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import yaml

from tidegate.schemas.settings.limits import Kubernetes

Fault = Literal["none", "429", "500", "503-page", "silent", "closed", "answer-lost", "not-json", "held"]
_PASSED_ON = ("content-type", "retry-after")


@dataclass
class KubernetesProxy:
    """Passes requests on; writes are spoiled by `fault` while that is set. settings: how clients come here.

    429: with Retry-After 7. 500: with a Status. 503-page: a load balancer's page. silent: no answer until `fault` is
    another. closed: every connection breaks at once, also of reads. answer-lost: it is written, and the connection
    breaks before the answer. not-json: a 200 with a page. held: passed on when `fault` is another.
    """

    target: str
    context: ssl.SSLContext
    settings: Kubernetes
    fault: Fault = "none"
    writes: list[str] = field(default_factory=list)
    """The paths of all writes that came, with their queries."""


@contextmanager
def proxy_to(kubeconfig: Path, folder: Path, request_timeout_seconds: float = 5) -> Iterator[KubernetesProxy]:
    """A proxy in front of this kubeconfig's API server, on a free port of loopback."""
    content = yaml.safe_load(kubeconfig.read_text())
    cluster = content["clusters"][0]["cluster"]
    context = ssl.create_default_context()
    if authority := cluster.get("certificate-authority"):
        context.load_verify_locations(authority)
    if authority := cluster.get("certificate-authority-data"):
        context.load_verify_locations(cadata=base64.b64decode(authority).decode())
    user = content["users"][0]["user"]
    if "client-certificate-data" in user:
        pem = folder / f"{uuid.uuid4().hex}.pem"
        parts = (user.pop("client-certificate-data"), user.pop("client-key-data"))
        pem.write_bytes(b"\n".join(base64.b64decode(part) for part in parts))
        context.load_cert_chain(pem)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    target = cluster["server"]

    class Handler(_Handler):
        pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    content["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
    path = folder / f"{uuid.uuid4().hex}.kubeconfig"
    path.write_text(json.dumps(content))
    settings = Kubernetes(kubeconfig=path, request_timeout_seconds=request_timeout_seconds)
    proxy = KubernetesProxy(target, context, settings)
    Handler.state = proxy
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.fault = "none"
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: KubernetesProxy

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fault = self.state.fault
        is_write = self.command != "GET"
        if is_write:
            self.state.writes.append(self.path)
        while is_write and fault == self.state.fault == "held":
            time.sleep(0.05)
        if fault == "closed" or (is_write and fault in ("answer-lost", "silent")):
            if fault == "answer-lost":
                self._forward(body)
            while fault == self.state.fault == "silent":
                time.sleep(0.05)
            self.close_connection = True
            self.connection.close()
            return
        if is_write and fault == "429":
            self._status(429, "TooManyRequests", {"retry-after": "7"})
        elif is_write and fault == "500":
            self._status(500, "InternalError", {})
        elif is_write and fault == "503-page":
            self._answer(503, {"content-type": "text/html"}, b"<html>no healthy upstream</html>")
        elif is_write and fault == "not-json":
            self._answer(200, {"content-type": "text/html"}, b"<html>welcome</html>")
        else:
            self._answer(*self._forward(body))

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815 (http.server's names)

    def _status(self, code: int, reason: str, headers: dict[str, str]) -> None:
        status = {
            "kind": "Status",
            "status": "Failure",
            "code": code,
            "reason": reason,
            "message": "injected",
        }
        self._answer(code, headers | {"content-type": "application/json"}, json.dumps(status).encode())

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        target = urlsplit(self.state.target)
        connection = http.client.HTTPSConnection(
            target.hostname or "", target.port, timeout=60, context=self.state.context
        )
        try:
            names = ("content-type", "accept", "authorization")
            headers = {name: value for name in names if (value := self.headers.get(name))}
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
        self.wfile.write(body)
