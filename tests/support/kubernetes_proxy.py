"""The fault proxy in front of the real Kubernetes API: spoils writes as a test asks."""

from __future__ import annotations

import base64
import json
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from tests.support.fault_proxy import Answer, Forward, Request, fault_proxy, json_answer
from tidegate.schemas.settings.limits import Kubernetes

Fault = Literal["none", "429", "500", "503-page", "silent", "closed", "answer-lost", "not-json", "held"]
_PAGE = {"content-type": "text/html"}


@dataclass
class KubernetesProxy:
    """Passes requests on; writes are spoiled by `fault` while that is set. settings: how clients come here.

    429: with Retry-After 7. 500: with a Status. 503-page: a load balancer's page. silent: no answer until `fault` is
    another. closed: every connection breaks at once, also of reads. answer-lost: it is written, and the connection
    breaks before the answer. not-json: a 200 with a page. held: passed on when `fault` is another.
    """

    settings: Kubernetes = field(default_factory=Kubernetes)
    fault: Fault = "none"
    writes: list[str] = field(default_factory=list)
    """The paths of all writes that came, with their queries."""

    def answer(self, request: Request, forward: Forward) -> Answer | None:  # noqa: PLR0911 (one for each fault)
        """The proxy's rule."""
        fault = self.fault
        if request.method == "GET":
            return None if fault == "closed" else forward(request)
        self.writes.append(request.path)
        while fault == self.fault and fault in ("held", "silent"):
            time.sleep(0.05)
        match fault:
            case "closed" | "silent":
                return None
            case "answer-lost":
                forward(request)
                return None
            case "429":
                return _status(429, "TooManyRequests", {"retry-after": "7"})
            case "500":
                return _status(500, "InternalError")
            case "503-page":
                return Answer(503, b"<html>no healthy upstream</html>", _PAGE)
            case "not-json":
                return Answer(200, b"<html>welcome</html>", _PAGE)
        return forward(request)


@contextmanager
def proxy_to(kubeconfig: Path, folder: Path, request_timeout_seconds: float = 5) -> Iterator[KubernetesProxy]:
    """A proxy in front of this kubeconfig's API server, for clients with its settings."""
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
    proxy = KubernetesProxy()
    with fault_proxy(cluster["server"], proxy.answer, context) as url:
        content["clusters"][0]["cluster"] = {"server": url}
        path = folder / f"{uuid.uuid4().hex}.kubeconfig"
        path.write_text(json.dumps(content))
        proxy.settings = Kubernetes(kubeconfig=path, request_timeout_seconds=request_timeout_seconds)
        try:
            yield proxy
        finally:
            proxy.fault = "none"


def _status(code: int, reason: str, headers: Mapping[str, str] | None = None) -> Answer:
    status = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "injected"}
    return json_answer(code, status, headers)
