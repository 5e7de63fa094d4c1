"""How a container's health is reported: by an address that answers, or by a file that a role touches while it works."""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose import ROOT
from tidegate.adapters import heartbeat as alive_files
from tidegate.cli.stopping import stopping


def problem(environment: Mapping[str, str]) -> str | None:
    spec = importlib.util.spec_from_file_location("healthy", ROOT / "docker" / "healthy.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: str | None = module.problem(environment)
    return found


class _Here(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == f"/managers/{socket.gethostname()}" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Here)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address_that_answers_is_well_and_one_that_does_not_is_not(address: str) -> None:
    assert problem({"TIDEGATE_HEALTH_URL": f"{address}/managers/{{hostname}}"}) is None
    assert "404" in (problem({"TIDEGATE_HEALTH_URL": f"{address}/managers/other"}) or "")
    assert "refused" in (problem({"TIDEGATE_HEALTH_URL": "http://127.0.0.1:1/"}) or "")


def test_a_role_is_well_while_its_file_is_fresh(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    environment = {"TIDEGATE_ALIVE_FILE": str(alive)}
    assert "hasn't begun" in (problem(environment) or "")
    alive.touch()
    assert problem(environment) is None
    long_ago = time.time() - 100
    os.utime(alive, (long_ago, long_ago))
    assert "not touched for 100 s, more than 90" in (problem(environment) or "")
    assert problem(environment | {"TIDEGATE_ALIVE_SECONDS": "200"}) is None


def test_who_says_neither_is_not_well() -> None:
    assert problem({}) == "neither TIDEGATE_HEALTH_URL nor TIDEGATE_ALIVE_FILE is set"


def test_a_command_touches_the_file_whenever_it_asks_whether_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive = tmp_path / "alive"
    monkeypatch.setenv(alive_files.VARIABLE, str(alive))
    with stopping() as received:
        assert not alive.exists()
        assert not received.stop.is_set()
        assert alive.exists()
    alive.unlink()
    with stopping() as received:
        assert not received.stop.wait(0)
        assert alive.exists()
        received.stop.set()
        assert received.stop.wait(0)


def test_without_the_variable_nothing_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(alive_files.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with stopping() as received:
        assert not received.stop.is_set()
    assert list(tmp_path.iterdir()) == []
