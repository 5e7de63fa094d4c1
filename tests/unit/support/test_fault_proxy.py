"""The fault proxy and Elasticsearch's faults, in front of a server that keeps what comes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import RemoteDisconnected
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.support.elasticsearch_proxy import Fault, proxy_to

BULK = b'{"index":{"_id":"a"}}\n{"n":1}\n{"index":{"_id":"b"}}\n{"n":2}\n'


@dataclass
class Behind:
    """An index that takes every document."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)


@pytest.fixture
def behind() -> Iterator[Behind]:
    here = Behind()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            here.bodies.append(body)
            items = [{"index": {"status": 201}} for _ in body.splitlines()[::2]]
            answer = json.dumps({"items": items}).encode()
            self.send_response(200)
            self.send_header("x-elastic-product", "Elasticsearch")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield here
    server.shutdown()
    server.server_close()


def send(behind: Behind, fault: Fault) -> tuple[int, list[int]]:
    """The status of a bulk under this fault, and those of its documents."""
    with proxy_to(behind.url) as proxy:
        proxy.fault = fault
        try:
            with urlopen(Request(f"{proxy.url}/_bulk", BULK, method="POST")) as answer:  # noqa: S310 (loopback)
                assert answer.headers["x-elastic-product"] == "Elasticsearch"
                items = json.loads(answer.read())["items"]
                status = answer.status
        except HTTPError as error:
            status, items = error.code, []
        assert (proxy.bulks, proxy.spoiled) == (1, int(fault != "none"))
    return status, [item["index"]["status"] for item in items]


def test_without_a_fault_a_request_is_passed_on_whole(behind: Behind) -> None:
    assert send(behind, "none") == (200, [201, 201])
    assert behind.bodies == [BULK]


@pytest.mark.parametrize(("fault", "status"), [("429", 429), ("503", 503), ("413-over-one", 413)])
def test_a_refused_bulk_never_reaches_the_server(behind: Behind, fault: Fault, status: int) -> None:
    assert send(behind, fault) == (status, [])
    assert behind.bodies == []


def test_half_of_a_bulk_is_refused_and_not_written(behind: Behind) -> None:
    assert send(behind, "half-429") == (200, [201, 429])
    assert behind.bodies == [b'{"index":{"_id":"a"}}\n{"n":1}\n']


@pytest.mark.parametrize(("fault", "written"), [("closed", []), ("answer-lost", [BULK])])
def test_a_connection_is_cut_before_or_after_the_server(
    behind: Behind, fault: Fault, written: list[bytes]
) -> None:
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        send(behind, fault)
    assert behind.bodies == written
