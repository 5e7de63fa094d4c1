"""`tidegate ui` as its users have it: a process, asked over HTTP."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.commands import with_settings
from tests.support.waiting import until
from tidegate.schemas.settings import Elasticsearch, Kafka
from tidegate.stack.processes import clean_environment

_OPEN = re.compile(r"open (http://[^ ]+)/ \(rows from (\w+) at")


@dataclass
class UiServer:
    """One that runs."""

    url: str
    source: str
    process: subprocess.Popen[str]
    reported: list[str]
    """What it has printed, line by line."""

    def get(self, path: str, code: int = 200, **parameters: Any) -> Any:
        """What an address below /api answers."""
        answer = httpx.get(f"{self.url}/api/{path}", params=parameters, timeout=30)
        assert answer.status_code == code, answer.text
        return answer.json()

    def end(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(30)


@contextmanager
def ui_serving(kafka: Kafka, elasticsearch: Elasticsearch, *options: str) -> Iterator[UiServer]:
    """Runs it on a free port of loopback."""
    given = {
        "kafka.bootstrap_servers": kafka.bootstrap_servers,
        "kafka.topic_prefix": kafka.topic_prefix,
        "elasticsearch.url": elasticsearch.url,
        "elasticsearch.index_prefix": elasticsearch.index_prefix,
    }
    process = subprocess.Popen(
        [*with_settings(given), "ui", "--port", "0", *options],
        env=clean_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    reported: list[str] = []

    reader = threading.Thread(target=_lines, args=(process, reported), daemon=True)
    reader.start()
    try:
        until(lambda: process.poll() is not None or any(map(_OPEN.match, reported)), "tidegate ui serves")
        found = next((match for line in reported if (match := _OPEN.match(line))), None)
        assert found is not None, "".join(reported)
        yield UiServer(found[1], found[2], process, reported)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
        reader.join(10)


def _lines(process: subprocess.Popen[str], reported: list[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        reported.append(line)
