"""The fault proxy in front of the real Elasticsearch: spoils bulk requests as a test asks."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.support.fault_proxy import Answer, Forward, Request, fault_proxy, json_answer

Fault = Literal["none", "429", "503", "half-429", "413-over-one", "answer-lost", "closed"]
_PRODUCT = {"x-elastic-product": "Elasticsearch"}


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

    def answer(self, request: Request, forward: Forward) -> Answer | None:
        """The proxy's rule."""
        fault = self.fault
        is_bulk = "/_bulk" in request.path
        if is_bulk:
            self.count(spoiled=False)
        if fault == "closed" or (is_bulk and fault == "answer-lost"):
            if fault == "answer-lost":
                forward(request)
            self.count(spoiled=True)
            return None
        spoiled = _spoiled(fault, request, forward) if is_bulk else None
        if spoiled is not None:
            self.count(spoiled=True)
            return spoiled
        if self.lifecycle is not None and "/_ilm/" in request.path:
            if request.method == "PUT":
                self.lifecycle[request.path.rpartition("/")[2]] = json.loads(request.body)
            return json_answer(200, {"operation_mode": "RUNNING", "acknowledged": True}, _PRODUCT)
        if self.lifecycle is not None and request.method == "PUT" and "/_index_template/" in request.path:
            request = self._without_lifecycle(request)
        return forward(request)

    def _without_lifecycle(self, request: Request) -> Request:
        """The template as the server behind can take it; what was asked for is kept for the test."""
        template = json.loads(request.body)
        index = template["template"]["settings"]["index"]
        if "lifecycle" in index:
            self.with_lifecycle[request.path.rpartition("/")[2].partition("?")[0]] = index.pop("lifecycle")
        return dataclasses.replace(request, body=json.dumps(template).encode())


@contextmanager
def proxy_to(target: str) -> Iterator[ElasticsearchProxy]:
    """A proxy in front of this Elasticsearch."""
    proxy = ElasticsearchProxy()
    with fault_proxy(target, proxy.answer) as proxy.url:
        yield proxy


def _spoiled(fault: Fault, request: Request, forward: Forward) -> Answer | None:
    """A bulk's answer under this fault; None where the fault doesn't concern it."""
    lines = request.body.splitlines()
    documents = list(zip(lines[::2], lines[1::2], strict=True))
    if fault in {"429", "503"}:
        return _refusal(int(fault), "es_rejected_execution_exception")
    if fault == "413-over-one" and len(documents) > 1:
        return _refusal(413, "content_too_long")
    if fault == "half-429" and len(documents) > 1:
        kept = b"".join(b"%s\n%s\n" % pair for pair in documents[::2])
        answer = forward(dataclasses.replace(request, body=kept))
        passed = iter(json.loads(answer.body)["items"])
        error = {"type": "es_rejected_execution_exception", "reason": "injected"}
        busy = {"index": {"status": 429, "error": error}}
        items = [busy if number % 2 else next(passed) for number in range(len(documents))]
        return dataclasses.replace(answer, body=json.dumps({"items": items}).encode())
    return None


def _refusal(status: int, kind: str) -> Answer:
    return json_answer(status, {"error": {"type": kind, "reason": "injected"}, "status": status}, _PRODUCT)
